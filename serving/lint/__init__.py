"""Static lint of a SavedModel: everything that can be known before anything loads it.

Nothing of the model runs here. What is read is bounded: first names and sizes of files, then the
graph, then variables and warmup requests. Importing this package is light; `lint` needs TensorFlow
for its messages.
"""

from __future__ import annotations

from pathlib import Path

from serving.lint.finding import Finding

__all__ = ["Finding", "lint"]


def lint(folder: Path) -> list[Finding]:
    """What is wrong with a SavedModel; empty if nothing is.

    Args:
        folder: the version's folder, with `saved_model.pb` at its top.
    """
    from serving.lint.files import check_files

    found = check_files(folder)
    if found:  # what may be a link or a gigabyte is not opened
        return found

    from serving.lint.graph import check_graph, read_graph
    from serving.lint.signatures import check_signatures
    from serving.lint.variables import check_variables
    from serving.lint.warmup import check_warmup

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
