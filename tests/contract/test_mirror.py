"""Where tests stand: beside the path of their module; and which modules have none of their own."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("pipeline", "components", "data", "serving")

# What these do is tested where it is used: verbs in tests/pipeline/cli/test_app.py, a step's parts
# with the step, the stand-in's with the server.
WITHOUT = """
components: artifacts
components/evaluator: assessment evidence golden inference measure params rules rules_absolute
    rules_reference rules_soundness tfma_config work
components/example_validator: anomalies drift_checks params profile record_checks split_checks work
components/infra_validator: fresh work
components/cross_validation: work
components/label_validator: params work
components/network: evaluation params program rows saved_model
components/study: measures params verdicts work
components/trainer: model_card work
data: beam_ingest beam_probe beam_statistics beam_transform digest environment errors flock parent
data/engines: rest
data/records: tfrecord
data/statistics: image_statistics
pipeline: definition push
pipeline/cli: common config diff export gc graph logs plan predict promote report resume
    retrain rollback run runs serve show smoke status track versions
pipeline/configuration: duration publishing sections
pipeline/engine: capture execute files manifest provenance step worker
pipeline/report: charts contents data_charts evaluation_charts matrices overview_charts
    study_charts
pipeline/schedule: book claim daemon health outcome retraining slot work
serving: errors
serving/client: connect grpc logged_images request_log rest restored smoke
serving/deploy: settings
serving/export: canonical classifier warmup
serving/folder: admission bucket manifest settle
serving/local: api config grpc_service http inference main servable server states status warmup
"""


def modules() -> Iterator[str]:
    """Every module by its path, without `.py`."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if not path.stem.startswith("__"):
                yield path.relative_to(ROOT).with_suffix("").as_posix()


def test_every_test_stands_beside_the_path_of_a_module_or_package() -> None:
    lost = []
    for room in ROOMS:
        for path in sorted((ROOT / "tests" / room).rglob("test_*.py")):
            if path.parent.name == "conformance":  # asks servers, the stand-in and a real one
                continue
            folder = ROOT / path.parent.relative_to(ROOT / "tests")
            words = path.stem.removeprefix("test_").split("_")
            names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
            # `test_z.py`, or `test_z_<what>.py` where z has more than one file.
            if not any((folder / f"{n}.py").exists() or (folder / n).is_dir() for n in names):
                lost.append(path.relative_to(ROOT).as_posix())
    assert lost == [], "move them to where their module stands"


def test_the_modules_without_a_test_of_their_own_are_these() -> None:
    listed = {
        f"{folder}/{name}"
        for folder, names in re.findall(r"^(\S+):((?:\s+\w+(?!\S))+)", WITHOUT, re.M)
        for name in names.split()
    }
    without = {
        module
        for module in modules()
        if not (ROOT / "tests" / Path(module).parent / f"test_{Path(module).name}.py").exists()
    }
    assert without - listed == set(), "write their test, or list them"
    assert listed - without == set(), "they have a test now, or are gone: take them off the list"
