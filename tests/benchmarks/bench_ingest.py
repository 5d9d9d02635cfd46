"""How fast example_gen and transform take in a data set, beside one image at a time through Beam.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_ingest.py            # both sides, MNIST
    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_ingest.py --scale    # and 700,000 images

The first part needs the archives. The second part runs 70,000 and 700,000 rendered digits; to draw
them is part of its rates. Every measurement has a process of its own; preparing through TFDS and
importing are reported apart. Other work on the machine only ever slows a measurement down, so
the short ones are repeated and the best counts; the load average stands beside each.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

MNIST = "mnist"
RENDERED = "rendered_digits"
IMAGES = 70_000
TARGET_RATE = 20_000  # images/s
TARGET_MEMORY = 1.10  # times the peak at ten times the images


def main() -> None:
    """Runs the measurements and prints them."""
    options = _options()
    if options.measure:
        _say(json.dumps(MEASUREMENTS[options.measure](options)))
        return
    if "BNPIPE_ARCHIVES" not in os.environ and not options.scale:
        sys.exit("BNPIPE_ARCHIVES is not set: the folder with MNIST's archives; or try --scale")
    _say(f"{os.cpu_count()} cores, load average {_load()}")
    with tempfile.TemporaryDirectory(prefix="bench_ingest-", dir=options.folder) as name:
        folder = Path(name)
        targets = _against_per_image(folder, options) if "BNPIPE_ARCHIVES" in os.environ else {}
        if options.scale:
            targets |= _scale(folder, options)
    for target, (met, measured) in targets.items():
        _say(f"{'met   ' if met else 'MISSED'} {target}: {measured}")
    _say(f"load average {_load()}; more than one busy core besides this makes the rates too low")


Targets = dict[str, tuple[bool, str]]


def _against_per_image(folder: Path, options: argparse.Namespace) -> Targets:
    _measure("prepare", folder, MNIST, 0)
    batched = _best("batched", folder, MNIST, 0, options.repeat)
    plain = _measure("plain", folder, MNIST, 0)
    _say(
        f"batched: {batched['rate'] / plain['rate']:.1f} times the rate of one image at a time, "
        f"{plain['cpu_seconds'] / batched['cpu_seconds']:.1f} times less CPU time, "
        f"{batched['peak_mb'] / plain['peak_mb']:.2f} times the peak memory"
    )
    rate, of_cpu = batched["rate"], batched["images"] / batched["cpu_seconds"]
    told = f"{rate:,.0f} images/s ({of_cpu:,.0f} per second of CPU)"
    return {f"{TARGET_RATE:,} images/s": (rate >= TARGET_RATE, told)}


def _scale(folder: Path, options: argparse.Namespace) -> Targets:
    size = options.images or IMAGES
    results = []
    for images, repeat in ((size, options.repeat), (10 * size, 1)):
        results.append(_best("batched", folder, RENDERED, images, repeat))
    small, large = results
    rate, peak = large["rate"] / small["rate"], large["peak_mb"] / small["peak_mb"]
    return {
        "10 times the images at the same rate": (rate >= 1.0, f"{rate:.2f} times the rate"),
        "at most 10 % more memory for them": (peak <= TARGET_MEMORY, f"{peak:.2f} times the peak"),
    }


def _best(what: str, folder: Path, dataset: str, size: int, repeat: int) -> dict[str, Any]:
    """The fastest of several measurements, with the smallest peak of them all."""
    results = [_measure(what, folder, dataset, size) for _ in range(repeat)]
    peak = min(result["peak_mb"] for result in results)
    return max(results, key=lambda result: float(result["rate"])) | {"peak_mb": peak}


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def _measure(what: str, folder: Path, dataset: str, size: int) -> dict[str, Any]:
    """Runs one measurement in a process of its own and prints its line."""
    command = [sys.executable, __file__, "--measure", what, "--folder", str(folder)]
    command += ["--dataset", dataset, "--images", str(size)]
    before = _load()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    _say(
        f"{what:8} {dataset} {result['images']:7,} images: {result['seconds']:6.2f} s = "
        f"{result['rate']:7,.0f} images/s, {result['cpu_seconds']:6.2f} s of CPU, "
        f"peak {result['peak_mb']:5.0f} MB (+ imports {result['import_seconds']:.1f} s; "
        f"load {before} before, {_load()} after)"
    )
    return result


class _Clock:
    """Wall and CPU time since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def result(self, images: int, imported: float) -> dict[str, Any]:
        seconds = time.perf_counter() - self._wall
        return {
            "images": images,
            "seconds": seconds,
            "cpu_seconds": time.process_time() - self._cpu,
            "rate": images / seconds,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "import_seconds": imported,
        }


