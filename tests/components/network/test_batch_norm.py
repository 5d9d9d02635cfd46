import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnpipe.components.network.batch_norm import BatchNorm
from tests.child import environment

to_numpy = keras.ops.convert_to_numpy

SHAPES_AND_AXES = [((8, 5), -1), ((1, 5), 1), ((4, 3, 5), 2), ((4, 3, 5), 1), ((2, 3, 4, 5), -1)]


def pair(shape, **options):
    """Our layer and Keras', built for a shape, with the same random parameters."""
    generator = np.random.default_rng(1)
    layers = BatchNorm(**options), keras.layers.BatchNormalization(**options)
    for layer in layers:
        layer.build((None, *shape[1:]))
    for ours, theirs in zip(layers[0].variables, layers[1].variables, strict=True):
        assert ours.name == theirs.name
        value = generator.uniform(0.5, 2, ours.shape)
        ours.assign(value)
        theirs.assign(value)
    return layers


def inputs(shape, seed=0, dtype="float32"):
    return tf.constant(np.random.default_rng(seed).normal(3, 2, shape), dtype)


def forward_and_backward(layer, x, training, **call):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=training, **call)
        weights = tf.cast(tf.reshape(tf.range(tf.size(y)), tf.shape(y)) % 7, y.dtype)
        loss = tf.reduce_sum(tf.cast(weights * y, tf.float64))
    gradients = tape.gradient(loss, [x, *layer.trainable_variables])
    return [to_numpy(v).astype(np.float64) for v in (y, *gradients, *layer.non_trainable_variables)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_outputs_gradients_and_moving_statistics_are_those_of_keras(shape, axis, dtype):
    tolerance = {"float32": 1e-5, "float64": 1e-12, "mixed_float16": 4e-3, "mixed_bfloat16": 3e-2}
    for training, center, scale in itertools.product((True, False), repeat=3):
        ours, theirs = pair(shape, axis=axis, dtype=dtype, center=center, scale=scale)
        x = inputs(shape, dtype=ours.compute_dtype)
        for received, expected in zip(
            forward_and_backward(ours, x, training),
            forward_and_backward(theirs, x, training),
            strict=True,
        ):
            size = max(1.0, np.abs(expected).max())
            np.testing.assert_allclose(received, expected, atol=tolerance[dtype] * size)
        # Statistics never have the compute dtype's rounding.
        for mine, other in zip(
            ours.non_trainable_variables, theirs.non_trainable_variables, strict=True
        ):
            np.testing.assert_allclose(to_numpy(mine), to_numpy(other), rtol=1e-5, atol=1e-5)


def test_moving_statistics_follow_keras_over_many_batches():
    ours, theirs = pair((16, 4), momentum=0.9)
    for seed in range(50):
        x = inputs((16, 4), seed)
        ours(x, training=True)
        theirs(x, training=True)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, rtol=1e-5)


def test_gradients_agree_with_differences_in_float64():
    layer = BatchNorm(dtype="float64")
    layer.build((None, 3))

    def loss(x, gamma, beta):
        layer.gamma.assign(gamma)
        layer.beta.assign(beta)
        weights = tf.reshape(tf.range(12, dtype=tf.float64), (4, 3)) ** 2
        return tf.reduce_sum(weights * layer(x, training=True) ** 2)

    x = inputs((4, 3), dtype="float64")
    gamma, beta = tf.constant([0.5, 1.0, 2.0], tf.float64), tf.constant([0.1, 0, -1], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x, gamma, beta)
    exact = tape.gradient(value, [x, *layer.trainable_variables])
    step = 1e-6
    for index, point in enumerate((x, gamma, beta)):
        for position in np.ndindex(*point.shape):
            moved = []
            for sign in (1, -1):
                arguments = [x.numpy(), gamma.numpy(), beta.numpy()]
                arguments[index][position] += sign * step
                moved.append(float(loss(*map(tf.constant, arguments))))
            slope = (moved[0] - moved[1]) / (2 * step)
            assert slope == pytest.approx(float(exact[index][position]), rel=1e-5, abs=1e-4)


