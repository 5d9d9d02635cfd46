"""`bnpipe predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, expand_path

if TYPE_CHECKING:
    from bnpipe.serving.client.base import Client

DEFAULT_URL = "http://127.0.0.1:8501"


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE.png...", help="Images.", exists=True, dir_okay=False),
    ],
    url: Annotated[
        str, typer.Option(help="http://HOST:PORT, or grpc://HOST:PORT for gRPC.")
    ] = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="By default serving.model_name.")] = None,
    label: Annotated[
        str, typer.Option(help="Whose version to ask; '' for the highest version.")
    ] = "stable",
    version: Annotated[int | None, typer.Option(help="Ask this version instead.")] = None,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for one image.")] = 10.0,
    log_to: Annotated[
        Path | None,
        typer.Option(help="Write requests and answers here, as TFRecords.", callback=expand_path),
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Ask a server for the class of images (8-bit grey PNG files of the data set's size)."""
    from bnpipe.pipeline.configuration.publishing import model_name
    from bnpipe.serving.client.base import Options
    from bnpipe.serving.client.connect import connect
    from bnpipe.serving.client.request_log import RequestLog

    log = RequestLog(log_to) if log_to else None
    name = model or model_name(config_from(config, sets))
    where = {"version": version, "label": None if version is not None else label or None}
    with connect(url, name, Options(timeout=timeout, log=log)) as client:
        predictions = [_predict(client, file, where) for file in files]
        labels = _labels(client, where)
    for row in predictions:
        row["label"] = labels[row["class_id"]]
    if as_json:
        ui.write_json({"model": name, "url": url, "predictions": predictions})
    else:
        rows = [(row["file"], row["label"], f"{row['probability']:.4f}") for row in predictions]
        ui.table(("file", "class", "probability"), rows)


def _predict(client: Client, file: Path, where: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from bnpipe.serving.client.base import ServerError

    try:
        png = file.read_bytes()
        asked = {"image_bytes": np.array([png], np.object_)}
        answer = client.predict(asked, signature="serve_png", **where)
    except ServerError as error:
        if error.status == 0:
            raise
        # The graph's own words; what follows them names its nodes.
        reason = error.first_line.removeprefix("assertion failed: ").strip("[]")
        unlabelled = reason.startswith("Unrecognized servable version label")
        hint = "ask for the highest version: --label ''" if unlabelled else error.hint
        raise ServerError(f"{file}: {reason}", hint=hint) from error
    class_id = int(answer.outputs["class_id"][0])
    return {
        "file": str(file),
        "class_id": class_id,
        "probability": float(answer.outputs["probabilities"][0, class_id]),
        "version": answer.version,
    }


def _labels(client: Client, where: dict[str, Any]) -> list[str]:
    """The class names in order of class ids, which the classify signature knows."""
    signatures = client.metadata(**where)["metadata"]["signature_def"]["signature_def"]
    features = signatures["serving_default"]["inputs"]["features"]
    width = int(features["tensor_shape"]["dim"][1]["size"])
    (row,) = client.classify([{"features": [0.0] * width}], **where)
    return [label for label, _ in row]
