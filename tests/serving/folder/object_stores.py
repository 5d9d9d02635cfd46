"""Helpers for tests of object stores: publishing there, and listing the objects."""

import re
import uuid
from pathlib import Path

from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder.bucket import opened
from bnpipe.serving.folder.rollout import Rollout
from tests.serving.folder.served import push


def publish(base: Path, url: str, model: Path) -> int:
    rollout = Rollout(base, store=url)
    rollout.check()
    return rollout.finish(push(base, model)).version


def contents(url: str) -> dict[str, bytes]:
    with opened(url) as store:
        prefix = store.fs._strip_protocol(store.root)
        return {
            str(path).removeprefix(f"{prefix}/"): store.fs.cat_file(path)
            for path in store.fs.find(store.root)
        }


def config_there(url: str) -> tuple[list[int], dict[str, int]]:
    text = contents(url)["models.config"].decode()
    assert f'base_path: "{url}"' in text
    pairs = re.findall(r'key: "(?!in_force_)(\w+)" value: (\d+)', text)
    numbers = re.findall(r"versions: (\d+)", text)
    return [int(n) for n in numbers], {k: int(v) for k, v in pairs}


def broken_there(url: str, digests: set[str], tmp_path: Path) -> list[str]:
    """Versions that models.config names and that are not whole."""
    objects = contents(url)
    if "models.config" not in objects:
        return []
    numbers, named = config_there(url)
    broken = []
    for number in {*numbers, *named.values()}:
        copy = tmp_path / "copy" / uuid.uuid4().hex
        for name, content in objects.items():
            if name.startswith(f"{number}/"):
                file = copy / name.partition("/")[2]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        if not copy.exists() or tree_digest(copy) not in digests:
            broken.append(f"models.config names {number}, which is not whole")
    return broken
