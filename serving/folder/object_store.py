"""A served folder in an object store: gs://BUCKET/PATH, s3://BUCKET/PATH, what else fsspec opens.

    <url>/ledger/000000001234  the ledger's bytes from 1234 on; created once, never replaced
    <url>/7/                   version 7, variables first, saved_model.pb last
    <url>/provenance/, <url>/manifests/
    <url>/monitoring.config, <url>/batching.config
    <url>/models.config        replaced last: what it names is whole

All verbs work on a folder of this home as they do without a store; `mirror` then brings the store
in line, and `fetch` fills the folder of a home that has not seen it. Different from a disk:

- There is no rename, so a version is there in part while it is uploaded. Servers do not look at it:
  models.config names the versions one by one, and is replaced when all of them are whole.
- There is no lock. Who changes something first creates the next object of the ledger, which must
  not exist; whoever comes second is refused before he touches a version. Where a store cannot
  create under that condition, a gap of milliseconds remains.
- The stock TensorFlow Serving reads gs:// itself; for s3:// a sidecar copies to a local volume.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

from bnpipe.data.digest import digest_of_files
from bnpipe.data.durable import STAGING, fsync, replace_bytes, replace_text, scratch_name
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import listed, read_plain
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import file_digests
from bnpipe.serving.folder import ledger, model_config
from bnpipe.serving.folder.bucket import GRAPH, Bucket, opened, overtaken
from bnpipe.serving.folder.ledger import LEDGER, Entry, History
from bnpipe.serving.folder.manifest import KINDS, MANIFESTS, write_records
from bnpipe.serving.folder.names import parse_version
from bnpipe.serving.folder.server_files import BATCHING_CONFIG, MONITORING_CONFIG
from bnpipe.serving.folder.settle import discard, settle, writing
from bnpipe.serving.folder.versions import (
    PROVENANCE,
    complete_versions,
    version_path,
    wanted_config,
)

MIRRORED = ".mirrored.json"


def is_url(base_path: str) -> bool:
    """True if a base path names an object store."""
    return "://" in base_path


def is_mirrored(base: Path, url: str) -> bool:
    """True if the last `mirror` has seen everything that the folder's ledger says. No network.

    Raises:
        ServingError: the ledger is damaged.
    """
    try:
        mark = json.loads(read_plain(base / MIRRORED))
    except (OSError, ValueError):
        return False
    return bool(mark == _mark(base, url))


def check(base: Path, url: str) -> None:
    """Refuse to change a folder when the store has changes of another home.

    Raises:
        ServingError: it has, or a models.config that is not bnpipe's; or it cannot be read.
    """
    with opened(url) as bucket:
        _news(base, bucket)


def mirror(base: Path, url: str) -> None:
    """Bring the store in line with the folder; killed at any point, the next call goes on.

    Raises:
        ServingError: another home published there meanwhile, or the store refuses.
    """
    with writing(base, create=False) as folder, opened(url) as bucket:
        history = settle(folder)
        news, at = _news(folder, bucket)
        if news:
            bucket.create(f"ledger/{at:012d}", news, url)
        kept = complete_versions(folder)
        _refuse_loss(folder, history, kept)
        for version in kept:
            bucket.upload(version_path(folder, version), str(version))
        gone = history.removed.difference(kept)  # a removal that was cut short left it whole
        _mirror_records(folder, bucket, history, gone)
        _news(folder, bucket)  # while that took its time, another home may have gone on from here
        wanted = wanted_config(folder, history)
        if wanted is not None:
            text = replace(wanted, base_path=url.rstrip("/")).render()
            bucket.put(model_config.MODELS_CONFIG, text.encode())
        for name in bucket.names():
            if parse_version(name) in gone:
                bucket.remove(name)
        replace_text(folder / MIRRORED, json_text(_mark(folder, url)), staging=folder)


def fetch(base: Path, url: str) -> list[int]:
    """Bring the folder in line with the store; returns the versions that came.

    The ledger comes last: until then the folder is not taken for more than it was.

    Raises:
        ServingError: folder and store have gone different ways, or bytes are not what was
            published.
    """
    with writing(base) as folder, opened(url) as bucket:
        here, there = _ledger_bytes(folder), bucket.ledger()
        # What this home did last may not have been mirrored yet.
        whole = here if here.startswith(there) else there
        if not whole.startswith(here):
            raise _diverged(folder, url)
        history = ledger.parse(whole, f"{url}/ledger")
        came = []
        for version, entry in sorted(history.entries.items()):
            if bucket.size(f"{version}/{GRAPH}") is not None:
                came += [version] if _fetch_version(folder, bucket, entry) else []
        replace_bytes(folder / LEDGER, whole, staging=folder)
        settle(folder)
        if whole == there:
            replace_text(folder / MIRRORED, json_text(_mark(folder, url)), staging=folder)
        return came


def _news(base: Path, bucket: Bucket) -> tuple[bytes, int]:
    """The bytes that the folder's ledger has beyond the store's, and where they go.

    Raises:
        ServingError: the store has more than the folder, or a models.config that is not bnpipe's.
    """
    if bucket.size(model_config.MODELS_CONFIG) is not None:
        text = bucket.read(model_config.MODELS_CONFIG).decode(errors="replace")
        model_config.refuse_foreign(text, bucket.path(model_config.MODELS_CONFIG))
    here, there = _ledger_bytes(base), bucket.ledger()
    if here.startswith(there):
        return here[len(there) :], len(there)
    if there.startswith(here):
        raise overtaken(bucket.root)
    raise _diverged(base, bucket.root)


def _mirror_records(folder: Path, bucket: Bucket, history: History, gone: set[int]) -> None:
    """Upload the records of the versions, once each signature, and the server's other files.

    As here, what speaks of the files of a version that is gone goes with it.
    """
    for records in (PROVENANCE, MANIFESTS):
        there = set(bucket.names(records))
        for path in listed(folder / records):
            fresh = path.name not in there or parse_version(path.stem) in history.signed
            if fresh and path.is_file():
                bucket.put(f"{records}/{path.name}", read_plain(path))
    for name in bucket.names(MANIFESTS):
        path = Path(name)
        if path.suffix in KINDS and parse_version(path.stem) in gone:
            bucket.fs.rm_file(bucket.path(f"{MANIFESTS}/{name}"))
    for name in (MONITORING_CONFIG, BATCHING_CONFIG):
        if (folder / name).is_file():
            bucket.put(name, read_plain(folder / name))


def _refuse_loss(folder: Path, history: History, whole: list[int]) -> None:
    """Refuse to take from the servers what was lost here."""
    stable = history.labels.get("stable")
    if stable is not None and stable not in whole:
        raise ServingError(
            f"v{stable} is live, but is not whole in {folder}",
            hint="take it from the store: bnpipe versions fetch",
        )


def _fetch_version(folder: Path, bucket: Bucket, entry: Entry) -> bool:
    """Put a version in place; False if it is there already."""
    target = version_path(folder, entry.version)
    if target.is_dir():
        if digest_of_files(file_digests(target)) == entry.digest:
            return False
        discard(folder, entry.version)
    staged = folder / scratch_name(STAGING)
    bucket.download(str(entry.version), staged)
    files = file_digests(staged)
    received = digest_of_files(files)
    if received != entry.digest:
        raise ServingError(
            f"{bucket.path(str(entry.version))} is damaged: expected digest {entry.digest[:12]}, "
            f"received {received[:12]}",
            hint="delete it there and publish from the home that has it",
        )
    os.rename(staged, target)
    fsync(folder)
    write_records(folder, entry, files)
    return True


def _ledger_bytes(base: Path) -> bytes:
    """The ledger's whole lines; a damaged ledger is refused."""
    lines = ledger.whole_lines(base)
    ledger.parse(lines, str(base / LEDGER))
    return lines


def _mark(base: Path, url: str) -> dict[str, str]:
    names = ",".join(map(str, complete_versions(base)))
    content = _ledger_bytes(base) + names.encode()
    return {"url": url, "folder": hashlib.sha256(content).hexdigest()}


def _diverged(base: Path, url: str) -> ServingError:
    return ServingError(
        f"{base} and {url} were changed by two homes at the same time",
        hint=f"move {base} away, then: bnpipe versions fetch, and publish again",
    )
