"""Warmup requests: readable, not too many, and one for every signature at least."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from bnpipe.data.tfrecord import DamagedRecordError
from bnpipe.serving.lint.finding import Finding
from bnpipe.serving.lint.signatures import EXPECTED
from bnpipe.serving.warmup import MOST_RECORDS, WARMUP_FILE, read

_ON_EXAMPLES = {
    "classify_log": "classify",
    "regress_log": "regress",
}
_OTHERS = ("multi_inference_log",)


def check_warmup(folder: Path, graph: Any) -> list[Finding]:
    """What a server would refuse the version for, or would not have warmed up."""
    try:
        logs = list(islice(read(folder / WARMUP_FILE), MOST_RECORDS + 1))
    except (DamagedRecordError, DecodeError) as error:
        return [Finding("warmup", f"{WARMUP_FILE}: {error}")]
    if not 1 <= len(logs) <= MOST_RECORDS:
        count = f"{len(logs)}" if len(logs) <= MOST_RECORDS else f"more than {MOST_RECORDS}"
        told = f"expected 1 to {MOST_RECORDS} records, received {count}"
        return [Finding("warmup", f"{WARMUP_FILE}: {told}")]
    found = [
        Finding("warmup", f"{WARMUP_FILE}: record {number} {complaint}")
        for number, log in enumerate(logs)
        for complaint in _complaints(log, graph)
    ]
    cold = sorted(set(EXPECTED) - {_signature(log) for log in logs})
    if cold:
        found.append(Finding("warmup", f"{WARMUP_FILE} warms up no {', '.join(cold)}"))
    return found


def _request(log: Any) -> Any:
    kind = log.WhichOneof("log_type")
    return getattr(log, kind).request if kind in ("predict_log", *_ON_EXAMPLES) else None


def _signature(log: Any) -> str:
    request = _request(log)
    return (request.model_spec.signature_name or "serving_default") if request is not None else ""


def _complaints(log: Any, graph: Any) -> Iterator[str]:
    kind = log.WhichOneof("log_type")
    request = _request(log)
    if request is None:
        if kind not in _OTHERS:
            yield f"is a {kind or 'record without a request'}, which no server warms up with"
        return
    name = _signature(log)
    if name not in graph.signature_def:
        yield f"asks for the signature {name}, which the model does not have"
        return
    if kind != "predict_log":
        return
    inputs = graph.signature_def[name].inputs
    sent = {key: tensor.dtype for key, tensor in request.inputs.items()}
    if sent != {key: info.dtype for key, info in inputs.items()}:
        yield f"does not fit {name}: expected {sorted(inputs)}, received {sorted(sent)}"
