"""What the product says of a run, and that any other graph is run without it."""

from typing import Any

import pytest

from bnpipe.pipeline.engine.execute import run_graph
from bnpipe.pipeline.engine.step import RunSettings
from bnpipe.pipeline.summary import describe
from tests.pipeline.toy_home import ToyHome
from tests.toy_graph import toy_settings


def step(name: str, passed: bool | None = None, **changes: Any) -> dict[str, Any]:
    verdict = None if passed is None else {"passed": passed, "sentence": f"{name} says so"}
    plain = {"action": "run", "reasons": [], "facts": {}, "outputs": {}, "error": None}
    return {"name": name, "component": name, "verdict": verdict, **plain, **changes}


DATA = step("example_validator", True)
JUDGED = step("evaluator", True, outputs={"evaluation": "e", "blessing": "b"})
TRIED = step("infra_validator", True)


def test_the_evaluators_verdict_speaks_for_a_run_that_no_gate_refused() -> None:
    assert describe([DATA, JUDGED, TRIED])["verdict"]["step"] == "evaluator"
    assert "verdict" not in describe([DATA, JUDGED, step("infra_validator", False)])
    assert "verdict" not in describe([DATA])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"action": "stopped"}, "nothing: a gate said no"),
        ({"action": "keep", "reasons": [{"sentence": "up to date (v3 live)"}]}, "up to date"),
        ({"outputs": {"pushed": "p"}, "facts": {"base_path": "s", "version": 4}}, "v4 is live"),
        (
            {
                "outputs": {"pushed": "p"},
                "facts": {"base_path": "s", "version": 4, "label": "canary"},
            },
            "v4 is the canary in s/4",
        ),
    ],
)
def test_what_was_published_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in describe([step("pusher", **changes)])["pushed"]["sentence"]
    failed = step("pusher", **{**changes, "error": "no room"})
    assert describe([failed])["pushed"] is None


def test_a_graph_of_nobody_has_a_summary_without_words_of_the_product(tmp_path: Any) -> None:
    toy = ToyHome(tmp_path)
    known: Any = toy_settings()
    settings = RunSettings(known.dataset, known.config, known.beam)
    summary = run_graph(toy.graph(), toy.home, settings).summary
    assert "pushed" not in summary and summary["verdict"]["step"] == "judge"
