"""Warm start: the weights of an earlier model in the place of random ones."""

from __future__ import annotations

import h5py
import keras
import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import Model
from bnpipe.components.network.params import TrainingError

Weights = dict[str, list[npt.NDArray[np.floating]]]


def take_weights(net: keras.Model, start: Model) -> None:
    """Sets all weights of a network, moving statistics included, to those of another model.

    The optimizer's state and the random numbers of dropout are not weights: they start afresh.

    Raises:
        TrainingError: the models differ in a layer that has weights.
    """
    stored = _read(start)
    layers = {layer.name: layer for layer in net.layers if layer.weights}
    for name in dict.fromkeys([*layers, *stored]):
        expected = [tuple(w.shape) for w in layers[name].weights] if name in layers else []
        received = [array.shape for array in stored.get(name, [])]
        if expected != received:
            raise TrainingError(
                f"the model to start from is another network: expected {name} with "
                f"{_described(expected)}, received {_described(received)}",
                hint="train the network of that version (its trainer section), or start cold: "
                "--set trainer.warm_start=null",
            )
    for name, layer in layers.items():
        for variable, array in zip(layer.weights, stored[name], strict=True):
            variable.assign(array)


def _read(model: Model) -> Weights:
    """The arrays of every layer by its name.

    Not `load_weights`: it goes by the order of layers of one class, and may leave out, with no
    more than a warning, those that it does not recognise.
    """
    weights: Weights = {}
    with h5py.File(model.path / "training.weights.h5") as file:
        for group in file["layers"].values():
            arrays = group["vars"]
            if len(arrays):
                names = sorted(arrays, key=int)
                weights[str(arrays.attrs["name"])] = [arrays[name][()] for name in names]
    return weights


def _described(shapes: list[tuple[int, ...]]) -> str:
    """E.g. `784x64 and 64`."""
    return " and ".join("x".join(map(str, shape)) for shape in shapes) or "no weights"
