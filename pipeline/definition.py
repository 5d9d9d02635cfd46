"""The whole product on one screen: what is run, on what, in which order."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

from components import (
    evaluator,
    example_gen,
    example_validator,
    pusher,
    statistics_gen,
    trainer,
    transform,
)
from components.artifacts import Model, ServedModel, Statistics
from pipeline.champion import champion_of, champion_statistics_of, model_of_version
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.graph import Graph
from serving.errors import ServingError
from serving.names import check_model_name, default_model_name
from serving.rollout import Rollout
from serving.server_files import ServerFiles
from serving.signing import load_keys

CANDIDATE = "trainer.model"


def served_folder(config: Config, home: Path) -> Path:
    """The folder that models are published to."""
    return (
        Path(config.serving.base_path or home / "served" / model_name(config))
        .expanduser()
        .absolute()
    )


def model_name(config: Config) -> str:
    """The name that clients ask for: configured, else the data set's."""
    name = config.serving.model_name or default_model_name(config.data.dataset)
    try:
        check_model_name(name)
    except ServingError as error:  # told now, not after an hour of training
        raise ConfigError(error.headline, hint=error.hint) from None
    return name


def pusher_params(config: Config, home: Path) -> pusher.Params:
    """Where and how models are published."""
    return pusher.Params(
        base_path=str(served_folder(config, home)),
        model_name=model_name(config),
        keep_versions=config.serving.keep_versions,
        servers=servers(config),
        server_wait_seconds=config.serving.server_wait_seconds,
        signing_key=config.serving.signing_key or "",
        verify_key=config.serving.verify_key or "",
        server_files=server_files(config),
    )


def rollout(config: Config, home: Path) -> Rollout:
    """How labels are moved: in the served folder and on the running servers."""
    _, verifier = load_keys(config.serving.signing_key, config.serving.verify_key)
    return Rollout(
        served_folder(config, home), servers(config), config.serving.server_wait_seconds, verifier
    )


def servers(config: Config) -> tuple[str, ...]:
    """Addresses of the running servers."""
    named = config.serving.server_url
    addresses = (named,) if isinstance(named, str) else named
    for address in addresses:
        if not re.fullmatch(r"(https?|grpc)://[^/\s]+(/\S*)?", address):
            raise ConfigError(
                f"serving.server_url: expected http://HOST:PORT or grpc://HOST:PORT, "
                f"received {address!r}"
            )
    return addresses


def server_files(config: Config) -> ServerFiles:
    """What monitoring.config and batching.config say."""
    fields = (f.name for f in dataclasses.fields(ServerFiles))
    try:
        return ServerFiles(**{name: getattr(config.serving, name) for name in fields})
    except ServingError as error:
        raise ConfigError(error.headline, hint=error.hint) from None


def evaluator_params(config: Config) -> evaluator.Params:
    """What is judged; with spans, each of them is a slice of its own."""
    slices = config.evaluator.slices
    if config.data.spans is None or "span" in slices:
        return config.evaluator
    return replace(config.evaluator, slices=(*slices, "span"))


def build(config: Config, home: Path) -> Graph:
    """The pipeline: MNIST from TFDS to a served model, judged against its twin without BN."""
    g = Graph()
    served = served_folder(config, home)
    training = replace(config.trainer, fold_batch_norm=config.serving.fold_batch_norm)
    without_bn = replace(training, normalization="none", warm_start=None)

    examples = g.add(example_gen.COMPONENT, example_gen.Inputs(), config.data).examples
    statistics = g.add(
        statistics_gen.COMPONENT, statistics_gen.Inputs(examples=examples), statistics_gen.Params()
    ).statistics
    champion_data = g.external(
        "champion_data", Statistics, champion_statistics_of(served, home), candidate=CANDIDATE
    )
    g.add(
        example_validator.COMPONENT,
        example_validator.Inputs(
            examples=examples, statistics=statistics, champion_statistics=champion_data
        ),
        replace(config.validator, schema=config.data.schema),
    )
    digits = g.add(
        transform.COMPONENT, transform.Inputs(examples=examples), config.transform
    ).transformed
    start = None
    if training.warm_start is not None:
        start = g.external("warm_start", Model, model_of_version(served, home, training.warm_start))
    candidate = g.add(
        trainer.COMPONENT, trainer.Inputs(examples=digits, start=start), training
    ).model
    baseline = g.add(
        trainer.COMPONENT, trainer.Inputs(examples=digits), without_bn, name="baseline"
    ).model
    champion = g.external("champion", ServedModel, champion_of(served), candidate=CANDIDATE)
    evaluation = g.add(
        evaluator.COMPONENT,
        evaluator.Inputs(digits, candidate, baseline, champion),
        evaluator_params(config),
    )
    g.add(
        pusher.COMPONENT,
        pusher.Inputs(candidate, evaluation.blessing),
        pusher_params(config, home),
    )
    return g
