"""`bnpipe graph`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Sets, config_from, open_store


class Format(StrEnum):
    """The forms of a drawn graph."""

    ascii = "ascii"
    mermaid = "mermaid"
    dot = "dot"
    json = "json"


def graph(
    form: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.ascii,
    sets: Sets = None,
    config: ConfigFile = None,
) -> None:
    """Draw the pipeline: steps, what flows between them, gates."""
    from bnpipe.pipeline.definition import build
    from bnpipe.pipeline.engine.drawing import draw

    ui.write(draw(build(config_from(config, sets), open_store().home), form.value))
