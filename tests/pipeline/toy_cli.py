"""`bnpipe` over the toy graph: `python -m tests.pipeline.toy_cli run ...`.

The toy's input file is named by `TOY_FILE`; `trainer.epochs` is its rate, and `TOY_REFUSE` makes
its gate say no. All else, configuration, store and verbs, is the product's own.
"""

import os
import sys
from pathlib import Path

from pipeline import definition, launch
from pipeline.config import Config
from pipeline.graph import Graph
from tests.toy_graph import toy_graph


def build(config: Config, home: Path) -> Graph:
    """In place of `pipeline.definition.build`."""
    return toy_graph(
        Path(os.environ["TOY_FILE"]),
        definition.served_folder(config, home),
        rate=config.trainer.epochs,
        passes=not os.environ.get("TOY_REFUSE"),
    )


if __name__ == "__main__":
    from pipeline.cli import main
    from pipeline.schedule import child

    child.COMMAND = (sys.executable, "-m", "tests.pipeline.toy_cli")
    definition.build = launch.build = build
    main()
