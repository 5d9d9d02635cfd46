"""What the gate found as tensorflow_metadata Anomalies, the protos that TFX and TFDV show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2

from bnpipe.components.example_validator.findings import Evidence, Finding

FILE_NAME = "SchemaDiff.pb"

_INFO = anomalies_pb2.AnomalyInfo
_SEVERITY = {"warn": _INFO.WARNING, "block": _INFO.ERROR}
_MEASURED = anomalies_pb2.DriftSkewInfo.Measurement
_DISTANCES = {
    "COMPARATOR_L_INFTY_HIGH": _MEASURED.L_INFTY,
    "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH": _MEASURED.JENSEN_SHANNON_DIVERGENCE,
}


def anomalies(split: str, findings: Iterable[Finding], evidence: Evidence) -> Any:
    """One split's Anomalies proto: the schema, what is wrong with which feature, and drift."""
    proto = anomalies_pb2.Anomalies(anomaly_name_format=anomalies_pb2.Anomalies.SERIALIZED_PATH)
    proto.baseline_v1.CopyFrom(evidence.schema)
    proto.data_missing = not evidence.splits[split].records
    measured: set[tuple[str, str, str]] = set()
    for finding in findings:
        if finding.split != split:
            continue
        # The worst comes first, and stands for the parts of the split.
        measure = (finding.code, finding.feature, finding.against)
        if finding.code in _DISTANCES and measure not in measured:
            measured.add(measure)
            _measured(proto, finding)
        if finding.level == "ok":
            continue
        if finding.feature:
            info = proto.anomaly_info[finding.feature]
            if not info.path.step:
                info.path.step.append(finding.feature)
        else:
            info = proto.dataset_anomaly_info
        _add(info, finding)
    return proto


def _add(info: Any, finding: Finding) -> None:
    """Adds a finding to what is wrong with a feature; the worst severity stays."""
    info.severity = max(info.severity, _SEVERITY[finding.level])
    short = finding.code.replace("_", " ").capitalize()
    info.reason.add(
        type=_INFO.Type.Value(finding.code),
        short_description=short,
        description=finding.sentence,
    )
    several = len(info.reason) > 1
    info.short_description = "Multiple errors" if several else short
    info.description = "; ".join(reason.description for reason in info.reason)


def _measured(proto: Any, finding: Finding) -> None:
    """Records a distance whether or not it is too large.

    In TFDV's words a change from the champion's data is drift; one from train, in the same run, is
    skew.
    """
    drift = next((d for d in proto.drift_skew_info if d.path.step == [finding.feature]), None)
    if drift is None:
        drift = proto.drift_skew_info.add()
        drift.path.step.append(finding.feature)
    measurements = drift.skew_measurements
    if finding.against == "champion":
        measurements = drift.drift_measurements
    measurements.add(type=_DISTANCES[finding.code], value=finding.value, threshold=finding.bound)
