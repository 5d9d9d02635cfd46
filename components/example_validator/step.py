"""example_validator: the gate that data must pass before anything is trained on it.

The statistics of every split are held against a schema, against each other and, when there is a
champion, against the data that it was trained on. A check blocks, warns or is off, as config says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnpipe.components.artifacts import Anomalies, Examples, Statistics
from bnpipe.components.base import Component, Context, Facts
from bnpipe.components.example_validator.params import Params
from bnpipe.data.digest import file_sha256
from bnpipe.data.errors import RequestError

SCHEMA = "data/statistics/schema.pbtxt"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The data to check, and the statistics of what the champion was trained on."""

    examples: Examples
    statistics: Statistics
    champion_statistics: Statistics | None = None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The verdict."""

    anomalies: Anomalies


def probe(params: Params, cache: Path) -> Mapping[str, str]:
    """Names the schema file that the user gave: its bytes count, not its place.

    Raises:
        RequestError: the file cannot be read.
    """
    if params.schema is None:
        return {}
    try:
        return {"schema": file_sha256(Path(params.schema))}
    except OSError as error:
        raise RequestError(
            f"data.schema: cannot read {params.schema}: {error.strerror}",
            hint=f"{SCHEMA} is an example",
        ) from error


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Checks the data and writes the verdict. Bad data is a verdict, not an exception.

    Raises:
        DataError: the schema or a statistics artifact cannot be read.
    """
    # numpy, scipy and protobuf are not needed to plan a run.
    from bnpipe.components.example_validator.work import validate

    return validate(inputs, outputs, params, ctx)


COMPONENT = Component(
    "example_validator", Inputs, Outputs, Params, run, gate=True, probe=probe, data_files=(SCHEMA,)
)
