"""The report of a run: one HTML file that needs nothing but a browser.

It is drawn from the run's `report.json` and small files in the store, never from TFRecords, and
holds everything it shows: no script, no font, no picture comes from elsewhere. matplotlib
is imported nowhere else in the pipeline.
"""

from __future__ import annotations

from pathlib import Path

from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store

FILE = "report.html"


def write_report(store: Store, run: RunFolder) -> Path:
    """Draw a run's report into its folder.

    Drawing a run twice gives the same bytes.

    Returns:
        the file.

    Raises:
        ConfigError: the run is still at work.
    """
    from bnpipe.data.durable import replace_text
    from bnpipe.pipeline.report.contents import gather
    from bnpipe.pipeline.report.page import render

    path = run.path / FILE
    replace_text(path, render(gather(store, run)))
    return path
