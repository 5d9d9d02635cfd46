"""The section `serving` of the configuration: where models go, who follows, keys."""

from __future__ import annotations

import dataclasses
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from bnpipe.components import pusher
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder.bucket import require_package
from bnpipe.serving.folder.names import check_model_name, default_model_name, plain_path
from bnpipe.serving.folder.object_store import is_url
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.folder.server_files import ServerFiles
from bnpipe.serving.folder.signing import load_keys, load_verifier


def served_folder(config: Config, home: Path) -> Path:
    """The folder that models are published to; with an object store, what is mirrored there.

    Raises:
        ConfigError: the model's name is none.
        RequestError: TensorFlow would not find the folder by its path.
    """
    configured = config.serving.base_path
    if configured is None or is_url(configured):
        return plain_path((home / "served" / model_name(config)).absolute(), "served folder")
    return plain_path(Path(configured).absolute(), "serving.base_path")


def store_url(config: Config) -> str:
    """The object store that models are published to; empty if it is a folder."""
    configured = config.serving.base_path or ""
    return configured.rstrip("/") if is_url(configured) else ""


def model_name(config: Config) -> str:
    """The name that clients ask for: configured, else the data set's.

    Raises:
        ConfigError: it is no name for a model.
    """
    name = config.serving.model_name or default_model_name(config.data.dataset)
    try:
        check_model_name(name)
    except ServingError as error:  # told now, not after an hour of training
        raise ConfigError(error.headline, hint=error.hint) from None
    return name


def pusher_params(config: Config, home: Path) -> pusher.Params:
    """The parameters of the pusher.

    Raises:
        ConfigError: the model's name, an address or the server's settings are wrong.
    """
    return pusher.Params(
        base_path=str(served_folder(config, home)),
        model_name=model_name(config),
        keep_versions=config.serving.keep_versions,
        servers=servers(config),
        canary=_has_canary(config),
        store_url=store_url(config),
        server_wait_seconds=config.serving.server_wait_seconds,
        signing_key=config.serving.signing_key or "",
        verify_keys=_several(config.serving.verify_key),
        server_files=server_files(config),
    )


def rollout(config: Config, home: Path) -> Rollout:
    """The means of moving labels: in the served folder and on the running servers.

    Raises:
        ConfigError: the model's name or an address is wrong.
        ServingError: a key cannot be read.
    """
    verifier = load_verifier(config.serving.signing_key, _several(config.serving.verify_key))
    return Rollout(
        served_folder(config, home),
        servers(config),
        config.serving.server_wait_seconds,
        verifier,
        store_url(config),
    )


def traffic_log(config: Config, home: Path) -> Path:
    """The folder that nginx logs requests to."""
    return Path(config.deploy.traffic_log or home / "traffic").absolute()


def check_target(config: Config) -> None:
    """Look at the keys and the package that a push would need; nothing is opened.

    Raises:
        ConfigError: a key cannot be read, is of another kind, or does not belong to the other; or
            the kind of object store is unknown here.
    """
    try:
        if store_url(config):
            require_package(store_url(config))
        load_keys(config.serving.signing_key, _several(config.serving.verify_key))
    except ServingError as error:
        raise ConfigError(error.headline, hint=error.hint) from None


def _has_canary(config: Config) -> bool:
    """True when new versions are tried as canary first."""
    if config.serving.rollout == "direct":
        return False
    if not servers(config):
        raise ConfigError(
            "serving.rollout is canary, but no server is named that could be asked",
            hint="--set serving.server_url=http://HOST:8501, or serving.rollout=direct",
        )
    return True


def servers(config: Config) -> tuple[str, ...]:
    """Addresses of the running servers.

    Raises:
        ConfigError: one of them is none.
    """
    addresses = _several(config.serving.server_url)
    for address in addresses:
        if not re.fullmatch(r"(https?|grpc)://[^/\s,]+(/[^\s,]*)?", address) or not _host(address):
            raise ConfigError(
                f"serving.server_url: expected http://HOST:PORT or grpc://HOST:PORT, "
                f"received {address!r}",
                hint="several are a list: [http://A:8501, http://B:8501]",
            )
    return addresses


def _host(address: str) -> str | None:
    """The host of an address, if that and its port are such."""
    with suppress(ValueError):
        parts = urlsplit(address)
        return parts.hostname if parts.port != 0 else None
    return None


def server_files(config: Config) -> ServerFiles:
    """The settings in monitoring.config and batching.config.

    Raises:
        ConfigError: they contradict one another.
    """
    fields = (f.name for f in dataclasses.fields(ServerFiles))
    try:
        return ServerFiles(**{name: getattr(config.serving, name) for name in fields})
    except ServingError as error:
        raise ConfigError(error.headline, hint=error.hint) from None


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """One text, or a list of them."""
    return (value,) if isinstance(value, str) else value
