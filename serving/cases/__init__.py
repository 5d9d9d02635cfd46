"""What a server must answer: black-box cases that run against any server of a model of ours.

`bnpipe smoke --url` runs them, and the tests run them against the local server. Texts are those of
tensorflow_model_server 2.21; each case says how literally its answer is compared.

    case        the case, the server it is asked of, the outcome
    routing     URLs, status, metadata
    predict, predict_errors, classify    what REST computes and refuses
    grpc_cases  the same over gRPC; heavy
    lifecycle   what is done to a server instead of asked; tests do it

Numbers are those of the plan in which the cases were collected.
"""

from __future__ import annotations

import contextlib
from typing import Any

from bnpipe.serving.cases.case import Case as Case
from bnpipe.serving.cases.case import Result as Result
from bnpipe.serving.cases.case import Target as Target
from bnpipe.serving.cases.case import run_case
from bnpipe.serving.cases.classify import CASES as _CLASSIFY
from bnpipe.serving.cases.lifecycle import OPERATIONS, Operation
from bnpipe.serving.cases.predict import CASES as _PREDICT
from bnpipe.serving.cases.predict_errors import CASES as _PREDICT_ERRORS
from bnpipe.serving.cases.routing import CASES as _ROUTING

REST_CASES: tuple[Case, ...] = (*_ROUTING, *_PREDICT, *_PREDICT_ERRORS, *_CLASSIFY)


def plan() -> list[dict[str, Any]]:
    """Every case as plain values, without asking anybody. Heavy: those of gRPC are imported."""
    from bnpipe.serving.cases.grpc_cases import CASES

    done: list[tuple[Case | Operation, str]] = [
        *((case, "REST") for case in REST_CASES),
        *((case, "gRPC") for case in CASES),
        *((operation, operation.test) for operation in OPERATIONS),
    ]
    return [
        {
            "case": case.number,
            "title": case.title,
            "match": str(case.match),
            "seen_on_a_real_server": case.seen,
            "by": by,
        }
        for case, by in done
    ]


def run(target: Target) -> list[Result]:
    """All cases that the server can be asked: those of gRPC only if its address is known.

    Raises:
        ServerError: nobody answers.
    """
    cases = REST_CASES
    if target.grpc_address:
        from bnpipe.serving.cases.grpc_cases import CASES

        cases = (*cases, *CASES)
    with contextlib.closing(target):
        return [run_case(case, target) for case in cases]
