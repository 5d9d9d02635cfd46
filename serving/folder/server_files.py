"""The server's other files: `monitoring.config` and `batching.config`, beside models.config.

A server takes them by `--monitoring_config_file=<base>/monitoring.config`, and by
`--enable_batching --batching_parameters_file=<base>/batching.config`: text protocol buffers
`MonitoringConfig` and `BatchingParameters`, read once at its start. Batching is off unless asked
for: for a network as small as this one it costs more than it gives.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bnpipe.data.durable import is_foreign, replace_text
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import read_plain
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder.settle import writing

MONITORING_CONFIG, BATCHING_CONFIG = "monitoring.config", "batching.config"
_HEAD = "# Generated from the section serving of the configuration by bnpipe.\n"
_OURS = re.compile(r"\A# Generated from .* by bnpipe\.")


@dataclass(frozen=True, kw_only=True)
class ServerFiles:
    """The content of the two files.

    Attributes:
        prometheus_path: the URL path of the metrics.
        max_batch_size: rows of a batch; a server refuses requests with more while it batches.
        allowed_batch_sizes: what batches are padded to, ascending; the last is `max_batch_size`.
        batch_timeout_micros: how long a batch waits for more rows, in microseconds.
        max_enqueued_batches: how many batches may wait.
        num_batch_threads: how many batches are computed at a time.

    Raises:
        ServingError: a server would refuse to start, or to load any model, with these values.
    """

    prometheus_path: str = "/monitoring/prometheus/metrics"
    max_batch_size: int = 64
    allowed_batch_sizes: tuple[int, ...] = (8, 32, 64)
    batch_timeout_micros: int = 1000
    max_enqueued_batches: int = 100
    num_batch_threads: int = 2

    def __post_init__(self) -> None:
        if not self.prometheus_path.startswith("/") or not self.prometheus_path.isprintable():
            raise ServingError(
                f"serving.prometheus_path: expected a path such as /metrics, "
                f"received {self.prometheus_path!r}"
            )
        sizes = self.allowed_batch_sizes
        if list(sizes) != sorted(set(sizes)) or sizes[-1:] != (self.max_batch_size,):
            raise ServingError(
                f"serving.allowed_batch_sizes: expected ascending sizes that end with "
                f"serving.max_batch_size {self.max_batch_size}, received {list(sizes)}"
            )

    def monitoring(self) -> str:
        """`monitoring.config`."""
        path = json_text(self.prometheus_path, ensure_ascii=False)
        return f"{_HEAD}prometheus_config {{ enable: true, path: {path} }}\n"

    def batching(self) -> str:
        """`batching.config`."""
        values = {
            "max_batch_size": self.max_batch_size,
            "batch_timeout_micros": self.batch_timeout_micros,
            "max_enqueued_batches": self.max_enqueued_batches,
            "num_batch_threads": self.num_batch_threads,
        }
        lines = [f"{name} {{ value: {value} }}\n" for name, value in values.items()]
        lines += [f"allowed_batch_sizes: {size}\n" for size in self.allowed_batch_sizes]
        return _HEAD + "".join(lines)


def write(base: Path, files: ServerFiles) -> list[str]:
    """Replace the two files of a served folder, each atomically, unless they say the same already.

    Returns:
        a sentence for each that somebody else wrote, and that stays: it is what they want their
        server to read.

    Raises:
        ServingError: the folder cannot be written.
    """
    wanted = {MONITORING_CONFIG: files.monitoring(), BATCHING_CONFIG: files.batching()}
    kept = [name for name in wanted if is_foreign(base / name, _OURS)]
    texts = {n: t for n, t in wanted.items() if n not in kept and _text(base / n) != t}
    if texts:
        with writing(base, create=False) as folder:
            for name, text in texts.items():
                replace_text(folder / name, text, staging=folder)
    return [f"{base / name} was not written by bnpipe, and is left as it is" for name in kept]


def flags(base: Path, *, batching: bool) -> list[str]:
    """The flags with which TensorFlow Serving reads those that are there; the stand-in has none."""
    words = []
    if (base / MONITORING_CONFIG).is_file():
        words.append(f"--monitoring_config_file={base / MONITORING_CONFIG}")
    if batching and (base / BATCHING_CONFIG).is_file():
        words += ["--enable_batching", f"--batching_parameters_file={base / BATCHING_CONFIG}"]
    return words


def _text(path: Path) -> str | None:
    try:
        return read_plain(path).decode()
    except (OSError, UnicodeDecodeError):
        return None
