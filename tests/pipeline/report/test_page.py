"""The report page: what it shows, what it must never do, how it looks in a browser."""

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.lock import run_locks
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.report import write_report
from bnpipe.pipeline.report.evaluation import RunEvaluation
from tests.child import environment
from tests.pipeline.report.finished_run import NASTY, Home

_VOID = {"meta", "link", "img", "br", "path", "circle"}


class Page(HTMLParser):
    """The elements of a page, with the text inside each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.texts.setdefault(tag, []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> str:
        return "".join(self.texts.get(tag, []))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("report") / "home")


@pytest.fixture(scope="module")
def finished(home: Home) -> RunFolder:
    return home.finish("0001")


@pytest.fixture(scope="module")
def path(home: Home, finished: RunFolder) -> Path:
    return write_report(home.store, finished)


@pytest.fixture(scope="module")
def page(path: Path) -> Page:
    return Page(path.read_text())


def test_the_verdict_comes_first(page: Page, finished: RunFolder):
    sentence = finished.summary()["verdict"]["sentence"]
    assert page.text("h1").split() == ["✗", "Not", "blessed"]
    assert sentence.removeprefix("not blessed: ") in page.text("p")


def test_every_rule_is_shown_with_its_finding(page: Page, finished: RunFolder):
    evaluation = RunEvaluation.of(finished.report())
    assert evaluation is not None
    cells = page.text("td")
    for rule in evaluation.blessing["rules"]:
        assert rule["name"] in page.text("th")
        assert rule["sentence"] in cells
        assert str(rule["outcome"]) in cells


def test_the_data_gate_and_the_data_are_shown(page: Page):
    assert "the data passes" in page.text("p")
    assert "3 <twice>" in page.text("td")
    assert "Classes by split" in page.text("figcaption")
    assert "mean image of zero" in [a["alt"] for a in page.all("img")]


def test_labels_in_doubt_are_shown_with_their_record_and_what_they_seem_to_be(page: Page):
    assert "the labels pass" in page.text("p")
    assert "2 % of <train>" in page.text("td")
    assert "Labels in doubt, test split" in page.text("h3")
    assert "drawn/test/7" in [a["alt"] for a in page.all("img")]
    assert f"given {NASTY[0]}" in page.text("b")
    shown = page.text("span")
    assert "seems two (0.97)" in shown and "drawn/test/7" in shown


def test_how_the_model_was_tried_on_a_server_is_shown(page: Page):
    assert "not served: stand-in: 3 <rows> differ" in page.text("p")
    names = page.text("th")
    assert names.index("stand-in: warmup") < names.index("stand-in: predict over REST")
    assert "largest difference 0" in page.text("td")


def test_a_run_by_a_version_with_other_words_is_shown_in_the_words_of_now(
    tmp_path: Path, page: Page
):
    old = Home(tmp_path / "old")
    shown = Page(write_report(old.store, old.finish("0001", former=True)).read_text())
    told = [re.sub("[0-9a-f]{64}", "", p.text("td") + p.text("th")) for p in (shown, page)]
    assert told[0] == told[1]
    rows = {row["class"] for row in shown.all("tr") if "class" in row}
    assert rows == {"ok", "warn", "block", "unchecked"}


def test_what_the_gate_tolerates_and_how_few_images_tell_is_said(page: Page):
    assert "tolerates, 1 points overall and 2 on a slice" in page.text("p")
    assert re.search(r"0\.\d{4} \[0\.\d{4}, [\d.]+\] of \d+", page.text("td"))


def test_newer_data_is_shown_by_span(page: Page):
    names = page.text("th")
    assert "2026-01-02" in names
    assert "Spans" in page.text("h3")
    assert names.index("train/base") < names.index("train/span-2026-01-02")
    assert "test/base" not in names


def test_names_from_data_are_text(page: Page):
    assert not page.all("script")
    assert not [a for _, found in page.elements for a in found if a.startswith("on")]
    for name in NASTY[:3]:
        assert name in page.text("body"), name


def test_nothing_is_loaded_from_elsewhere(page: Page):
    policy = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    loaded = [found.get(a) for _, found in page.elements for a in ("src", "href", "xlink:href")]
    assert all(url.startswith(("data:", "#")) for url in loaded if url is not None)
    assert not re.search(r"url\((?!#)|@import", page.text("style"))


def test_ids_are_unique_and_every_anchor_leads_somewhere(page: Page):
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    anchors = {
        found["href"] for _, found in page.elements if str(found.get("href")).startswith("#")
    }
    assert {a[1:] for a in anchors} <= set(ids)


def test_every_picture_says_what_it_is(page: Page):
    charts = page.all("svg")
    assert len(charts) >= 9
    assert all(a.get("role") == "img" and len(a.get("aria-label") or "") > 20 for a in charts)
    described = [a["alt"] or "" for a in page.all("img")]
    assert sum(alt.startswith("drawn:1.0.0/test/") for alt in described) == 6
    assert all(described)
    assert len(page.all("details")) >= len(page.all("figure"))


def test_drawing_again_gives_the_same_bytes(home: Home, finished: RunFolder, path: Path):
    before = path.read_bytes()
    write_report(home.store, finished)
    assert path.read_bytes() == before


def test_a_run_without_an_evaluation_has_a_report(home: Home):
    page = Page(write_report(home.store, home.fail("0002")).read_text())
    assert page.text("h1").split() == ["✗", "Failed"]
    assert "no <space> left" in page.text("p")


def test_a_killed_run_has_a_report(home: Home):
    page = Page(write_report(home.store, home.fail("0003", "killed", None)).read_text())
    assert page.text("h1").split() == ["✗", "Killed"]


def test_a_run_at_work_has_none_yet(home: Home):
    run = home.fail("0004", "running", None)
    with run_locks(home.store.home) as locks:
        locks.begin(run.id)
        with pytest.raises(ConfigError, match="still at work"):
            write_report(home.store, run)


def test_what_was_collected_is_named(tmp_path: Path):
    home = Home(tmp_path / "home")
    run = home.finish("0001")
    shutil.rmtree(home.store.home / "objects")
    page = Page(write_report(home.store, run).read_text())
    assert "trainer.model" in page.text("p")
    assert page.text("h1").split() == ["✗", "Not", "blessed"]


def test_how_the_canary_did_is_shown_with_the_band_over_time(tmp_path: Path):
    home = Home(tmp_path)
    run = home.finish("0001")
    path = [
        {"seconds": 10.0, "pairs": 50, "difference": 0.0, "lower": -0.1, "upper": 0.1},
        {"seconds": 20.0, "pairs": 100, "difference": 0.01, "lower": -0.04, "upper": 0.06},
    ]
    soaked = {"verdict": "pass", "sentence": "+1.00 points <b>", "path": path, "margin": 0.05}
    (run.path / "canary.json").write_text(json.dumps({"soak": soaked, "bake": soaked}))
    text = write_report(home.store, run).read_text()
    assert "pass: +1.00 points &lt;b&gt;" in text
    assert "Canary beside the live version" in text and "beside the one before it" in text
    for number in ("20.0", "100", "0.06"):
        assert f">{number}" in text, number


def test_many_classes_and_one_epoch(tmp_path: Path):
    home = Home(tmp_path / "home")
    run = home.finish("0001", labels=tuple(f"class {i}" for i in range(45)), epochs=1)
    page = Page(write_report(home.store, run).read_text())
    assert "Accuracy by label, the 40 lowest of 45" in page.text("figcaption")


def test_drawing_needs_none_of_the_heavy_frameworks(home: Home, finished: RunFolder):
    code = (
        "import sys; from pathlib import Path; from bnpipe.pipeline.report import write_report; "
        "from bnpipe.pipeline.engine.runs import find_run; "
        "from bnpipe.pipeline.engine.store import Store; "
        "store = Store(Path(sys.argv[1])); write_report(store, find_run(store, sys.argv[2])); "
        "heavy = {'tensorflow', 'apache_beam', 'keras', 'matplotlib.pyplot'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, str(home.store.home), finished.id]
    told = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


# In a browser


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    return found


def _open(
    chromium: str, page: Path, profile: Path, *flags: str
) -> subprocess.CompletedProcess[str]:
    quiet = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
    offline = ("--disable-background-networking", "--disable-component-update")
    logging = ("--enable-logging=stderr", f"--user-data-dir={profile}", "--dump-dom")
    return subprocess.run(
        [chromium, "--headless", *quiet, *offline, *logging, *flags, page.as_uri()],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_browser_has_nothing_to_complain_about(chromium: str, path: Path, tmp_path: Path):
    opened = _open(chromium, path, tmp_path / "profile")
    assert "Not blessed" in opened.stdout
    assert not [line for line in opened.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_never_scrolls_sideways(chromium: str, path: Path, tmp_path: Path, width: int):
    # A frame, for a window cannot be as narrow as a phone; without the policy, which would forbid
    # the script that measures.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", path.read_text())
    text = html.escape(text.replace("<details>", "<details open>"))
    frame = f'<iframe id="frame" width="{width}" height="900" srcdoc="{text}"></iframe>'
    measure = "document.title = frame.contentDocument.documentElement.scrollWidth"
    outer = tmp_path / "frame.html"
    outer.write_text(f"{frame}<script>frame.onload = () => {{ {measure} }}</script>")
    opened = _open(chromium, outer, tmp_path / "profile")
    found = re.search(r"<title>(\d+)</title>", opened.stdout)
    assert found is not None
    assert 0 < int(found[1]) <= width
