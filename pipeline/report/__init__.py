"""The report of a run: one HTML file that needs nothing but a browser.

It is drawn from the run's `report.json` and small files in the store, never from TFRecords, and
holds everything it shows: no script, no font, no picture comes from elsewhere. matplotlib
is imported nowhere else in the pipeline.
"""

from __future__ import annotations

from pathlib import Path

from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store

FILE, OVERVIEW = "report.html", "overview.html"


def write_report(store: Store, run: RunFolder, path: Path | None = None) -> Path:
    """Draw a run's report, by default into its folder.

    Drawing a run twice gives the same bytes.

    Returns:
        the file.

    Raises:
        ConfigError: the run is still at work, or the file cannot be written.
    """
    from bnpipe.data.durable import replace_text
    from bnpipe.pipeline.report.contents import gather
    from bnpipe.pipeline.report.page import render

    path, page = path or run.path / FILE, render(gather(store, run))
    try:
        replace_text(path, page)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}",
            hint=f"bnpipe report {run.id} --out FILE writes it elsewhere",
        ) from None
    return path
