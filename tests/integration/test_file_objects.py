"""Whatever lies where a user can put something: counted, refused in one line, never waited for.

Span folders, the folder of the archives, the served folder and the home, each with every kind of
object that a file system has, in every place that is read. Functions are called in this process.
"""

import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components.example_gen import Params, probe
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import BnpipeError, DataError
from bnpipe.data.png import encode_stored
from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.sources.checksums import check_archives, registered_archives
from bnpipe.data.sources.source import BadRecord
from bnpipe.data.sources.span_layout import span_sources
from bnpipe.data.sources.spans import find_spans
from bnpipe.pipeline.engine.errors import ExitCode, one_line
from bnpipe.pipeline.engine.lock import at_work
from bnpipe.pipeline.engine.runs import summaries
from bnpipe.serving.folder import versions
from bnpipe.serving.folder.verify import verify
from tests.pipeline.toy_home import ToyHome

HANG = 60  # seconds that nothing here takes, on whatever machine
MEMORY = 2 << 30  # bytes that nothing here takes
NOBODY = 65534
INFO = DatasetInfo("digits", "1.0.0", 4, 3, tuple("0123456789"), {}, False)
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        folder = os.open(path.parent, os.O_RDONLY)  # the kernel takes no long names
        try:
            bound.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def hollow(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": bind,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "folder": lambda path: path.mkdir(),
    "empty file": lambda path: path.touch(),
    "hollow file": hollow,
    "bytes": lambda path: path.write_bytes(b"\xff\x00["),
}
kinds = pytest.mark.parametrize("kind", KINDS)


@contextmanager
def no_hang() -> Iterator[None]:
    """Fails what waits, with a traceback from where it waits, and what reads without end."""

    def fail(*_: Any) -> None:
        raise AssertionError(f"it waited for {HANG} s")

    before = signal.signal(signal.SIGALRM, fail)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    room = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (room, limits[1]))
    signal.alarm(HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def replaced(path: Path, kind: str) -> Iterator[None]:
    """Another object in the place of a file or folder, for a while."""
    aside = Path(tempfile.mkdtemp(dir="/tmp")) / "aside"
    there = os.path.lexists(path)
    if there:
        shutil.move(path, aside)
    KINDS[kind](path)
    try:
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path):
            path.unlink()
        if there:
            shutil.move(aside, path)
        aside.parent.rmdir()


def said(call: Callable[[], Any]) -> str:
    """The refusal in one line; empty if there is none. Any other error is a bug, exit code 70."""
    try:
        with no_hang():
            call()
    except (BnpipeError, OSError) as error:
        line = one_line(error)
        assert line.isprintable(), line
        assert line.isascii() or line.encode(), line
        return line
    return ""


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two spans, one in either layout."""
    folder = tmp_path_factory.mktemp("spans")
    for label in "37":
        (folder / "1" / "train" / label).mkdir(parents=True)
        for name in "ab":
            (folder / "1" / "train" / label / f"{name}.png").write_bytes(encode_stored(IMAGES[0]))
    (folder / "2" / "test").mkdir(parents=True)
    records = frame(encode({"image": IMAGES.reshape(5, -1), "label": np.arange(5)})).tobytes()
    for name in "ab":
        (folder / "2" / "test" / f"{name}.tfrecord").write_bytes(records)
    for span in "12":
        (folder / span / "_SUCCESS").touch()
    return folder


def ingest(spans: Path, cache: Path) -> tuple[int, list[BadRecord]]:
    """What `plan` and then example_gen do with spans: the number of images, and the bad records."""
    pattern = f"{spans}/{{SPAN}}"
    probe(Params(dataset="rendered_digits", spans=pattern), cache)
    images, bad = 0, list[BadRecord]()
    for span in find_spans(pattern, settle=300.0):
        for source in span_sources(span, INFO).values():
            batches = source.read_slice(0, source.size, bad.append)
            images += sum(len(batch.images) for batch in batches)
    return images, bad


SPAN_PLACES = (
    "1",
    "1/train",
    "1/train/7",
    "1/train/7/a.png",
    "1/train/7/new.png",
    "1/train/7/_new.png",
    "1/new",
    "1/_SUCCESS",
    "2/test/a.tfrecord",
    "2/test/new.tfrecord",
    "3",
    "_3",
    "README",
)


# A label without pictures, and what writers leave of a shard without records.
HARMLESS = {
    ("1/train/7", "folder"),
    ("2/test/a.tfrecord", "empty file"),
    ("2/test/new.tfrecord", "empty file"),
}


@kinds
def test_in_the_folders_of_spans(
    kind: str, spans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every image is read, or it is said why not: by a refusal, a bad record or a warning."""
    for place in SPAN_PLACES:
        caplog.clear()
        result: list[Any] = []
        with replaced(spans / place, kind):
            refusal = said(lambda result=result: result.extend(ingest(spans, tmp_path)))
        images, bad = result or (0, [])
        words = refusal + caplog.text + "".join(record.file for record in bad)
        marker = place == "1/_SUCCESS" and kind not in ("loop", "dangling link")  # it need only be
        if place in ("_3", "README", "1/train/7/_new.png") and (place, kind) != (
            "README",
            "folder",
        ):
            assert (images, refusal) == (14, "")
            assert Path(place).name in caplog.text
        elif (place, kind) in HARMLESS or marker:
            assert not words
        else:
            assert Path(place).name in words or f"span {place[0]}" in words, (place, result)


