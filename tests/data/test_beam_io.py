"""Beam pipelines: the local default, and the flags behind `--`."""

import os
import re
import sys
from pathlib import Path

import pytest

from bnpipe.data.beam_io import BeamFlagError, check_flags, pipeline


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--runner=DirectRunner"],
        ["--runner", "SwitchingDirectRunner"],
        ["--runner=direct"],  # Beam takes it for DirectRunner
        ["--runner=apache_beam.runners.direct.direct_runner.BundleBasedDirectRunner"],
    ],
)
def test_local_means_in_this_process(flags: list[str]) -> None:
    from apache_beam.options.pipeline_options import StandardOptions

    with pipeline(flags) as p:
        assert p.options.view_as(StandardOptions).runner == "FnApiRunner"
        assert type(p.runner).__name__ == "FnApiRunner"


def test_a_pipeline_runs_without_flags() -> None:
    import apache_beam as beam
    from apache_beam.testing.util import assert_that, equal_to

    with pipeline([]) as p:
        assert_that(p | beam.Create([1, 2]) | beam.Map(lambda x: x + 1), equal_to([2, 3]))


def test_an_unknown_flag_gets_a_near_miss() -> None:
    with pytest.raises(BeamFlagError, match=r"received --direct_num_worker; did you mean --direct"):
        check_flags(["--direct_num_worker=2"])
    with pytest.raises(BeamFlagError, match="received stray"):
        check_flags(["stray"])


def test_a_wrong_value_is_one_line() -> None:
    with pytest.raises(BeamFlagError, match="invalid int value: 'two'"):
        check_flags(["--direct_num_workers=two"])


@pytest.mark.parametrize(
    ("runner", "complaint"),
    [
        ("Nope", "received Nope; leave it out"),
        ("FlinkRuner", r"received FlinkRuner; did you mean --runner=FlinkRunner\?"),
        ("no.such.Runner", "no.such.Runner cannot be imported: No module named 'no'"),
        ("apache_beam.runners.Nope", "cannot be imported: module .* has no attribute 'Nope'"),
    ],
)
def test_a_runner_that_does_not_exist_is_refused(runner: str, complaint: str) -> None:
    with pytest.raises(BeamFlagError, match=complaint) as caught:
        check_flags([f"--runner={runner}"])
    assert "\n" not in str(caught.value)


def test_known_local_flags_are_kept() -> None:
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    assert check_flags(flags) == [*flags, "--runner=FnApiRunner"]


def test_remote_workers_get_the_project_unless_they_have_it() -> None:
    remote = ["--runner=FlinkRunner", "--job_endpoint=host:8099", "--option_of_the_job_server=1"]
    assert check_flags(remote)[-1].startswith("--setup_file=")
    assert check_flags(remote)[-1].endswith("/setup.py")
    for own in ("--sdk_container_image=bnpipe:1", "--environment_type=EXTERNAL"):
        assert check_flags([*remote, own]) == [*remote, own]


@pytest.mark.parametrize("runner", ["FlinkRunner", "flink", "SparkRunner", "PrismRunner"])
def test_nothing_is_downloaded_when_it_runs(runner: str, tmp_path: Path) -> None:
    flags = [f"--runner={runner}", "--environment_type=LOOPBACK"]
    refused = r"expected a file by --\w+=FILE, or --job_endpoint"
    with pytest.raises(BeamFlagError, match=refused) as caught:
        check_flags(flags)
    option = re.search(r"--(\w+)=FILE", str(caught.value))
    assert option is not None
    for elsewhere in ("https://a.b/c.jar", str(tmp_path / "gone"), str(tmp_path)):
        with pytest.raises(BeamFlagError, match=refused):
            check_flags([*flags, f"--{option[1]}={elsewhere}"])
    (tmp_path / "a.jar").touch()
    named = [*flags, f"--{option[1]}={tmp_path / 'a.jar'}"]
    assert check_flags(named) == named


@pytest.mark.slow
def test_worker_processes_import_nothing_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apache_beam as beam
    from apache_beam.testing.util import assert_that, equal_to

    python = tmp_path / "a folder" / "python"  # the command goes through a shell
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.chdir(tmp_path)
    with pipeline(["--direct_running_mode=multi_processing", "--direct_num_workers=2"]) as p:
        looked = (
            p
            | beam.Create([os.getpid()])
            | beam.Map(lambda parent: (os.getpid() == parent, os.getcwd() in sys.path))
        )
        assert_that(looked, equal_to([(False, False)]))
