"""TFMA loading the SavedModels itself: the same metrics by TFMA's own classes, image by image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow_model_analysis as tfma
from tfx_bsl.tfxio import tf_example_record

from bnpipe.components.evaluator import tfma_config
from bnpipe.components.evaluator.evidence import BASELINE
from bnpipe.components.evaluator.params import Params
from bnpipe.data.beam_io import pipeline

BATCH_SIZE = 250


def evaluate(
    shards: Sequence[Path], models: Mapping[str, Path], params: Params, classes: int, folder: Path
) -> None:
    """Writes TFMA output to `folder/scalars` and `folder/one_vs_rest`.

    Args:
        shards: TransformedExamples files.
        models: SavedModel folders of the candidate and the baseline, by these names.
        params: slicings and thresholds.
        classes: number of classes.
        folder: where to write.
    """
    configs = {
        "scalars": tfma_config.slice_metrics(params, BASELINE),
        "one_vs_rest": tfma_config.one_vs_rest_metrics(classes, BASELINE),
    }
    with pipeline([]) as p:
        for name, config in configs.items():
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
                | f"Read {name}" >> source.BeamSource(batch_size=BATCH_SIZE)
                | f"TFMA {name}"
                >> tfma.ExtractEvaluateAndWriteResults(
                    eval_shared_model=shared, eval_config=config, output_path=str(folder / name)
                )
            )
