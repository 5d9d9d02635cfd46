"""A check that a TFDS data set suits the pipeline, before anything runs.

Only TFDS knows shapes, labels and configurations. Importing it takes longer than `plan` may, so
it is asked in a process of its own, and not for sets that are known to fit or prepared already.
Standard library only: `python -m bnpipe.data.sources.dataset_check <data set>` is that process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bnpipe.data.errors import DataError, DataRequestError
from bnpipe.data.json_text import json_text
from bnpipe.data.sources.checksums import RENDERED, check_dataset_name

FIT = frozenset(
    {RENDERED, "mnist", "fashion_mnist", "kmnist"}
    | {f"emnist/{name}" for name in ("byclass", "bymerge", "balanced", "letters", "digits")}
    | {"emnist/mnist"}
)
"""Data sets of one channel with a label, as TFDS describes them."""

_SECONDS = 60.0


def check_suits(dataset: str, cache: Path) -> None:
    """Checks that a data set exists and holds labelled images of one size and one channel.

    Args:
        dataset: TFDS name.
        cache: the folder that `sources.tfds_source.prepare` prepares data sets in.

    Raises:
        DataRequestError: it does not exist, has no such configuration, or holds something else.
    """
    check_dataset_name(dataset)
    if dataset in FIT or (cache / "tfds" / dataset).is_dir():
        return
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-m", __name__, dataset],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
        complaint = json.loads(asked.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return  # example_gen asks again, and its log has the reason
    if complaint:
        raise DataRequestError(complaint["headline"], hint=complaint["hint"])


def main() -> None:
    """Writes what is wrong with a data set as JSON, `{}` when nothing is."""
    from bnpipe.data.sources.tfds_source import find, image_and_label

    complaint = {}
    try:
        image_and_label(find(sys.argv[1], Path("unprepared")))
    except DataError as error:
        complaint = {"headline": error.headline, "hint": error.hint}
    sys.stdout.write(json_text(complaint) + "\n")


if __name__ == "__main__":
    main()