def _builder(options: argparse.Namespace) -> Any:
    from bnpipe.data.sources.tfds_source import prepare

    return prepare(options.dataset, Path(os.environ["BNPIPE_ARCHIVES"]), _cache(options))


def _cache(options: argparse.Namespace) -> Path:
    return Path(options.folder) / "cache"


def prepare_data(options: argparse.Namespace) -> dict[str, Any]:
    """What TFDS needs to prepare the data, TensorFlow's import apart."""
    start = time.perf_counter()
    import tensorflow as tf
    import tensorflow_datasets as tfds

    del tf, tfds
    imported = time.perf_counter() - start
    clock = _Clock()
    return clock.result(_images(_builder(options)), imported)


def _images(builder: Any) -> int:
    return sum(split.num_examples for split in builder.info.splits.values())


def batched(options: argparse.Namespace) -> dict[str, Any]:
    """example_gen and transform as the pipeline runs them."""
    start = time.perf_counter()
    import apache_beam as beam
    import tensorflow_datasets as tfds

    from bnpipe.components import example_gen, transform

    del beam, tfds
    imported = time.perf_counter() - start
    params = example_gen.Params(dataset=options.dataset, size=options.images or None)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        clock, folder = _Clock(), Path(name)
        examples = _run(example_gen, example_gen.Inputs(), params, folder, options).examples
        _run(transform, transform.Inputs(examples=examples), transform.Params(), folder, options)
        return clock.result(sum(examples.record_counts().values()), imported)


def _run(step: Any, inputs: Any, params: Any, folder: Path, options: argparse.Namespace) -> Any:
    import dataclasses
    import typing

    from bnpipe.components.base import Context
    from bnpipe.data.beam_io import pipeline

    kinds = typing.get_type_hints(step.Outputs)
    bound = {}
    for field in dataclasses.fields(step.Outputs):
        (folder / field.name).mkdir(parents=True)
        bound[field.name] = kinds[field.name](field.name, folder / field.name)
    context = Context(
        step=step.COMPONENT.name,
        run_id="benchmark",
        scratch=folder,
        cache=_cache(options),
        log=logging.getLogger("benchmark"),
        progress=lambda done, total, note: None,
        beam=lambda: pipeline([]),
    )
    outputs = step.Outputs(**bound)
    step.run(inputs, outputs, params, context)
    return outputs


def plain(options: argparse.Namespace) -> dict[str, Any]:
    """The same work as a Beam pipeline is usually written: one element per image."""
    start = time.perf_counter()
    import apache_beam as beam
    import tensorflow as tf
    import tensorflow_datasets as tfds

    del tf
    imported = time.perf_counter() - start
    builder = _builder(options)
    folder = Path(options.folder) / "plain"
    clock = _Clock()
    for split in ("train", "test"):
        examples, transformed = str(folder / f"{split}-examples"), str(folder / f"{split}-out")
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            _ = (
                pipeline
                | tfds.beam.ReadFromTFDS(builder, split=split)
                | beam.Map(_example)
                | beam.io.WriteToTFRecord(examples, num_shards=4)
            )
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            _ = (
                pipeline
                | beam.io.ReadFromTFRecord(f"{examples}*")
                | beam.Map(_transformed)
                | beam.io.WriteToTFRecord(transformed, num_shards=4)
            )
    return clock.result(_images(builder), imported)


def _example(record: Any) -> bytes:
    """One image as a serialized tf.Example."""
    return _serialize(image=record["image"].numpy().tobytes(), label=int(record["label"]))


def _transformed(serialized: bytes) -> bytes:
    """One tf.Example, flattened and scaled."""
    import numpy as np
    import tensorflow as tf

    example = tf.train.Example.FromString(serialized)
    pixels = example.features.feature["image"].bytes_list.value[0]
    features = np.frombuffer(pixels, np.uint8).astype(np.float32) / np.float32(255)
    label = example.features.feature["label"].int64_list.value[0]
    return _serialize(features=features, label=label)


def _serialize(**features: Any) -> bytes:
    import tensorflow as tf

    def feature(value: Any) -> Any:
        if isinstance(value, bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(float_list=tf.train.FloatList(value=value))

    converted = {name: feature(value) for name, value in features.items()}
    example = tf.train.Example(features=tf.train.Features(feature=converted))
    return bytes(example.SerializeToString())


MEASUREMENTS = {"prepare": prepare_data, "batched": batched, "plain": plain}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=0, help="rendered digits of the second part")
    parser.add_argument("--scale", action="store_true", help="also ten times as many images")
    parser.add_argument("--repeat", type=int, default=3, help="tries of the short measurements")
    parser.add_argument("--folder", help="where to put temporary files")
    parser.add_argument("--dataset", default=MNIST, help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=sorted(MEASUREMENTS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
