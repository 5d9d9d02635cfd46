"""The trainings that a study comes to."""

from collections import Counter

from bnpipe.components.study.arms import ARMS
from bnpipe.components.study.params import Params
from bnpipe.components.study.plan import (
    MIN_PAIRS,
    PLAN,
    RATES,
    SCORES,
    scaled,
    scored_steps,
    units,
)

IMAGES = 50_000
STEP = 190e-6  # seconds of a core, as measured with both cores at work


def test_every_training_has_a_name_of_its_own_and_an_arm_that_exists() -> None:
    planned = units(Params(), IMAGES)
    assert len({unit.name for unit in planned}) == len(planned)
    assert {unit.arm for unit in planned} == {arm for row in PLAN for arm in row.arms}
    assert {unit.arm for unit in planned} <= ARMS.keys()


def test_arms_are_paired_by_seed_and_optimizers_are_not() -> None:
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for unit in units(Params(), IMAGES):
        seeds.setdefault((unit.experiment, unit.arm, unit.optimizer), set()).add(unit.seed)
    main = [s for (experiment, _, _), s in seeds.items() if experiment == "main"]
    assert main == [set(range(Params().seeds))] * 2
    adam, sgd = (seeds["sweep", "batch", kind] for kind in ("adam", "sgd"))
    assert len(adam) == len(sgd) == 5
    assert not adam & sgd


def test_every_training_is_measured_or_chooses_a_rate() -> None:
    for unit in units(Params(seeds=200), IMAGES):
        assert unit.measures or unit.experiment == "sweep", unit


def test_accuracies_are_of_the_last_tenth_and_of_the_end() -> None:
    for steps in (*range(1, 200), 930, 6_248, 15_620):
        scored = scored_steps(steps)
        assert max(scored) == steps
        assert all(0.9 * steps - 1 < step for step in scored)
        assert len(scored) == min(SCORES, round(0.08 * steps) + 1)


def test_the_plan_fits_into_the_time_that_there_is() -> None:
    steps = sum(unit.steps for unit in units(Params(), IMAGES))
    assert steps * STEP / 2 < 200  # all else, compiling and measuring, takes half as much again


def test_a_quick_study_can_decide_what_the_whole_one_can() -> None:
    for seeds in (MIN_PAIRS, 10, 20, 30):
        planned = units(Params(seeds=seeds), IMAGES)
        counts = Counter((u.experiment, u.arm, u.depth) for u in planned if u.experiment != "sweep")
        whole = {(r.experiment, arm): r.seeds for r in PLAN for arm in r.arms}
        for (experiment, arm, _), count in counts.items():
            assert count >= min(MIN_PAIRS, whole[experiment, arm]), (seeds, experiment, arm)
        for arm in ("none", "batch"):  # over both optimizers
            rates = {u.seed for u in planned if (u.experiment, u.arm) == ("sweep", arm)}
            assert len(rates) >= MIN_PAIRS


def test_fewer_seeds_and_epochs_scale_all_experiments() -> None:
    params = Params(seeds=3, epochs=2)
    planned = units(params, IMAGES)
    counts = Counter((unit.experiment, unit.arm) for unit in planned)
    assert counts["main", "none"] == 3
    assert counts["control", "layer"] == scaled(4, params) == 1
    assert counts["sweep", "none"] == sum(map(len, RATES.values()))
    assert {u.steps for u in planned if u.experiment == "main"} == {2 * (IMAGES // 32)}


def test_small_data_is_trained_on_whole_batches_of_what_there_is() -> None:
    planned = units(Params(epochs=1, experiments=("main", "small")), 70)
    assert {unit.images for unit in planned} == {70}
    assert {unit.steps for unit in planned if unit.experiment == "main"} == {2}


def test_what_an_experiment_goes_by_is_trained_with_it() -> None:
    assert {u.experiment for u in units(Params(experiments=("own_rate",)), IMAGES)} == {
        "own_rate",
        "sweep",
    }
    assert {u.experiment for u in units(Params(experiments=("custom",)), IMAGES)} == {"main"}
