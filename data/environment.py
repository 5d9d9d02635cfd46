"""The versions of the libraries that shape bytes: part of every step key."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

LIBRARIES = (
    "tensorflow",
    "keras",
    "numpy",
    "apache-beam",
    "tensorflow-datasets",
    "tensorflow-model-analysis",
    "tfx-bsl",
    "tensorflow-metadata",
    "scipy",
    "pillow",
    "matplotlib",
)


@functools.cache
def environment() -> dict[str, str]:
    """Versions that are part of every key; a library that is missing is named so."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    return versions
