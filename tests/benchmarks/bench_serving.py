"""Latency of the stand-in for TensorFlow Serving, beside the same session without a server.

    python tests/benchmarks/bench_serving.py [--seconds 2] [--url http://HOST:PORT --model mnist]

One client asks, one request at a time, so this measures latency and not capacity; with `--url` the
same client measures another server, e.g. a real one. The last part asks at a fixed rate while
versions are swapped. Times count from the moment at which a request was due, so a server that
stalls is not measured less often.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.png import encode_stored
from bnpipe.serving.client.base import Client, Options
from bnpipe.serving.client.connect import connect

INFO = DatasetInfo("mnist", "3.0.1", 28, 28, tuple("0123456789"), {}, True)
HIDDEN = (256, 128)
BATCHES = (1, 32)
RATE = 100
SWAPS = 4
WARMUP = 50


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line")
    parser.add_argument("--url", help="measure this server only, over this protocol")
    parser.add_argument("--model", default="mnist")
    flags = parser.parse_args()
    if flags.url:
        with connect(flags.url, flags.model) as client:
            report(flags.url, client, flags.seconds, {})
        return
    with tempfile.TemporaryDirectory() as scratch:
        base = Path(scratch, "mnist")
        exports = [export(Path(scratch, f"export-{seed}"), seed) for seed in range(2)]
        shutil.copytree(exports[0], base / "1")
        alone = session_alone(base / "1", flags.seconds)
        with stand_in(base) as addresses:
            for address in addresses:
                with connect(address, "mnist") as client:
                    report(address, client, flags.seconds, alone)
            for address in addresses:
                with connect(address, "mnist", Options(attempts=1)) as client:
                    under_swaps(address, client, base, exports)


def export(folder: Path, seed: int) -> Path:
    """A network of the trainer's size."""
    from bnpipe.serving.export import classifier
    from bnpipe.serving.export.folding import Dense, Layer, Relu

    generator = np.random.default_rng(seed)
    sizes = (INFO.features, *HIDDEN, INFO.classes)
    layers: list[Layer] = []
    for index, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        kernel = generator.normal(scale=rows**-0.5, size=(rows, columns)).astype(np.float32)
        layers += [
            Dense(f"dense_{index}", kernel, np.zeros(columns, np.float32)),
            Relu(f"r{index}"),
        ]
    classifier.export(folder, layers[:-1], INFO)
    return folder


@contextlib.contextmanager
def stand_in(models: Path) -> Iterator[list[str]]:
    """The stand-in in a process of its own, on a folder or a models.config: its addresses."""
    if models.is_dir():
        served = [f"--model_base_path={models}", "--model_name=mnist"]
    else:
        poll = "--model_config_file_poll_wait_seconds=1"
        labels = "--allow_version_labels_for_unavailable_models"
        served = [f"--model_config_file={models}", poll, labels]
    flags = ["--rest_api_port=0", "--port=0", "--exit_with_parent"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bnpipe.serving.local", *served, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        line = ""
        while not line.startswith("serving "):
            line = process.stdout.readline()
            if not line:
                raise SystemExit("the stand-in did not start")
        _, rest, grpc = line.split()
        yield [rest.removeprefix("rest="), f"grpc://{grpc.removeprefix('grpc=')}"]
    finally:
        process.terminate()
        process.wait()


def requests(batch: int) -> dict[str, dict[str, np.ndarray]]:
    """Inputs by signature."""
    images = np.random.default_rng(0).integers(0, 256, (batch, 28, 28), np.uint8)
    features = (images.reshape(batch, -1) / np.float32(255)).astype(np.float32)
    pngs = np.array([encode_stored(image) for image in images], object)
    return {
        "serving_default": {"features": features},
        "serve_images": {"images": images},
        "serve_png": {"image_bytes": pngs},
    }


def times(call: Callable[[], object], seconds: float) -> np.ndarray:
    """Microseconds of every call."""
    for _ in range(WARMUP):
        call()
    found = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        call()
        found.append(time.perf_counter() - started)
    return np.array(found) * 1e6


def session_alone(path: Path, seconds: float) -> dict[tuple[str, int], float]:
    """Median microseconds of the session without any server, by signature and batch."""
    from bnpipe.serving.local.inference import predict
    from bnpipe.serving.local.servable import Servable

    servable = Servable(path)
    found = {}
    for batch in BATCHES:
        for signature, inputs in requests(batch).items():
            took = times(lambda s=signature, i=inputs: predict(servable, s, i), seconds)
            found[signature, batch] = float(np.median(took))
    servable.close()
    return found


def report(
    address: str, client: Client, seconds: float, alone: dict[tuple[str, int], float]
) -> None:
    """One line per signature and batch."""
    line(f"{address}  (load average {os.getloadavg()[0]:.1f})")
    line(
        f"{'signature':<16}{'batch':>6}{'p50 us':>9}{'p99 us':>9}{'1/s':>7}  over the session alone"
    )
    for batch in BATCHES:
        for signature, inputs in requests(batch).items():
            took = times(lambda s=signature, i=inputs: client.predict(i, signature=s), seconds)
            p50, p99 = np.percentile(took, (50, 99))
            known = alone.get((signature, batch))
            ratio = f"{p50 / known:7.1f}x of {known:.0f} us" if known else ""
            line(f"{signature:<16}{batch:>6}{p50:>9.0f}{p99:>9.0f}{1e6 / took.mean():>7.0f}{ratio}")


def under_swaps(address: str, client: Client, base: Path, exports: list[Path]) -> None:
    """Requests at a fixed rate while new versions arrive: latencies, and requests that failed."""
    inputs = requests(1)["serve_images"]
    newest = max(int(p.name) for p in base.iterdir() if p.name.isdigit())
    seconds = 2.0 * (SWAPS + 1)
    failed, took = 0, []
    start = time.perf_counter()
    for index in range(int(RATE * seconds)):
        due = start + index / RATE
        time.sleep(max(0.0, due - time.perf_counter()))
        swap = newest + int(index / RATE / 2)
        if index % (2 * RATE) == 0 and swap > newest:
            staged = base / f".staging-{swap}"
            shutil.copytree(exports[swap % 2], staged)
            staged.rename(base / str(swap))
        try:
            client.predict(inputs, signature="serve_images")
        except Exception:
            failed += 1
        took.append(time.perf_counter() - due)
    p50, p99, worst = np.percentile(np.array(took) * 1e6, (50, 99, 100))
    line(
        f"{address}: {len(took)} requests at {RATE}/s with {SWAPS} swaps: {failed} failed, "
        f"p50 {p50:.0f} us, p99 {p99:.0f} us, worst {worst:.0f} us"
    )


def line(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
