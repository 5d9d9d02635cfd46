"""The models that a server serves: `ModelServerConfig`, from a file or over gRPC."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnpipe.serving.folder.names import parse_version
from bnpipe.serving.local.status import invalid


@dataclass(frozen=True)
class ModelEntry:
    """One model.

    Attributes:
        name: in request URLs.
        base_path: the folder with its versions.
        latest: how many of the highest versions to serve; 0 means all of them.
        specific: exactly these versions, or None.
        labels: version by label.
    """

    name: str
    base_path: str
    latest: int = 1
    specific: frozenset[int] | None = None
    labels: Mapping[str, int] = field(default_factory=dict)

    def wanted(self) -> dict[int, Path] | None:
        """The versions to serve and their folders; None to leave things as they are.

        Raises:
            OSError: the folder is not there.
        """
        if self.specific is not None:
            os.stat(self.base_path)
            paths = {v: Path(self.base_path, str(v)) for v in self.specific}
            return {v: path for v, path in paths.items() if path.exists()} or None
        # Of two names for one number the lexicographically later wins.
        names = {parse_version(name): name for name in sorted(os.listdir(self.base_path))}
        versions = sorted((v for v in names if v is not None), reverse=True)
        return {v: Path(self.base_path, names[v]) for v in versions[: self.latest or None]}


def read(path: Path) -> list[ModelEntry]:
    """The models of a configuration file.

    Raises:
        StatusError: it cannot be read, is no text proto, or is not valid.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        config = text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise invalid(f"Invalid protobuf file: '{path}': {error}") from error
    return entries(config)


def entries(config: Any) -> list[ModelEntry]:
    """The models of a `ModelServerConfig`.

    Raises:
        StatusError: it is not a list of models, or one of them is not valid.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    models = [_entry(model) for model in config.model_config_list.config]
    _check(models)
    return models


def _entry(model: Any) -> ModelEntry:
    if not model.model_platform and not model.model_type:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    return ModelEntry(
        name=model.name,
        base_path=model.base_path,
        latest=0 if choice == "all" else max(policy.latest.num_versions, 1),
        specific=frozenset(policy.specific.versions) if choice == "specific" else None,
        labels=dict(model.version_labels),
    )


def _check(models: Sequence[ModelEntry]) -> None:
    seen = set()
    for model in models:
        if model.name in seen:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
        if not os.path.isabs(model.base_path):
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={model.base_path}"
            )
