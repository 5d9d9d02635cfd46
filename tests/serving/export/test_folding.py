import numpy as np
import pytest

from bnpipe.serving.export.folding import (
    BatchNormalization,
    Dense,
    LayerNormalization,
    Relu,
    compare,
    fold,
)


def random_dense(generator, name, inputs, units, dtype=np.float32):
    kernel = generator.normal(size=(inputs, units)).astype(dtype)
    return Dense(name, kernel, generator.normal(size=units).astype(dtype))


def random_norm(generator, name, units, variance=None):
    def vector(low, high):
        return generator.uniform(low, high, units).astype(np.float32)

    variance = vector(0, 4) if variance is None else np.full(units, variance, np.float32)
    return BatchNormalization(
        name, vector(-2, 2), vector(-1, 1), vector(-3, 3), variance, epsilon=1e-3
    )


def apply(layers, x):
    """The network in float64, straight from the definitions of the layers."""
    x = x.astype(np.float64)
    for layer in layers:
        match layer:
            case Dense():
                x = x @ layer.kernel.astype(np.float64) + layer.bias
            case BatchNormalization():
                deviation = np.sqrt(layer.variance.astype(np.float64) + layer.epsilon)
                x = layer.gamma * (x - layer.mean) / deviation + layer.beta
            case Relu():
                x = np.maximum(x, 0)
    return x


def test_the_folded_network_gives_the_same_answers():
    generator = np.random.default_rng(0)
    layers = [
        random_dense(generator, "hidden_1", 30, 16),
        random_norm(generator, "norm_1", 16),
        Relu("relu_1"),
        random_dense(generator, "hidden_2", 16, 8),
        random_norm(generator, "norm_2", 8),
        Relu("relu_2"),
        random_dense(generator, "logits", 8, 5),
    ]
    result = fold(layers)
    assert result.folded == ("norm_1", "norm_2")
    assert result.left == ()
    assert [layer.name for layer in result.layers] == [
        "hidden_1", "relu_1", "hidden_2", "relu_2", "logits",
    ]  # fmt: skip
    x = generator.random((500, 30))
    expected = apply(layers, x)
    np.testing.assert_allclose(apply(result.layers, x), expected, atol=2e-6 * abs(expected).max())


def test_folding_is_done_in_float64_and_rounded_once():
    generator = np.random.default_rng(1)
    dense, norm = random_dense(generator, "hidden", 50, 20), random_norm(generator, "norm", 20)
    (folded,) = fold([dense, norm]).layers
    scale = norm.gamma.astype(np.float64) / np.sqrt(norm.variance.astype(np.float64) + norm.epsilon)
    kernel = dense.kernel.astype(np.float64) * scale
    assert folded.kernel.dtype == folded.bias.dtype == np.float32
    np.testing.assert_array_equal(folded.kernel, kernel.astype(np.float32))


def test_a_dead_unit_stays_finite():
    generator = np.random.default_rng(2)
    dense, norm = random_dense(generator, "hidden", 3, 2), random_norm(generator, "norm", 2, 0.0)
    (folded,) = fold([dense, norm]).layers
    assert np.isfinite(folded.kernel).all()
    assert np.abs(folded.kernel).max() <= np.abs(dense.kernel * norm.gamma).max() / 1e-3**0.5 + 1e-6


def test_only_a_normalisation_directly_after_a_dense_is_folded():
    generator = np.random.default_rng(3)
    dense, norm = random_dense(generator, "hidden", 3, 2), random_norm(generator, "norm", 2)
    first, second = random_norm(generator, "first", 2), random_norm(generator, "second", 2)
    layer_norm = LayerNormalization("layer_norm", np.ones(2), np.zeros(2), 1e-3)

    after_activation = fold([dense, Relu("relu"), norm])
    assert after_activation.layers == (dense, Relu("relu"), norm)
    assert (after_activation.folded, after_activation.left) == ((), ("norm",))
    assert fold([norm, dense]).left == ("norm",)
    assert fold([dense, layer_norm]).layers == (dense, layer_norm)
    twice = fold([dense, first, second])
    assert twice.folded == ("first", "second")
    x = generator.random((9, 3))
    np.testing.assert_allclose(apply(twice.layers, x), apply([dense, first, second], x), rtol=1e-4)


def test_compare_tells_a_near_tie_from_a_changed_answer():
    expected = np.float32([[0.5000001, 0.4999999, 0.0], [0.7, 0.2, 0.1]])
    tie = compare(expected, np.float32([[0.4999999, 0.5000001, 0.0], [0.7, 0.2, 0.1]]))
    assert tie.changed == 1
    assert tie.within(1e-5)
    changed = compare(expected, np.float32([[0.5000001, 0.4999999, 0.0], [0.2, 0.7, 0.1]]))
    assert changed.max_changed_margin == pytest.approx(0.5)
    assert not changed.within(1e-5)


def test_two_parts_agree_as_their_rows_together():
    generator = np.random.default_rng(0)
    expected, received = generator.dirichlet(np.ones(3), (2, 90))
    whole = compare(expected, received)
    assert (
        compare(expected[:20], received[:20]).joined(compare(expected[20:], received[20:])) == whole
    )
    assert whole.changed and whole.max_changed_margin
    wrong = compare(np.ones((1, 2)), np.full((1, 2), np.nan))
    assert not wrong.joined(whole).within(2) and not whole.joined(wrong).within(2)


def test_compare_takes_nothing_one_class_and_nan():
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).within(1e-5)
    assert compare(np.ones((4, 1)), np.ones((4, 1))).within(1e-5)
    assert not compare(np.ones((1, 2)), np.full((1, 2), np.nan)).within(1e-5)
