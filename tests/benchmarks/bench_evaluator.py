"""How fast the evaluator is, beside TFMA loading the SavedModels itself for the same metrics.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_evaluator.py      # MNIST, 10,000 images
    python tests/benchmarks/bench_evaluator.py                               # rendered_digits

Both sides run in this process on the same examples and the same networks, one after the other;
importing TensorFlow, Beam and TFMA is reported apart. The evaluator's time holds everything that
the step does: predicting, bootstrap, gate, golden requests, pictures and one TFMA evaluation of two
models, or three with a champion. TFMA's time is that of the evaluation of two models alone. The
budgets are for 10,000 images on two quiet cores: the load tells whether they were.
"""

import argparse
import logging
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BUDGET_SECONDS = {"two": 10.0, "three": 12.0}
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Prepares data and models, then measures both sides."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=2, help="runs of the evaluator (best counts)")
    parser.add_argument("--ours-only", action="store_true", help="leave TFMA's own side out")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="bench_evaluator-") as folder:
        examples, candidate, baseline = _prepare(Path(folder))
        _import()
        times = {}
        for models, champion in (("two", None), ("three", _served(candidate, Path(folder)))):
            inputs = (examples, candidate, baseline, champion)
            times[models] = min(
                _evaluator(inputs, Path(folder) / f"{models}{i}") for i in range(options.repeat)
            )
            _say(_against_budget(models, times[models]))
        _say(f"the champion costs {times['three'] / times['two'] - 1:.0%} more time")
        if not options.ours_only:
            theirs = _tfma(examples, candidate, baseline, Path(folder) / "tfma")
            _say(
                f"the evaluator takes {theirs / times['two']:.1f} times less time than TFMA itself"
            )


def _against_budget(models: str, seconds: float) -> str:
    budget = BUDGET_SECONDS[models]
    verdict = "met" if seconds <= budget else "missed"
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{models} models: best {seconds:.1f} s, budget {budget:.0f} s {verdict}; "
        f"load average {load} on {os.cpu_count()} cores"
    )


def _served(model: Any, folder: Path) -> Any:
    """The model as a served version."""
    from bnpipe.components.artifacts import ServedModel

    shutil.copytree(model.saved_model, folder / "served" / "1")
    return ServedModel("champion", folder / "served" / "1")


def _prepare(folder: Path) -> tuple[Any, Any, Any]:
    """Real examples, and the two networks after two epochs."""
    from bnpipe.components import example_gen, trainer, transform

    archives = os.environ.get("BNPIPE_ARCHIVES")
    data = (
        example_gen.Params(dataset="mnist", archives=archives)
        if archives
        else example_gen.Params(dataset="rendered_digits", size=60_000)
    )
    examples = _run(example_gen, example_gen.Inputs(), data, folder / "examples").examples
    transformed = _run(
        transform, transform.Inputs(examples=examples), transform.Params(), folder / "transformed"
    ).transformed
    models = [
        _run(
            trainer,
            trainer.Inputs(examples=transformed),
            trainer.Params(epochs=2, normalization=normalization),
            folder / normalization,
        ).model
        for normalization in ("batch", "none")
    ]
    return transformed, *models


def _run(component: Any, inputs: Any, params: Any, folder: Path) -> Any:
    from tests.conftest import _run as run

    return run(component.COMPONENT, inputs, params, folder, cache=folder.parent / "cache").outputs


def _import() -> None:
    started = time.perf_counter()
    import bnpipe.components.evaluator.work  # noqa: F401

    _say(f"import of what the trainer had not imported: {time.perf_counter() - started:.1f} s")


def _evaluator(inputs: Any, folder: Path) -> float:
    from bnpipe.components import evaluator
    from tests.conftest import _run as run

    inputs = evaluator.Inputs(*inputs)
    started, cpu = time.perf_counter(), time.process_time()
    ran = run(evaluator.COMPONENT, inputs, evaluator.Params(), folder, cache=folder / "cache")
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    parts = ", ".join(f"{k} {v}" for k, v in ran.facts.items() if k.startswith("seconds_"))
    images = int(ran.facts["images"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    _say(
        f"evaluator: {seconds:.1f} s ({cpu:.1f} s of processor) for {images} images, "
        f"{images / seconds:.0f} images/s; {parts}; peak memory {peak:.0f} MB"
    )
    return seconds


def _tfma(examples: Any, candidate: Any, baseline: Any, folder: Path) -> float:
    from bnpipe.components.evaluator import tfma_config
    from bnpipe.components.evaluator.params import Params
    from tests.components.evaluator import tfma_alone

    images = sum(n for f, n in examples.record_counts().items() if f.startswith("Split-test"))
    started, cpu = time.perf_counter(), time.process_time()
    models = {"candidate": candidate.saved_model, "baseline": baseline.saved_model}
    config = tfma_config.eval_config(Params(), ["baseline"])
    tfma_alone.evaluate(examples.shards("test"), models, {folder: config})
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    _say(
        f"TFMA by itself (tf_generic): {seconds:.1f} s ({cpu:.1f} s of processor), "
        f"{images / seconds:.0f} images/s"
    )
    return seconds


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
