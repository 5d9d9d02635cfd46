"""The whole product on one screen: what is run, on what, in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bnpipe.components import (
    cross_validation,
    evaluator,
    example_gen,
    example_validator,
    infra_validator,
    label_validator,
    pusher,
    statistics_gen,
    trainer,
    transform,
)
from bnpipe.components.artifacts import Model, ServedModel, Statistics
from bnpipe.pipeline.champion import champion_of, champion_statistics_of, model_of_version
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.publishing import pusher_params, served_folder
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.graph import Graph

CANDIDATE = "trainer.model"


def evaluator_params(config: Config) -> evaluator.Params:
    """The parameters of the evaluator; with spans, each of them is a slice of its own.

    Raises:
        ConfigError: a slicing names a column that there will not be, or one twice.
    """
    slices = config.evaluator.slices
    for slicing in slices:
        columns = slicing.split("*")
        unknown = [name for name in columns if name not in transform.SLICED_BY]
        if unknown or len(set(columns)) < len(columns):
            raise ConfigError(
                f"evaluator.slices: expected {', '.join(transform.SLICED_BY)}, or different ones "
                f"of them joined by *, received {slicing!r}",
                hint="--set 'evaluator.slices=[label, ink_quartile]'",
            )
    if config.data.spans is None or "span" in slices:
        return config.evaluator
    return replace(config.evaluator, slices=(*slices, "span"))


def infra_validator_params(config: Config) -> infra_validator.Params:
    """The server that a model is tried on."""
    return infra_validator.Params(
        server_binary=config.serving.server_binary,
        require_real_server=config.serving.require_real_server,
    )


def build(config: Config, home: Path) -> Graph:
    """The pipeline: MNIST from TFDS to a served model, judged against its twin without BN."""
    g = Graph()
    served = served_folder(config, home)
    served_as = {n: getattr(config.serving, n) for n in ("fold_batch_norm", "calibrated")}
    training = replace(config.trainer, **served_as)
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
    answers, checks = None, config.label_validator.checks
    if not checks.own_labels == checks.part_labels == "off":
        answers = g.add(
            cross_validation.COMPONENT,
            cross_validation.Inputs(examples=examples),
            config.cross_validation,
        ).answers
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
    labels = g.add(
        label_validator.COMPONENT,
        label_validator.Inputs(examples, answers, champion, champion_data),
        config.label_validator,
    ).quality
    evaluation = g.add(
        evaluator.COMPONENT,
        evaluator.Inputs(digits, candidate, baseline, champion, labels),
        evaluator_params(config),
    )
    trial = g.add(
        infra_validator.COMPONENT,
        infra_validator.Inputs(candidate, evaluation.blessing, evaluation.evaluation),
        infra_validator_params(config),
    )
    g.add(
        pusher.COMPONENT,
        pusher.Inputs(candidate, evaluation.blessing, trial.infra_blessing),
        pusher_params(config, home),
    )
    return g
