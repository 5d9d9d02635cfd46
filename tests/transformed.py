"""One split of TransformedExamples, whole."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bnpipe.data.records.examples import TransformedSplit, read_blocks


def read_transformed(shards: Sequence[Path], *, features: bool = True) -> TransformedSplit:
    """Reads a split that has images into memory; see `read_blocks`."""
    return next(read_blocks(shards, sys.maxsize, features=features))
