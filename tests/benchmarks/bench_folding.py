"""What a call of the exported network costs: folded, unfolded, and without normalisation.

python tests/benchmarks/bench_folding.py
"""

import statistics
import sys
import time

CLASSES, SHAPE = 10, (28, 28)


def latencies() -> dict[str, float]:
    """Median microseconds of a call of the exported network, by number of examples."""
    import tensorflow as tf

    from components.trainer import Params, network
    from components.trainer.export import layers_of
    from data.dataset_info import DatasetInfo
    from serving.folding import fold
    from serving.signatures import Classifier

    info = DatasetInfo("mnist", "3.0.1", *SHAPE, tuple("0123456789"), {}, False)
    batch = layers_of(network.build(info.features, CLASSES, Params()))
    none = layers_of(network.build(info.features, CLASSES, Params(normalization="none")))
    found: dict[str, list[float]] = {}
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
        for size in (1, 32, 256)
    }
    for _ in range(500):  # taking turns, so that all see the same noise
        for (name, size), (call, features) in calls.items():
            started = time.perf_counter()
            call(features=features)["probabilities"].numpy()
            found.setdefault(f"{name}, batch {size}", []).append(time.perf_counter() - started)
    return {name: statistics.median(times) * 1e6 for name, times in found.items()}


if __name__ == "__main__":
    for name, microseconds in latencies().items():
        sys.stdout.write(f"{name}: {microseconds:.0f} us\n")
