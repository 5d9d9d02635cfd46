"""TFMA loading the SavedModels itself: the same metrics by TFMA's own classes, image by image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2
from tfx_bsl.tfxio import tf_example_record

from bnpipe.data.beam_io import pipeline

BATCH_SIZE = 250


def per_class(asked: config_pb2.EvalConfig, classes: int) -> config_pb2.EvalConfig:
    """What the evaluator does not ask TFMA for: confusion matrices and areas, on the whole."""
    one_vs_rest = {
        "binarize": {"class_ids": {"values": list(range(classes))}},
        "metrics": [{"class_name": "AUC"}],
    }
    config = config_pb2.EvalConfig(model_specs=asked.model_specs, options=asked.options)
    specs = [{"metrics": [{"class_name": "MultiClassConfusionMatrixPlot"}]}, one_vs_rest]
    return json_format.ParseDict({"metrics_specs": specs}, config)


def evaluate(
    shards: Sequence[Path],
    models: Mapping[str, Path],
    configs: Mapping[Path, config_pb2.EvalConfig],
) -> None:
    """Evaluates SavedModels.

    Args:
        shards: TransformedExamples files.
        models: SavedModel folders by the names that the configs give them.
        configs: what to compute, by output folder.
    """
    with pipeline([]) as p:
        for folder, config in configs.items():
            for spec in config.model_specs:
                spec.model_type = "tf_generic"
                spec.signature_name = "serving_default"
                spec.prediction_key = "probabilities"
            shared = [
                tfma.default_eval_shared_model(
                    eval_saved_model_path=str(models[spec.name]),
                    model_name=spec.name,
                    eval_config=config,
                )
                for spec in config.model_specs
            ]
            source = tf_example_record.TFExampleRecord(
                file_pattern=[str(shard) for shard in shards],
                raw_record_column_name=tfma.ARROW_INPUT_COLUMN,
            )
            _ = (
                p
                | f"Read {folder.name}" >> source.BeamSource(batch_size=BATCH_SIZE)
                | f"TFMA {folder.name}"
                >> tfma.ExtractEvaluateAndWriteResults(
                    eval_shared_model=shared, eval_config=config, output_path=str(folder)
                )
            )