def test_odd_names_of_pictures_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "spans" / "1" / "train" / "7"
    folder.mkdir(parents=True)
    (tmp_path / "spans" / "1" / "_SUCCESS").touch()
    names = [
        b"-rf.png",
        b"a\nb.png",
        b"\xff\xfe.png",
        b" .png",
        "é.png".encode(),
        b"x" * 251 + b".png",
    ]
    for name in (*names, b"*", b"[a]?.png", b"a'b\"c$(d).png", b"no suffix"):
        (folder / os.fsdecode(name)).write_bytes(encode_stored(IMAGES[0]))
    assert ingest(tmp_path / "spans", tmp_path) == (10, [])


@pytest.mark.parametrize("name", [b"5\n", b"\xff", b"-1", b" 6", b"1e3", b"x" * 255])
def test_an_odd_name_of_a_span_is_refused_in_one_line(name: bytes, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(name)).mkdir()
    line = said(lambda: find_spans(f"{tmp_path}/{{SPAN}}", settle=0.0))
    assert "expected a number from 1 on or a date" in line


@kinds
def test_in_the_folder_of_the_archives(kind: str, tmp_path: Path) -> None:
    """Nothing is downloaded instead of what lies there under its name."""
    for archive in registered_archives("mnist")[1]:
        with replaced(tmp_path / archive.name, kind):
            line = said(lambda: check_archives("mnist", tmp_path))
        assert archive.name in line
        assert "cannot be read" in line or "is damaged" in line
    with replaced(tmp_path / "notes", kind):
        assert said(lambda: check_archives("mnist", tmp_path)) == ""
    if kind != "folder":
        with replaced(tmp_path / "archives", kind):
            assert "not a folder" in said(lambda: check_archives("mnist", tmp_path / "archives"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ToyHome:
    """A home with one run, and a served folder with one version."""
    toy = ToyHome(tmp_path_factory.mktemp("world"))
    assert toy.run().exit_code is ExitCode.OK
    return toy


def places(toy: ToyHome) -> list[Path]:
    """What a home and a served folder hold, and what may be added."""
    step = min(toy.home.glob("steps/*.json"))
    manifest = min(toy.home.glob("objects/??/*/manifest.json"))
    of_home = (
        *("format", "lock", "locks", "locks/runs", "locks/runs/0001"),
        *("runs", "runs/0001", "runs/0001/run.json", "runs/0001/report.json"),
        *("objects", "steps", "cache", "cache/code.json", "tmp", "scratch", "new"),
    )
    of_served = (
        *("1", "2", "1/saved_model.pb", "1/variables", "1/new", "models.config", "ledger.jsonl"),
        *("provenance", "provenance/1.json", "manifests", "manifests/1.json", ".lock"),
        *("monitoring.config", "batching.config", "new"),
    )
    named = [toy.home / name for name in of_home] + [toy.served / name for name in of_served]
    return [toy.home, toy.served, step, manifest, manifest.parent, *named]


def looks(toy: ToyHome) -> dict[str, Callable[[], Any]]:
    """What `plan`, `status`, `runs` and `versions` do."""
    return {
        "plan": toy.plan,
        "runs": lambda: list(summaries(toy.store)),
        "status": lambda: at_work(toy.home),
        "live": lambda: versions.live(toy.served),
        "versions": lambda: versions.complete_versions(toy.served),
        "verify": lambda: verify(toy.served, None),
    }


@kinds
def test_looking_at_a_home_and_at_a_served_folder(kind: str, world: ToyHome) -> None:
    for place in places(world):
        with replaced(place, kind):
            lines = {name: said(look) for name, look in looks(world).items()}
        for line in filter(None, lines.values()):
            shown = place.relative_to(world.home.parent).parts
            assert shown[1 if shown[1:] and shown[0] == "served" else 0] in line, (place, line)
    assert not any(said(look) for look in looks(world).values())


def ran(toy: ToyHome) -> tuple[bool, str]:
    """Whether a run that has something to publish succeeds, and else what it says."""
    results: list[Any] = []
    line = said(lambda: results.append(toy.run(rate=2)))
    if results and results[0].error is not None:
        line = one_line(results[0].error)
    return bool(results) and results[0].exit_code is ExitCode.OK, line


@pytest.mark.slow
@kinds
def test_running_with_a_home_and_a_served_folder(kind: str, world: ToyHome, tmp_path: Path) -> None:
    """A run ends, with a version more or with a refusal that names what is in its way."""
    for number, place in enumerate(places(world)):
        folder = tmp_path / str(number)
        shutil.copytree(world.home.parent, folder)
        toy = ToyHome(folder)
        there = folder / place.relative_to(world.home.parent)
        with replaced(there, kind):
            ok, line = ran(toy)
        assert ok or there.name in line or there.parent.name in line, (there, line)


def as_nobody(call: Callable[[], Any], folder: Path) -> str:
    """What somebody who may do nothing is told; `call` has been made before, so all is imported."""
    if os.geteuid():
        return said(call)
    shutil.chown(folder, NOBODY)
    os.seteuid(NOBODY)
    try:
        return said(call)
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach, as those of pytest cannot be."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("place", ["", "1", "1/train", "1/train/7", "1/train/7/a.png"])
def test_spans_that_may_not_be_read(place: str, spans: Path, open_folder: Path) -> None:
    mine = shutil.copytree(spans, open_folder / "spans")
    mine.chmod(0o755)
    params = Params(dataset="rendered_digits", spans=f"{mine}/{{SPAN}}")
    assert len(probe(params, open_folder)) == 2
    (mine / place).chmod(0)
    line = as_nobody(lambda: probe(params, open_folder), open_folder)
    assert "Permission denied" in line
    assert os.fspath(mine / place) in line


@pytest.mark.parametrize("place", ["", "t10k-labels-idx1-ubyte.gz"])
def test_archives_that_may_not_be_read(place: str, open_folder: Path) -> None:
    folder = open_folder / "archives"
    folder.mkdir()
    (folder / "t10k-labels-idx1-ubyte.gz").touch()
    with pytest.raises(DataError, match="is damaged"):
        check_archives("mnist", folder)
    (folder / place).chmod(0)
    line = as_nobody(lambda: check_archives("mnist", folder), open_folder)
    assert os.fspath(folder / place) in line
    assert "cannot be read: Permission denied" in line


def test_a_home_and_a_served_folder_that_may_not_be_read(world: ToyHome, open_folder: Path) -> None:
    shutil.copytree(world.home.parent, open_folder / "world")
    toy = ToyHome(open_folder / "world")
    for path in (open_folder, *open_folder.rglob("*")):
        path.chmod(0o755)
    assert not any(said(look) for look in looks(toy).values())
    for place in places(toy):
        if not place.exists():
            continue
        place.chmod(0)
        for name, look in looks(toy).items():
            line = as_nobody(look, open_folder)
            assert not line or "ermission denied" in line or "is damaged" in line, (
                name,
                place,
                line,
            )
        place.chmod(0o755)
