"""The second graph."""

from pathlib import Path

from bnpipe.pipeline.configuration.config import load
from bnpipe.pipeline.definition import build as build_product
from bnpipe.pipeline.engine.plan import Planner
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.study import build

SETS = ["data.dataset=rendered_digits", "study.seeds=3"]


def test_a_study_shares_its_data_with_the_product(tmp_path: Path) -> None:
    config, store = load(None, SETS), Store(tmp_path)
    graph = build(config)
    assert list(graph.nodes) == ["example_gen", "transform", "study"]
    assert graph.nodes["study"].params.seeds == 3
    keys = [
        Planner(g, store).step("example_gen").key for g in (graph, build_product(config, tmp_path))
    ]
    assert keys[0] == keys[1]


def test_the_number_of_processes_is_in_no_key() -> None:
    from bnpipe.components.base import key_params

    assert set(key_params(load(None, SETS).study)) == {"seeds", "epochs", "experiments"}
