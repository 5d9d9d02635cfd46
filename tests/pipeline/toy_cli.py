"""`bnpipe` over the toy graph: `python -m tests.pipeline.toy_cli run ...`.

The toy's input file is named by `TOY_FILE`; `trainer.epochs` is its rate, and `TOY_REFUSE` makes
its gate say no. All else, configuration, store and verbs, is the product's own.
"""

import os
import sys
from pathlib import Path

from bnpipe.pipeline import definition, launch
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.publishing import served_folder
from bnpipe.pipeline.engine.graph import Graph
from tests.toy_graph import toy_graph


def build(config: Config, home: Path) -> Graph:
    """In place of `pipeline.definition.build`."""
    return toy_graph(
        Path(os.environ["TOY_FILE"]),
        served_folder(config, home),
        rate=config.trainer.epochs,
        passes=not os.environ.get("TOY_REFUSE"),
    )


if __name__ == "__main__":
    from bnpipe.pipeline.cli import main
    from bnpipe.pipeline.schedule import child

    child.COMMAND = (sys.executable, "-m", "tests.pipeline.toy_cli")
    definition.build = launch.build = build
    main()
