"""The cases against the stand-in, or against a real server (see conftest.py)."""

from pathlib import Path

import pytest

from bnpipe.serving.cases import REST_CASES, Case, Target, plan
from bnpipe.serving.cases.case import refused, run_case
from bnpipe.serving.cases.grpc_cases import CASES as GRPC_CASES
from bnpipe.serving.cases.lifecycle import OPERATIONS, Operation
from bnpipe.serving.client import ServerError


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    url = request.config.getoption("--rest-url", default=None)
    if url:
        address = request.config.getoption("--grpc-addr")
        return Target(url, request.config.getoption("--model-name"), address)
    server = request.getfixturevalue("server")
    url, address = f"http://127.0.0.1:{server.rest_port}", f"127.0.0.1:{server.grpc_port}"
    return Target(url, "mnist", address, intrusive=True)


@pytest.mark.parametrize(
    "case", (*REST_CASES, *GRPC_CASES), ids=lambda case: f"{case.number} {case.title}"
)
def test_case(case: Case, target: Target) -> None:
    if case in GRPC_CASES and target.grpc_address is None:
        pytest.skip("--grpc-addr is not given")
    result = run_case(case, target)
    if result.outcome == "skipped":
        pytest.skip(result.detail)
    assert result.outcome == "passed", result.detail


def test_every_number_of_the_plan_has_a_case() -> None:
    assert {case.number for case in (*REST_CASES, *GRPC_CASES)} == set(range(1, 88))
    assert sorted({row["case"] for row in plan()}) == list(range(1, 100))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.title)
def test_what_is_done_to_a_server_is_a_test(operation: Operation) -> None:
    file, function = operation.test.split("::")
    text = (Path(__file__).parents[3] / file).read_text()
    assert f"\ndef {function}(" in text


def test_a_case_fails_on_another_answer(server: object) -> None:
    here = Target(f"http://127.0.0.1:{server.rest_port}", "mnist")
    right = "Could not find any versions of model nope"
    for status, error, outcome in (
        (404, right, "passed"),
        (400, right, "failed"),
        (404, right.lower(), "failed"),
    ):
        case = refused(4, "GET /v1/models/nope", "", status, error)
        assert run_case(case, here).outcome == outcome


def test_nobody_answers() -> None:
    with pytest.raises(ServerError, match="no server at"):
        run_case(REST_CASES[0], Target("http://127.0.0.1:1", "mnist"))
