"""`history.json` and `model_card.json`: what the model is, in a form that programs can read."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from bnpipe.components.base import key_params
from bnpipe.components.network.checkpoint import Position
from bnpipe.components.network.params import Params
from bnpipe.data.dataset_info import DatasetInfo

FORMAT = 1
LIBRARIES = ("tensorflow", "keras", "numpy")


def write_history(path: Path, position: Position) -> None:
    """Writes the metrics of every epoch.

    Args:
        path: the file.
        position: where training ended.
    """
    write_json(
        path,
        {
            "epochs": position.history,
            "best_epoch": position.best_epoch or None,
            "stopped_early": position.stopped,
        },
    )


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
            **{library: version(library) for library in LIBRARIES},
        },
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON with its keys in order; NaN is an error."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")