def test_gradient_of_the_inputs_sums_to_zero():
    layer = BatchNorm(dtype="float64")
    _, dx, *_ = forward_and_backward(layer, inputs((8, 5), dtype="float64"), True)
    np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-12)


def test_variance_keeps_its_digits_when_the_mean_is_large():
    layer = BatchNorm(momentum=0.0)
    x = np.random.default_rng(0).normal(1000, 1, (4096, 2)).astype(np.float32)
    y = layer(x, training=True)
    np.testing.assert_allclose(layer.moving_variance, x.astype(np.float64).var(0), rtol=1e-4)
    np.testing.assert_allclose(to_numpy(y).std(0), 1, rtol=1e-2)


def test_a_constant_channel_and_a_batch_of_one_give_beta():
    for x in (np.full((8, 2), 7, np.float32), np.float32([[3, 4]])):
        layer = BatchNorm()
        layer.build((None, 2))
        layer.beta.assign([0.25, -1])
        np.testing.assert_array_equal(layer(x, training=True), np.tile([0.25, -1], (len(x), 1)))


def test_an_empty_batch_leaves_the_moving_statistics_as_they_are():
    layer = BatchNorm()
    layer(inputs((8, 3)), training=True)
    before = [to_numpy(v) for v in layer.non_trainable_variables]
    assert layer(tf.zeros((0, 3)), training=True).shape == (0, 3)
    layer(inputs((4, 3)), training=True, mask=tf.zeros(4, tf.bool))
    for old, new in zip(before, layer.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("axis", [1, 2])
def test_masked_positions_are_left_out_of_the_statistics(axis):
    ours, theirs = pair((6, 4, 3), axis=axis)
    x, mask = inputs((6, 4, 3)), tf.constant(np.random.default_rng(2).random((6, 4)) < 0.5)
    for received, expected in zip(
        forward_and_backward(ours, x, True, mask=mask),
        forward_and_backward(theirs, x, True, mask=mask),
        strict=True,
    ):
        np.testing.assert_allclose(received, expected, rtol=2e-4, atol=2e-4)


def test_what_stands_at_a_masked_position_does_not_matter():
    x, mask = inputs((6, 4, 3)).numpy(), np.random.default_rng(2).random((6, 4)) < 0.5
    kept = []
    for padding in (0, np.nan):
        x[~mask] = padding
        layer = BatchNorm()
        y, _, *others = forward_and_backward(layer, tf.constant(x), True, mask=mask)
        kept.append([y[mask], *others[2:]])
    for zeros, nans in zip(*kept, strict=True):
        np.testing.assert_array_equal(zeros, nans)


def test_not_trainable_means_inference_mode():
    layer = BatchNorm()
    layer(inputs((8, 3)), training=True)
    layer.trainable = False
    before = [to_numpy(v) for v in layer.variables]
    x = inputs((8, 3), seed=9)
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    for old, new in zip(before, layer.variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_inference_does_not_depend_on_the_rest_of_the_batch():
    layer = BatchNorm()
    layer(inputs((64, 5)), training=True)
    x = inputs((64, 5), seed=3)
    alone = np.concatenate([layer(x[i : i + 1]) for i in range(64)])
    np.testing.assert_array_equal(alone, layer(x))


def test_eager_graph_and_xla_agree():
    outputs = []
    for wrap in (lambda f: f, tf.function, lambda f: tf.function(f, jit_compile=True)):
        layer = BatchNorm()
        layer.build((None, 5))
        call = wrap(lambda x, layer=layer: layer(x, training=True))
        for seed in range(3):
            y = call(inputs((16, 5), seed))
        outputs.append([to_numpy(y), *map(to_numpy, layer.variables)])
    for other in outputs[1:]:
        for expected, received in zip(outputs[0], other, strict=True):
            np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "mixed_bfloat16"])
def test_statistics_are_float32_under_half_precision(policy):
    layer = BatchNorm(dtype=policy)
    y = layer(tf.cast(inputs((8, 3)), layer.compute_dtype), training=True)
    assert {v.dtype for v in layer.variables} == {"float32"}
    assert y.dtype == layer.compute_dtype


