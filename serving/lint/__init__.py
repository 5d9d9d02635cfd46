"""Static lint of a SavedModel: everything that can be known before anything loads it.

Nothing of the model runs here. What is read is bounded: first names and sizes of files, then the
graph, then variables and warmup requests. Importing this package is light; `lint` needs TensorFlow
for its messages.
"""

from __future__ import annotations

from pathlib import Path

from bnpipe.serving.lint.finding import Finding

__all__ = ["Finding", "lint"]


def lint(folder: Path) -> list[Finding]:
    """What is wrong with a SavedModel; empty if nothing is.

    Args:
        folder: the version's folder, with `saved_model.pb` at its top.
    """
    from bnpipe.serving.lint.files import check_files

    found = check_files(folder)
    if found:  # what may be a link or a gigabyte is not opened
        return found

    from bnpipe.serving.lint.graph import check_graph, read_graph
    from bnpipe.serving.lint.signatures import check_signatures
    from bnpipe.serving.lint.variables import check_variables
    from bnpipe.serving.lint.warmup import check_warmup

    graph, found = read_graph(folder)
    if graph is None:
        return found
    return [
        *found,
        *check_graph(folder, graph),
        *check_signatures(graph),
        *check_variables(folder, graph),
        *check_warmup(folder, graph),
    ]
