"""The text file for monitors, read back by Prometheus's own parser."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.estimates import Estimate
from bnpipe.pipeline.schedule.health import Health
from bnpipe.pipeline.schedule.metrics_file import write_metrics
from bnpipe.pipeline.schedule.outcome import Outcome, Result

NOW = datetime(2026, 11, 22, 3, 5, tzinfo=UTC)


def outcome(result: Result, hour: int) -> Outcome:
    at = f"2026-11-22T{hour:02d}:00:00Z"
    return Outcome(
        slot=at, attempt=1, result=result, reasons=(), sentence="", run=None, version=None,
        started=at, ended=at, exit_code=0,
    )  # fmt: skip


MODEL = 'a"b\\c\nd'
STATE = Health(
    attention=(), stale="v3 is old", next_slots=(NOW + timedelta(hours=1),), last=(), claims=(),
    working=False, served=(3, timedelta(days=2)), ticked=None,
)  # fmt: skip
SETTLED = [outcome(Result.PUSHED, 1), outcome(Result.FAILED, 2), outcome(Result.BLOCKED, 3)]


def read(path: Path) -> dict[tuple[str, str | None], float]:
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        for sample in family.samples:
            assert sample.labels["model"] == MODEL
            found[sample.name.removeprefix("bnpipe_"), sample.labels.get("result")] = sample.value
    return found


def test_monitors_read_how_things_stand(tmp_path: Path) -> None:
    write_metrics(tmp_path / "bnpipe.prom", MODEL, STATE, SETTLED, NOW)
    found = read(tmp_path / "bnpipe.prom")
    assert found["tick_timestamp_seconds", None] == NOW.timestamp()
    assert found["served_version", None] == 3
    assert found["served_model_stale", None] == 1
    assert found["slots_since_success", None] == 2
    assert found["last_success_timestamp_seconds", None] == NOW.timestamp() - 2 * 3600 - 300
    results = {result: value for (name, result), value in found.items() if name == "last_result"}
    assert results == {str(r): float(r is Result.BLOCKED) for r in Result}
    assert [p.name for p in tmp_path.iterdir()] == ["bnpipe.prom"]


def test_an_estimate_of_the_live_version_is_among_them(tmp_path: Path) -> None:
    estimate = Estimate("2026-11-22T03:00:00Z", 3, 2000, 0.972, 0.965, 0.978, True, "v3 is", "ab")
    state = replace(STATE, estimate=estimate)
    write_metrics(tmp_path / "bnpipe.prom", MODEL, state, SETTLED, NOW)
    found = {name: value for (name, _), value in read(tmp_path / "bnpipe.prom").items()}
    names = ("estimated_accuracy", "estimated_accuracy_low", "estimated_accuracy_high")
    assert [found[name] for name in names] == [0.972, 0.965, 0.978]
    assert found["answer_drift"] == 1
    assert found["estimate_timestamp_seconds"] == NOW.timestamp() - 300


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    nothing = replace(STATE, stale=None, next_slots=(), served=None)
    write_metrics(tmp_path / "bnpipe.prom", MODEL, nothing, [], NOW)
    names = {name for name, _ in read(tmp_path / "bnpipe.prom")}
    assert names == {"tick_timestamp_seconds", "served_model_stale", "slots_since_success"}


def test_a_file_that_no_collector_reads_or_none_that_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.prom"):
        write_metrics(tmp_path / "bnpipe.txt", MODEL, STATE, SETTLED, NOW)
    with pytest.raises(ConfigError, match="cannot write"):
        write_metrics(tmp_path / "missing" / "bnpipe.prom", MODEL, STATE, SETTLED, NOW)


def test_the_collector_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_metrics(tmp_path / "bnpipe.prom", MODEL, STATE, SETTLED, NOW)
    finally:
        os.umask(before)
    assert (tmp_path / "bnpipe.prom").stat().st_mode & 0o777 == 0o644


def test_a_file_that_somebody_else_wrote_stays(tmp_path: Path) -> None:
    other = "# HELP backup_age_seconds Of bnpipe's home.\nbackup_age_seconds 3\n"
    (tmp_path / "backup.prom").write_text(other)
    with pytest.raises(ConfigError, match=r"backup\.prom was not written by bnpipe"):
        write_metrics(tmp_path / "backup.prom", MODEL, STATE, SETTLED, NOW)
    assert (tmp_path / "backup.prom").read_text() == other