def test_a_model_with_the_layer_is_saved_and_loaded(tmp_path):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(5), BatchNorm(momentum=0.8, epsilon=0.01, name="bn")]
    )
    model(inputs((16, 4)), training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("bn").get_config() == model.get_layer("bn").get_config()
    x = inputs((3, 4), seed=5)
    np.testing.assert_array_equal(model(x), loaded(x))


def test_shapes_are_known_before_there_is_data():
    symbolic = BatchNorm(axis=1)(keras.Input((4, 6), dtype="float32"))
    assert symbolic.shape == (None, 4, 6)
    assert BatchNorm().compute_output_shape((None, 3)) == (None, 3)


@pytest.mark.parametrize(
    ("options", "shape", "complaint"),
    [
        ({"axis": (1, 2)}, (2, 3), r"axis must be one integer. Received: axis=\(1, 2\)"),
        ({"axis": 2}, (2, 3), r"axis must be in \[-2, 2\)"),
        ({"axis": 1}, (2, None), "must have a known size"),
        ({"momentum": 1.5}, (2, 3), "momentum must be in"),
        ({"epsilon": 0.0}, (2, 3), "epsilon must be positive"),
    ],
)
def test_wrong_arguments_are_named(options, shape, complaint):
    with pytest.raises(ValueError, match=complaint):
        BatchNorm(**options).build(shape)


class BatchMomentsAlways(keras.layers.Layer):
    """What the source article's layer does: the batch's own statistics, at inference too."""

    def call(self, x):
        mean, variance = keras.ops.moments(x, axes=[0])
        return (x - mean) / keras.ops.sqrt(variance + 1e-3)


def test_statistics_of_the_batch_at_inference_spoil_small_batches_and_ours_do_not():
    generator = np.random.default_rng(0)
    labels = generator.integers(4, size=2048)
    x = np.eye(4)[labels].astype(np.float32) + generator.normal(0, 0.4, (2048, 4))

    def accuracies(layer):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), layer, keras.layers.Dense(4)])
        model.compile(
            keras.optimizers.Adam(0.05),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(x[:1024], labels[:1024], batch_size=32, epochs=4, verbose=0)
        tested, expected = x[1024:].astype(np.float32), labels[1024:]
        found = {}
        for size in (1, 2, 8, 1024):
            batches = tested.reshape(-1, size, 4)[:256]
            logits = np.concatenate([model(batch, training=False) for batch in batches])
            found[size] = float(np.mean(logits.argmax(1) == expected[: len(logits)]))
        return found

    theirs, ours = accuracies(BatchMomentsAlways()), accuracies(BatchNorm())
    assert theirs[1] < 0.4  # one constant answer, whatever is asked
    assert theirs[2] < theirs[8] - 0.05
    assert min(ours.values()) > max(ours.values()) - 0.03
    assert min(ours.values()) > 0.85


REPLICAS = """
import numpy as np, tensorflow as tf
from bnpipe.components.network.batch_norm import BatchNorm

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
x = np.random.default_rng(0).normal(1000, 2, (8, 3)).astype(np.float32)
x[:, 0] *= np.arange(8)
weights = np.arange(24, dtype=np.float32).reshape(8, 3) % 5

def run(layer, x, weights):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(weights * y)
    return y, tape.gradient(loss, x)

alone = BatchNorm(momentum=0.5)
y, dx = run(alone, tf.constant(x), weights)
for sizes in ((3, 5), (8, 0)):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = BatchNorm(momentum=0.5)
        layer.build((None, 3))
    def part(values):
        parts = np.split(values, [sizes[0]])
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group]))
    outputs = tf.function(lambda x, w: strategy.run(run, (layer, x, w)))(part(x), part(weights))
    for expected, received in zip((y, dx), outputs):
        joined = np.concatenate(strategy.experimental_local_results(received))
        np.testing.assert_allclose(joined, expected, rtol=1e-3, atol=1e-3)
    for expected, received in zip(alone.non_trainable_variables, layer.non_trainable_variables):
        for replica in strategy.experimental_local_results(received.value):
            np.testing.assert_allclose(replica, expected, rtol=1e-5)
print("equal")
"""


def test_a_batch_split_among_replicas_is_normalised_as_a_whole():
    result = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "equal", result.stderr[-3000:]
