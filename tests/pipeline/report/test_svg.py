"""Charts as inline SVG: the page's colours and ids, and names from data left as they are."""

import html
import re

import pytest
from matplotlib.axes import Axes

from bnpipe.pipeline.report.svg import draw, short_name, tick_names


def chart(names: list[str]) -> str:
    def paint(axes: Axes) -> None:
        axes.plot(range(len(names)), range(len(names)))
        tick_names(axes, "y", names)

    return str(draw("chart", 1.5, "names <by> data", paint))


def texts(svg: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


@pytest.mark.parametrize(
    "name", ["#010101", "'DejaVu Sans'", 'id="q', 'href="#q', "url(#q)", "<!-- q -->", "a>b", "$x$"]
)
def test_names_that_look_like_markup_are_shown_as_they_are(name: str):
    assert name in texts(chart(["plain", name]))


def test_drawings_use_the_colours_of_the_page():
    svg = chart(["a", "b"])
    assert "var(--ink)" in svg
    assert "#010101" not in svg


def test_ids_belong_to_the_chart_and_references_follow_them():
    svg = chart(["a", "b"])
    ids = set(re.findall(r'\bid="([^"]*)"', svg))
    assert ids
    assert all(found.startswith("chart-") for found in ids)
    assert set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg)) <= {
        pair for found in ids for pair in ((found, ""), ("", found))
    }


def test_the_alternative_text_is_escaped():
    assert 'aria-label="names &lt;by&gt; data"' in chart(["a"])


def test_long_names_and_control_characters():
    assert short_name("x" * 40) == "x" * 17 + "…"
    assert short_name("a\x00b") == "a\N{REPLACEMENT CHARACTER}b"
