"""`model_card.json`: the model's origin, network and metrics, for programs to read."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from bnpipe.components.base import key_params
from bnpipe.components.network.params import Params
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.json_text import json_text

FORMAT = 1


def model_card(
    info: DatasetInfo,
    input_digests: Mapping[str, str],
    params: Params,
    net: keras.Model,
    metrics: Mapping[str, float | None],
    folded: tuple[str, ...],
) -> dict[str, Any]:
    """The model card. It holds nothing that differs between equal runs.

    Args:
        info: the data set.
        input_digests: digests of the step's inputs, by field.
        params: the component's parameters.
        net: the trained model.
        metrics: the final metrics.
        folded: names of the normalisations that were folded for serving.
    """
    return {
        "format": FORMAT,
        "dataset": {**asdict(info), "digest": input_digests.get("examples", "")},
        # The digest of a Model: its card names the one before it, back to a cold start.
        "warm_started_from": input_digests.get("start"),
        "network": [
            {"name": each.name, "kind": type(each).__name__, "parameters": each.count_params()}
            for each in net.layers
        ],
        "parameters": net.count_params(),
        "folded_for_serving": folded,
        "params": key_params(params),
        "metrics": dict(metrics),
        "versions": {
            "python": platform.python_version(),
            **{library: version(library) for library in ("tensorflow", "keras", "numpy")},
        },
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON with its keys in order."""
    path.write_text(json_text(content, indent=2, sort_keys=True) + "\n")
