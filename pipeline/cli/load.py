"""`bnpipe load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from
from bnpipe.pipeline.cli.predict import DEFAULT_URL
from bnpipe.pipeline.errors import ExitCode

if TYPE_CHECKING:
    from bnpipe.serving.client import Arrays, Client, Prediction


def load(
    url: Annotated[
        str, typer.Option(help="http://HOST:PORT, or grpc://HOST:PORT for gRPC.")
    ] = DEFAULT_URL,
    rate: Annotated[float, typer.Option(min=0.1, max=10_000, help="Requests a second.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="For how long.")] = 10.0,
    connections: Annotated[
        int, typer.Option(min=1, max=512, help="Requests under way at most.")
    ] = 32,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Images in a request.")] = 1,
    model: Annotated[str | None, typer.Option(help="By default serving.model_name.")] = None,
    label: Annotated[
        str, typer.Option(help="Whose version to ask; '' for the highest version.")
    ] = "stable",
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for one request.")] = 10.0,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> int:
    """Send PNG images at a constant rate; exit 7 if a request fails.

    Latencies count from when a request was due, so a server that stalls is charged for all the
    requests of that time. Nothing is sent twice.
    """
    from bnpipe.pipeline import ui
    from bnpipe.pipeline.definition import model_name
    from bnpipe.serving.client import Options, connect
    from bnpipe.serving.load import run

    name = model or model_name(config_from(config, sets))
    with connect(url, name, Options(timeout=timeout, attempts=1)) as client:
        images = _images(client, batch)

        def ask() -> Prediction:
            return client.predict(images, signature="serve_png", label=label or None)

        ask()  # nobody answers, or the label is unknown: said once, at once
        report = run(ask, rate=rate, seconds=seconds, connections=connections)
    found = report.summary()
    if as_json:
        ui.write_json({"url": url, "model": name, "batch": batch, **found})
    else:
        _show(found)
    return ExitCode.SERVING if found["failed"] else ExitCode.OK


def _images(client: Client, batch: int) -> Arrays:
    import numpy as np

    from bnpipe.data.png import encode_stored

    signatures = client.metadata()["metadata"]["signature_def"]["signature_def"]
    dims = signatures["serve_images"]["inputs"]["images"]["tensor_shape"]["dim"]
    size = [int(dim["size"]) for dim in dims[1:]]
    images = np.random.default_rng(0).integers(0, 256, (batch, *size), np.uint8)
    return {"image_bytes": np.array([encode_stored(image) for image in images], np.object_)}


def _show(found: dict[str, Any]) -> None:
    from bnpipe.pipeline import ui

    times = found["milliseconds"]
    ui.table(
        ("requests", "failed", "sent late", *(f"{name} ms" for name in times)),
        [
            (
                str(found["requests"]),
                str(found["failed"]),
                str(found["sent_late"]),
                *(f"{value:.1f}" for value in times.values()),
            )
        ],
    )
    for error, count in found["errors"].items():
        ui.say(f"{count} failed: {error}", style="red")
    if found["sent_late"]:
        ui.say("sent late: all connections were waiting (--connections), or this machine is busy")
