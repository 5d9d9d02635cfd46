"""Charts and tables of the data: counts by split, the share of every class, its mean image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from bnpipe.data.statistics.summary import SplitSummary
from bnpipe.pipeline.report.charts import COLOURS, Chart, Table
from bnpipe.pipeline.report.contents import Contents
from bnpipe.pipeline.report.svg import draw, tick_names


def splits(contents: Contents) -> Table | None:
    """The main numbers of every split, and of what each source brought to it."""
    if not contents.statistics:
        return None
    rows = [
        (name, str(s.images), str(s.duplicates), str(s.constant), f"{s.mean_level:.2f}")
        for name, s in _with_parts(contents)
    ]
    return Table(("split", "images", "duplicates", "constant", "mean grey level"), rows)


def _with_parts(contents: Contents) -> Iterator[tuple[str, SplitSummary]]:
    """Every split by name, and behind it its parts."""
    for split, whole in contents.statistics.items():
        yield split, whole
        yield from ((n, part) for n, part in contents.parts.items() if n.startswith(f"{split}/"))


def spans(contents: Contents) -> Table | None:
    """The newer data that was added, by span; None when there is none."""
    counts = contents.dataset.get("spans")
    if not counts:
        return None
    kinds = ("train", "validation", "test", "bad_records")
    rows = [(span, *(str(of.get(kind, "")) for kind in kinds)) for span, of in counts.items()]
    return Table(("span", *(kind.replace("_", " ") for kind in kinds)), rows)


def classes(contents: Contents) -> Iterator[Chart]:
    """The share of every class in every split."""
    shares = {split: _shares(summary) for split, summary in contents.statistics.items()}
    if not shares:
        return
    names = [contents.class_name(k) for k in range(len(next(iter(shares.values()))))]

    def paint(axes: Axes) -> None:
        for offset, (split, share) in enumerate(shares.items()):
            y = np.arange(len(names)) + 0.2 * (offset - (len(shares) - 1) / 2)
            colour = COLOURS[offset % len(COLOURS)]
            axes.hlines(y, 0, 100 * share, color=colour, linewidth=2.4, label=split)
        tick_names(axes, "y", names)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("% of the split's images")
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)

    first = next(iter(shares.values()))
    alt = (
        f"Share of every class by split. In {next(iter(shares))}, {names[int(first.argmax())]} is "
        f"the largest class with {100 * first.max():.1f} %, {names[int(first.argmin())]} the "
        f"smallest with {100 * first.min():.1f} %."
    )
    rows = [
        (name, *(str(int(summary.classes[k])) for summary in contents.statistics.values()))
        for k, name in enumerate(names)
    ]
    svg = draw("classes", 0.9 + 0.28 * len(names), alt, paint)
    yield Chart("Classes by split", alt, svg, Table(("class", *shares), rows))


def _shares(summary: SplitSummary) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """float64[K] in [0, 1]: the share of every class."""
    return summary.classes / max(int(summary.classes.sum()), 1)
