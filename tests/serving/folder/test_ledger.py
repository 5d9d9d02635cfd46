"""The ledger survives killed writers, and refuses damage."""

import errno
import os
from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, standing, versions
from tests.serving.folder.served import push


def test_a_torn_last_line_of_the_ledger_is_passed_over(
    base: Path, model_a: Path, model_b: Path
) -> None:
    push(base, model_a)
    with (base / ledger.LEDGER).open("ab") as stream:
        stream.write(b'{"event": "reserved", "vers')
    assert versions.live(base) == 1
    assert push(base, model_b).version == 2
    assert versions.live(base) == 2


@pytest.mark.parametrize("line", ["{}", "[]", "null", "garbage", '{"event": "new", "version": 1}'])
def test_a_damaged_line_of_the_ledger_is_named(base: Path, model_a: Path, line: str) -> None:
    push(base, model_a)
    with (base / ledger.LEDGER).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ServingError, match=r"ledger.jsonl line 3: expected an event"):
        standing.state_of(base, "x")


def test_a_lost_ledger_is_refused_not_started_afresh(base: Path, model_a: Path) -> None:
    push(base, model_a)
    (base / ledger.LEDGER).unlink()
    with pytest.raises(ServingError, match=r"is missing.*restore it"):
        push(base, model_a)


def test_a_ledger_line_that_cannot_be_made_durable_is_taken_back(
    base: Path, model_a: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    push(base, model_a)
    before = (base / ledger.LEDGER).read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        ledger.append(base, "removed", 1)
    assert (base / ledger.LEDGER).read_bytes() == before
