"""`models.config`: one model's versions and labels, for TF Serving to read.

The file lies at the top of the served folder and is replaced atomically, so a server must see
the folder, not the file: a container that bind-mounts the single file keeps the old one for ever.
Mount the served folder at its own path, and start the server with
`--model_config_file=<folder>/models.config --model_config_file_poll_wait_seconds=10
--allow_version_labels_for_unavailable_models=true`; without the last flag a server that restarts
with labels exits.

A running server takes a change in two steps. It checks labels before it loads versions, so one
edit that lists a new version and also moves an existing label to it is refused at every poll:
list the version, wait until the server reports it AVAILABLE, then move the label, as
`folder.rollout` does. Moving a label back to a version that is still listed (a rollback) needs
one edit only. That is why the previous version stays listed.

A delisted version stays AVAILABLE until the server's next poll of the file system, so its state
does not tell by which edit it is loaded. One more label does: it spells the edit out, and a server
replaces all labels whenever it takes an edit over. Who knows it has that edit in force.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bnpipe.data.durable import replace_text
from bnpipe.data.plain_file import read_plain
from bnpipe.serving.errors import ServingError

MODELS_CONFIG = "models.config"
LABELS = ("stable", "canary")
# One model, as `render` writes it: whoever adds another has made the file their own.
_OURS = re.compile(
    r"\A# Generated from ledger\.jsonl by bnpipe((?!\bconfig\s*\{).)*"
    r"\bconfig \{((?!\bconfig\s*:?\s*[{<]).)*\Z",
    re.DOTALL,
)


@dataclass(frozen=True)
class ModelConfig:
    """One model as a server sees it.

    Attributes:
        name: the name in request URLs.
        base_path: the served folder, absolute, at the path where the server sees it.
        versions: exactly those to load (policy `specific`). A request without a label goes to
            the highest of them, so withdrawn versions are not listed.
        labels: version by label.
    """

    name: str
    base_path: str
    versions: tuple[int, ...]
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        """The label that only a server knows which has these versions and labels in force."""
        named = [f"{label}_{version}" for label, version in self.labels.items()]
        return "_".join(["in_force", *map(str, self.versions), *named])

    def render(self) -> str:
        """The text protocol buffer (`tensorflow.serving.ModelServerConfig`)."""
        versions = " ".join(f"versions: {v}" for v in self.versions)
        # The mark goes where `stable` goes: whoever accepts the one accepts the other.
        marked = {self.mark: self.labels["stable"]} if "stable" in self.labels else {}
        labels = "".join(
            f'    version_labels {{ key: "{label}" value: {version} }}\n'
            for label, version in {**self.labels, **marked}.items()
        )
        return (
            "# Generated from ledger.jsonl by bnpipe; labels move by rollback and promote.\n"
            "model_config_list {\n"
            "  config {\n"
            f"    name: {_quoted(self.name)}\n"
            f"    base_path: {_quoted(self.base_path)}\n"
            '    model_platform: "tensorflow"\n'
            f"    model_version_policy {{ specific {{ {versions} }} }}\n"
            f"{labels}"
            "  }\n"
            "}\n"
        )


def read_text(base: Path) -> str | None:
    """The file's text; None if there is none.

    Raises:
        ServingError: it is there and cannot be read, or is not bnpipe's.
    """
    try:
        text = read_plain(base / MODELS_CONFIG).decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"cannot read {base / MODELS_CONFIG}: {error}") from error
    refuse_foreign(text, base / MODELS_CONFIG)
    return text


def refuse_foreign(text: str, where: Path | str) -> None:
    """Refuse the text of a models.config that lists other models, or that somebody else wrote.

    Raises:
        ServingError: it does.
    """
    if text.strip() and _OURS.search(text) is None:
        raise ServingError(
            f"{where} was not written by bnpipe, or lists other models too: it is left as it is",
            hint="set serving.base_path to a folder of its own",
        )


def label(base: Path, name: str) -> int | None:
    """The version that a label names in the file; None if there is no file or no such label.

    Raises:
        ServingError: the file cannot be read.
    """
    pattern = rf'version_labels\s*\{{\s*key:\s*"{name}"\s*value:\s*(\d+)\s*\}}'
    match = re.search(pattern, read_text(base) or "")
    return int(match[1]) if match else None


def write(base: Path, config: ModelConfig) -> None:
    """Replace the file, unless it says the same already."""
    text = config.render()
    if read_text(base) != text:
        replace_text(base / MODELS_CONFIG, text, staging=base)


def _quoted(text: str) -> str:
    """A text-format string literal; bytes outside printable ASCII as octal escapes."""
    letters = (
        chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03o}" for b in os.fsencode(text)
    )
    return f'"{"".join(letters)}"'
