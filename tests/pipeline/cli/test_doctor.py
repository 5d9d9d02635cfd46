"""`bnpipe doctor`: it speaks whatever is broken."""

import json
import sys
from pathlib import Path

import pytest

from bnpipe.pipeline import cli, doctor


@pytest.mark.parametrize(
    ("setting", "content", "name", "words"),
    [
        ("BNPIPE_CONFIG", "nope: {}", "configuration", "unknown config key nope"),
        (
            *("BNPIPE_CONFIG", "serving: {signing_key: none.pem}", "configuration"),
            "none.pem: expected a readable PEM file",
        ),
        ("BNPIPE_HOME", "99", "home", "store format '99'"),
    ],
)
def test_doctor_speaks_though_configuration_or_home_are_broken(
    setting: str,
    content: str,
    name: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "_WHOLE_TFMA", "")
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path))
    (tmp_path / "config.yaml").write_text("{}")
    monkeypatch.setenv("BNPIPE_CONFIG", str(tmp_path / "config.yaml"))
    file = "config.yaml" if setting == "BNPIPE_CONFIG" else "format"
    (tmp_path / file).write_text(content)
    assert cli._main(["doctor", "--json"]) == 1
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert not checks[name]["ok"] and words in checks[name]["sentence"]
    assert {"python", "disk", "TFMA is whole"} <= checks.keys()


def test_doctor_speaks_though_a_library_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bnpipe.pipeline.cli.app", None)
    for verb, code in (("doctor", 1), ("plan", 2)):
        monkeypatch.setattr(sys, "argv", ["bnpipe", verb])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].startswith("!!  bnpipe") and "ModuleNotFound" in told.out
    assert len(told.err.splitlines()) == 1 and told.err.endswith(" → bnpipe doctor\n")
