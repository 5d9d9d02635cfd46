"""A SavedModel, loaded: its signatures run in a session, as TF Serving runs them.

A session skips the checks that Python would add, so a wrong request meets the same kernels and
fails with the same texts. Heavy: imports TensorFlow.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2

from bnpipe.serving.local.status import Code, StatusError, invalid, not_found


def dtype_name(dtype: int) -> str:
    """A type as TensorFlow's errors spell it: `float`, `uint8`, `string`."""
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


class Servable:
    """One loaded version.

    Args:
        path: the SavedModel's folder.

    Attributes:
        signatures: `SignatureDef` by name.

    Raises:
        StatusError: it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        if not any((path / name).is_file() for name in ("saved_model.pb", "saved_model.pbtxt")):
            raise not_found(
                "Specified file path does not appear to contain a SavedModel bundle (should have "
                f"a file called `saved_model.pb`)\nSpecified file path: {path}"
            )
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph)
        try:
            with graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self._session, {"serve"}, str(path))
        except RuntimeError as error:  # its message names the tags that there are
            self._session.close()
            raise not_found(
                "Could not find meta graph def matching supplied tags: { serve }. To inspect "
                "available tag-sets in the SavedModel, please use the SavedModel CLI: "
                "`saved_model_cli`"
            ) from error
        except (tf.errors.OpError, OSError, ValueError) as error:
            self._session.close()
            if isinstance(error, tf.errors.OpError):
                raise StatusError(Code(error.error_code), error.message) from error
            text = f"Can't parse {path}/saved_model.pb as binary proto"
            raise StatusError(Code.DATA_LOSS, text) from error
        self.signatures: Mapping[str, Any] = dict(loaded.signature_def)
        self._lock = threading.Lock()
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}

    def run(self, feeds: Mapping[str, Any], fetches: Sequence[str]) -> list[Any]:
        """Compute tensors from other tensors, all by their names in the graph.

        Raises:
            StatusError: a kernel's error.
        """
        try:
            return list(self._callable(tuple(feeds), tuple(fetches))(*feeds.values()))
        except tf.errors.OpError as error:
            raise StatusError(Code(error.error_code), error.message) from error
        except (TypeError, ValueError) as error:
            raise invalid(str(error)) from error

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        with self._lock:
            if (feeds, fetches) not in self._callables:
                options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
                # The public make_callable compares shapes in Python before the kernels see them.
                function = self._session._make_callable_from_options(options)
                self._callables[feeds, fetches] = function
            return self._callables[feeds, fetches]

    def close(self) -> None:
        """Give the session back."""
        self._callables.clear()
        self._session.close()
