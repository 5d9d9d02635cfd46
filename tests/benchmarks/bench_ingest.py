"""How fast example_gen and transform take in a data set, beside one image at a time through Beam.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_ingest.py            # MNIST
    python tests/benchmarks/bench_ingest.py --images 700000                     # scale

The first form runs both sides on the same prepared data. The second runs a tenth of the images and
all of them on rendered_digits, and compares rate and peak memory. Every measurement has a process
of its own; preparing through TFDS and importing are reported apart from the rates.
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


def main() -> None:
    """Runs the measurements and prints them."""
    options = _options()
    if options.measure:
        _say(json.dumps(MEASUREMENTS[options.measure](options)))
        return
    with tempfile.TemporaryDirectory(prefix="bench_ingest-", dir=options.folder) as folder:
        if options.images:
            _scale(options.images, Path(folder))
        else:
            _against_per_image(Path(folder))


def _against_per_image(folder: Path) -> None:
    dataset = MNIST if os.environ.get("BNPIPE_ARCHIVES") else RENDERED
    size = 0 if dataset == MNIST else 70_000
    _measure("prepare", folder, dataset, size)
    batched = _measure("batched", folder, dataset, size)
    plain = _measure("plain", folder, dataset, size)
    _say(f"batched: {batched['rate'] / plain['rate']:.1f} times the rate of one image at a time")


def _scale(images: int, folder: Path) -> None:
    results = []
    for size in (images // 10, images):
        _measure("prepare", folder, RENDERED, size)
        results.append(_measure("batched", folder, RENDERED, size))
    small, large = results
    _say(
        f"10 times the images: {large['rate'] / small['rate']:.2f} times the rate, "
        f"{large['peak_mb'] / small['peak_mb']:.2f} times the peak memory"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _measure(what: str, folder: Path, dataset: str, size: int) -> dict[str, Any]:
    """Runs one measurement in a process of its own and prints its line."""
    command = [sys.executable, __file__, "--measure", what, "--folder", str(folder)]
    command += ["--dataset", dataset, "--images", str(size)]
    load = os.getloadavg()[0]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    _say(
        f"{what:8} {dataset} {result['images']:7,} images: {result['seconds']:6.2f} s = "
        f"{result['rate']:7,.0f} images/s, peak {result['peak_mb']:5.0f} MB "
        f"(+ imports {result['import_seconds']:.1f} s; load before {load:.1f})"
    )
    return result


def _result(images: int, imported: float, seconds: float, **more: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rate = images / seconds
    return {
        "images": images,
        "seconds": seconds,
        "rate": rate,
        "peak_mb": peak,
        "import_seconds": imported,
    } | more


def _builder(options: argparse.Namespace) -> Any:
    from data.tfds_source import prepare

    archives = os.environ.get("BNPIPE_ARCHIVES")
    folder = Path(archives) if archives else None
    return prepare(options.dataset, folder, _cache(options), size=options.images or None)


def _cache(options: argparse.Namespace) -> Path:
    return Path(options.folder) / "cache"


def prepare_data(options: argparse.Namespace) -> dict[str, Any]:
    """What TFDS needs to prepare the data, TensorFlow's import apart."""
    start = time.perf_counter()
    import tensorflow as tf
    import tensorflow_datasets as tfds

    del tf, tfds
    imported = time.perf_counter() - start
    start = time.perf_counter()
    builder = _builder(options)
    seconds = time.perf_counter() - start
    return _result(_images(builder), imported, seconds)


def _images(builder: Any) -> int:
    return sum(split.num_examples for split in builder.info.splits.values())


def batched(options: argparse.Namespace) -> dict[str, Any]:
    """example_gen and transform as the pipeline runs them."""
    start = time.perf_counter()
    import apache_beam as beam
    import tensorflow_datasets as tfds

    from components import example_gen, transform

    del beam, tfds
    imported = time.perf_counter() - start
    params = example_gen.Params(dataset=options.dataset, size=options.images or None)
    folder = Path(options.folder) / f"batched-{options.images}"
    start = time.perf_counter()
    examples = _run(example_gen, example_gen.Inputs(), params, folder, options).examples
    middle = time.perf_counter()
    _run(transform, transform.Inputs(examples=examples), transform.Params(), folder, options)
    seconds = time.perf_counter() - start
    images = sum(examples.record_counts().values())
    return _result(images, imported, seconds, example_gen_seconds=middle - start)


def _run(step: Any, inputs: Any, params: Any, folder: Path, options: argparse.Namespace) -> Any:
    import dataclasses
    import typing

    from components.base import Context
    from data.beam_io import pipeline

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
    start = time.perf_counter()
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
    return _result(_images(builder), imported, time.perf_counter() - start)


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
    parser.add_argument("--images", type=int, default=0, help="scale run on rendered_digits")
    parser.add_argument("--folder", help="where to put temporary files")
    parser.add_argument("--dataset", default=MNIST, help=argparse.SUPPRESS)
    parser.add_argument("--measure", choices=sorted(MEASUREMENTS), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
