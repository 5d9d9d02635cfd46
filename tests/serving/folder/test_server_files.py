"""monitoring.config and batching.config as a text protocol buffer says them, and their flags."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import server_files
from bnpipe.serving.folder.server_files import ServerFiles
from tests.serving.folder.served import leftovers, push

MakeModel = Callable[[str], Path]


def values_of(text: str) -> list[tuple[str, str]]:
    """Names and values of a text protocol buffer without its braces; comments are not there."""
    bare = re.sub(r"#.*", "", text)
    assert bare.count("{") == bare.count("}")
    return re.findall(r"(\w+):?\s*(?:\{\s*value:\s*)?(\d+|true|\"[^\"]*\")", bare)


def test_batching_is_what_the_configuration_says() -> None:
    files = ServerFiles(max_batch_size=32, allowed_batch_sizes=(8, 32), num_batch_threads=3)
    assert values_of(files.batching()) == [
        ("max_batch_size", "32"),
        ("batch_timeout_micros", "1000"),
        ("max_enqueued_batches", "100"),
        ("num_batch_threads", "3"),
        ("allowed_batch_sizes", "8"),
        ("allowed_batch_sizes", "32"),
    ]
    assert "max_batch_size { value: 32 }" in files.batching()


def test_monitoring_is_what_the_configuration_says() -> None:
    text = ServerFiles(prometheus_path="/metrics").monitoring()
    assert 'prometheus_config { enable: true, path: "/metrics" }' in text
    assert values_of(text) == [("enable", "true"), ("path", '"/metrics"')]


@pytest.mark.parametrize("sizes", [(), (8, 32), (64, 8), (8, 8, 64), (8, 64, 32)])
def test_sizes_with_which_no_model_would_load_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ServingError, match=r"allowed_batch_sizes: .*end with .*max_batch_size 64"):
        ServerFiles(allowed_batch_sizes=sizes)


@pytest.mark.parametrize("path", ["", "metrics", "/a\nb"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ServingError, match=r"prometheus_path: expected a path"):
        ServerFiles(prometheus_path=path)


def test_files_are_written_once_and_named_by_their_flags(base: Path, model: MakeModel) -> None:
    push(base, model("a"))
    assert server_files.flags(base, batching=True) == []
    server_files.write(base, ServerFiles())
    before = {p.name: p.stat().st_mtime_ns for p in base.glob("*.config")}
    assert before.keys() == {"models.config", "monitoring.config", "batching.config"}
    server_files.write(base, ServerFiles())
    assert {p.name: p.stat().st_mtime_ns for p in base.glob("*.config")} == before
    assert leftovers(base) == []
    assert server_files.flags(base, batching=False) == [
        f"--monitoring_config_file={base}/monitoring.config"
    ]
    assert server_files.flags(base, batching=True)[1:] == [
        "--enable_batching",
        f"--batching_parameters_file={base}/batching.config",
    ]


def test_a_file_that_people_wrote_is_what_their_server_reads(base: Path, model: MakeModel) -> None:
    push(base, model("a"))
    theirs = 'prometheus_config { enable: true, path: "/theirs" }\n'
    (base / "monitoring.config").write_text(theirs)
    assert server_files.write(base, ServerFiles()) == [
        f"{base}/monitoring.config was not written by bnpipe, and is left as it is"
    ]
    assert (base / "monitoring.config").read_text() == theirs
    assert "max_batch_size" in (base / "batching.config").read_text()
    assert server_files.flags(base, batching=False) == [
        f"--monitoring_config_file={base}/monitoring.config"
    ]
