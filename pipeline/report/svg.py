"""matplotlib figures as inline SVG that follows the page's colours and fonts.

Figures are drawn in stand-in colours, which become CSS variables in the SVG: one drawing serves
light and dark. Text stays text, so it can be read aloud, searched and copied.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from typing import Any, Final

import matplotlib
import matplotlib.style
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK: Final = "#010101"
MUTED: Final = "#020202"
GRID: Final = "#030303"
CANDIDATE: Final = "#040404"
BASELINE: Final = "#050505"
CHAMPION: Final = "#060606"
BAD: Final = "#070707"

MODEL_COLOURS = {"candidate": CANDIDATE, "baseline": BASELINE, "champion": CHAMPION}
WIDTH = 4.1
"""Inches. A chart is as wide as a phone's screen, so that its text is not shrunk there."""
LONGEST_NAME = 18
"""Characters; longer names are cut in charts, never in tables."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    CANDIDATE: "--candidate",
    BASELINE: "--baseline",
    CHAMPION: "--champion",
    BAD: "--bad",
}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # dollar signs in names from data are no mathematics
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def draw(name: str, height: float, alt: str, paint: Callable[[Axes], None]) -> Markup:
    """Draw one chart.

    Args:
        name: unique on the page; a prefix of every id in the SVG.
        height: in inches.
        alt: what a screen reader says instead of the picture.
        paint: draws on the axes.
    """
    # "default" first: a user's matplotlibrc must not change the report.
    with matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": name}]):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        paint(axes)
        for background in (figure.patch, axes.patch):
            background.set_visible(False)
        buffer = io.StringIO()
        with warnings.catch_warnings():
            # The browser has its own fonts; what DejaVu lacks is no news.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            # Not by `savefig`, which draws everything twice.
            FigureCanvasSVG(figure).print_svg(buffer, metadata=_METADATA)
    return _inline(buffer.getvalue(), name, alt)


def short_name(name: str) -> str:
    """A name from data, short enough for a chart and without control characters."""
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return clean if len(clean) <= LONGEST_NAME else f"{clean[: LONGEST_NAME - 1]}…"


def tick_names(axes: Axes, axis: str, names: list[str], **options: Any) -> None:
    """Put names from data at 0, 1, 2, ... of an axis."""
    labels = [short_name(name) for name in names]
    getattr(axes, f"set_{axis}ticks")(range(len(labels)), labels, **options)


def _inline(svg: str, name: str, alt: str) -> Markup:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>|<!--.*?-->",
        "",
        svg,
        flags=re.S,
    )
    # Inside tags only: what stands between them are names from data, which stay as they are.
    svg = re.sub(r"<[^>]*>", lambda tag: _adapt(tag[0], name), svg)
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None, "matplotlib writes a viewBox"
    # The text comes from matplotlib, which escapes what it is given; the alt text does not.
    return Markup(f'<svg role="img" aria-label="{escape(alt)}" {box[0]}>{rest}')


def _adapt(tag: str, name: str) -> str:
    """A tag with ids of its own, the browser's font and the page's colours."""
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r'(href="|url\()#', rf"\1#{name}-", tag)
    tag = re.sub(r"'DejaVu Sans'[^;\"]*", "sans-serif", tag)
    for colour, variable in _VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag
