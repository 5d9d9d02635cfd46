"""What a call of the exported network costs: folded, unfolded, and without normalisation.

python tests/benchmarks/bench_folding.py
"""

import statistics
import sys
import time

CLASSES, SHAPE = 10, (28, 28)
SIZES = (1, 32, 256)


def latencies() -> dict[tuple[str, int], list[float]]:
    """Microseconds of calls of the exported network, by its kind and the number of examples."""
    import tensorflow as tf

    from bnpipe.components.network import network
    from bnpipe.components.trainer import Params
    from bnpipe.components.trainer.export import layers_of
    from bnpipe.data.dataset_info import DatasetInfo
    from bnpipe.serving.export.classifier import Classifier
    from bnpipe.serving.export.folding import fold

    tf.config.threading.set_intra_op_parallelism_threads(1)
    info = DatasetInfo("mnist", "3.0.1", *SHAPE, tuple("0123456789"), {}, False)
    batch = layers_of(network.build(info.features, CLASSES, Params()))
    none = layers_of(network.build(info.features, CLASSES, Params(normalization="none")))
    calls = {
        (name, size): (
            Classifier(layers, info).signature("probabilities_only"),
            tf.zeros([size, info.features]),
        )
        for name, layers in (
            ("folded", fold(batch).layers),
            ("unfolded", batch),
            ("no normalisation", none),
        )
        for size in SIZES
    }
    found: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    for turn in range(520):  # taking turns, so that all see the same noise
        for key, (call, features) in calls.items():
            started = time.perf_counter()
            call(features=features)["probabilities"].numpy()
            if turn >= 20:  # the first ones warm up
                found[key].append((time.perf_counter() - started) * 1e6)
    return found


if __name__ == "__main__":
    found = latencies()
    for (name, size), times in found.items():
        ratio = statistics.median(a / b for a, b in zip(times, found["folded", size], strict=True))
        sys.stdout.write(
            f"{name}, batch {size}: median {statistics.median(times):.0f} us, best "
            f"{min(times):.0f} us, {ratio:.2f}x folded (median of calls side by side)\n"
        )
