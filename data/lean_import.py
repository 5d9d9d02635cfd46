"""TensorFlow and Beam, imported without what they load only to show things in a notebook.

Keras takes matplotlib and IPython, and Beam, by way of BigQuery's progress bars, ipywidgets, where
they are installed, as they are with TensorFlow Model Analysis: a sixth of the processor time of
these imports, for functions that nothing here calls. Each does without them where they are not.
(TensorFlow Model Analysis does not: it loads its widgets still.) So while one of the three is being
imported, they are not to be found; `None` in `sys.modules` is Python's way to say so. That lasts:
`plot_image_gallery` of this Keras says that there is no matplotlib. So it is for processes that are
the pipeline's own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

HEAVY = frozenset({"apache_beam", "keras", "tensorflow"})
ONLY_SHOWN = ("IPython", "ipywidgets", "matplotlib")


def install() -> None:
    """From now on; what the process has imported already stays."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in HEAVY:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def lean(module: ModuleType) -> None:
            with _hidden():
                execute(module)

        loader.exec_module = lean
        return spec


@contextmanager
def _hidden() -> Iterator[None]:
    names = [name for name in ONLY_SHOWN if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            if sys.modules.get(name) is None:  # not another thread's, meanwhile
                sys.modules.pop(name, None)
