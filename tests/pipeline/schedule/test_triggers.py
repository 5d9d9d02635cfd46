"""The triggers that are looked at without a child process."""

from pathlib import Path

import pytest

from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule.triggers import Triggers, new_spans


def test_no_new_span_says_among_how_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pattern that matches nothing is told from spans that were all judged."""
    (tmp_path / "spans" / "day-1").mkdir(parents=True)
    data = {"dataset": "rendered_digits", "spans": f"{tmp_path}/spans/{{SPAN}}-day"}
    config = from_values({"data": data, "schedule": {"triggers": ["new_span"]}})
    store = Store(tmp_path / "home")
    assert new_spans(config, store) == ([], 0)
    seen = Triggers(config, store, tmp_path / "served")._new_span()
    assert (seen.fired, seen.remark) == ("", "no new span among 0")
    assert "1 of the names in" in caplog.text
