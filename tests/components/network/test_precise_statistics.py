"""Statistics of the whole split in the place of moving averages."""

import keras
import numpy as np

from bnpipe.components.network import network
from bnpipe.components.network.examples import InMemory
from bnpipe.components.network.precise_statistics import estimate_statistics
from bnpipe.components.trainer import Params

SMALL = Params(hidden_units=(8, 6), batch_size=20, epochs=3)


def blob_split(make_blobs, size, split="train"):
    features, labels = make_blobs({split: size})[split]
    return InMemory(features, labels.astype(np.int32))


def test_precise_statistics_are_those_of_the_whole_split(make_blobs):
    train = blob_split(make_blobs, 203)
    model = network.build(train.features.shape[1], 3, SMALL)
    estimate_statistics(model, train)
    for name in ("hidden_1", "hidden_2"):
        inputs = keras.Model(model.input, model.get_layer(name).output)(train.features).numpy()
        normalization = model.get_layer(f"{name}_normalization")
        np.testing.assert_allclose(normalization.moving_mean, inputs.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(normalization.moving_variance, inputs.var(0), rtol=1e-4)
