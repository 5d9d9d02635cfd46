"""The gate's observations as tensorflow_metadata Anomalies, the protos that TFX and TFDV show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2

from bnpipe.components.example_validator.profile import Observation, Profile

FILE_NAME = "SchemaDiff.pb"

_INFO = anomalies_pb2.AnomalyInfo
_SEVERITY = {"warn": _INFO.WARNING, "block": _INFO.ERROR}
_MEASURED = anomalies_pb2.DriftSkewInfo.Measurement
_DISTANCES = {
    "COMPARATOR_L_INFTY_HIGH": _MEASURED.L_INFTY,
    "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH": _MEASURED.JENSEN_SHANNON_DIVERGENCE,
}


def anomalies(split: str, observations: Iterable[Observation], profile: Profile) -> Any:
    """One split's Anomalies proto: the schema, what is wrong with which feature, and drift."""
    proto = anomalies_pb2.Anomalies(anomaly_name_format=anomalies_pb2.Anomalies.SERIALIZED_PATH)
    proto.baseline_v1.CopyFrom(profile.schema)
    proto.data_missing = not profile.splits[split].records
    measured: set[tuple[str, str, str]] = set()
    for observation in observations:
        if observation.split != split:
            continue
        # The worst comes first, and stands for the parts of the split.
        measure = (observation.code, observation.feature, observation.against)
        if observation.code in _DISTANCES and measure not in measured:
            measured.add(measure)
            _measured(proto, observation)
        if observation.outcome == "ok":
            continue
        if observation.feature:
            info = proto.anomaly_info[observation.feature]
            if not info.path.step:
                info.path.step.append(observation.feature)
        else:
            info = proto.dataset_anomaly_info
        _add(info, observation)
    return proto


def _add(info: Any, observation: Observation) -> None:
    """Adds an observation to what is wrong with a feature; the worst severity stays."""
    info.severity = max(info.severity, _SEVERITY[observation.outcome])
    short = observation.code.replace("_", " ").capitalize()
    info.reason.add(
        type=_INFO.Type.Value(observation.code),
        short_description=short,
        description=observation.sentence,
    )
    several = len(info.reason) > 1
    info.short_description = "Multiple errors" if several else short
    info.description = "; ".join(reason.description for reason in info.reason)


def _measured(proto: Any, observation: Observation) -> None:
    """Records a distance, also one that is not too large.

    In TFDV's words a change from the champion's data is drift; one from train, in the same run, is
    skew.
    """
    info = next((d for d in proto.drift_skew_info if d.path.step == [observation.feature]), None)
    if info is None:
        info = proto.drift_skew_info.add()
        info.path.step.append(observation.feature)
    drifted = observation.against == "champion"
    (info.drift_measurements if drifted else info.skew_measurements).add(
        type=_DISTANCES[observation.code], value=observation.value, threshold=observation.bound
    )
