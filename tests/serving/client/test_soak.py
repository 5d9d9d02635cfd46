"""A version is judged by what clients would see; a broken server is no verdict."""

import itertools
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from bnpipe.serving.client.base import Client, Options, Prediction, ServerError, VersionState
from bnpipe.serving.client.paired import Paired
from bnpipe.serving.client.soak import (
    CANARY,
    FEWEST,
    LEVEL,
    STABLE,
    Evidence,
    Rules,
    Soaked,
    Verdict,
    Watch,
    soak,
)
from bnpipe.serving.errors import ServingError
from tests.benchmarks import bench_soak
from tests.serving.client import simulated_soaks
from tests.serving.client.simulated_soaks import Ends, Truth, simulate, worse

CLASSES = np.arange(3000) % 10
FEATURES = np.stack([CLASSES, np.arange(3000)], axis=1).astype(np.float32)
RULES = Rules(seconds=400, rate=5)
Special = Callable[[int], int]


class Answers(Client):
    """Knows every image, unless a label is told to do something else."""

    def __init__(self, **special: Special) -> None:
        super().__init__("digits", Options(attempts=1))
        self.special = special
        self.loaded: Callable[[int], str] = lambda _: "AVAILABLE"
        self.unknown: list[str] = []
        self.behind: dict[str, int] = {}
        self.asked: list[tuple[str, int]] = []

    def predict(self, inputs: Any, *, label: str = "", version: int = 0, **_: Any) -> Prediction:
        name = label or f"v{version}"
        class_id, image = inputs["features"][0].astype(int)
        self.asked.append((name, int(image)))
        if name in self.special:
            class_id = self.special[name](int(class_id))
        return Prediction({"class_id": np.array([class_id])}, None)

    def _predict(self, *_: Any, **__: Any) -> Any: ...

    def _classify(self, *_: Any, **__: Any) -> Any: ...

    def status(self, version: int | None = None) -> list[VersionState]:
        code, _, state = self.loaded(version or 0).rpartition(" ")
        return [VersionState(version or 0, state, code or "OK", "")]

    def metadata(self, *_: Any, label: str | None = None, **__: Any) -> Any:
        if self.loaded(5) != "AVAILABLE" or label in self.unknown:
            raise ServerError("Servable not found for request: Specific(digits, 5)", status=404)
        return {"model_spec": {"version": str(self.behind.get(label or "", 5))}}

    def close(self) -> None: ...

    def count(self, name: str) -> int:
        return sum(asked == name for asked, _ in self.asked)


def every(number: int, otherwise: Special) -> Special:
    turns = itertools.count(1)
    return lambda class_id: otherwise(class_id) if next(turns) % number == 0 else class_id


def fail(_: int) -> int:
    raise ServerError("Servable not found for request: Specific(digits, 5)", status=404)


def refuse(_: int) -> int:
    raise ServerError("no server at http://s1: Connection refused", transient=True)


def crash(_: int) -> int:
    raise ServerError("no server at http://s1: RemoteDisconnected", transient=True, broken=True)


def within(turns: range, otherwise: Special) -> Special:
    turn = itertools.count()
    return lambda class_id: otherwise(class_id) if next(turn) in turns else class_id


def wrong(class_id: int) -> int:
    return (class_id + 1) % 10


def soaked(*clients: Client, rules: Rules = RULES, **more: Any) -> Soaked:
    servers = {f"http://s{n}": client for n, client in enumerate(clients, start=1)}
    return soak(servers, FEATURES, CLASSES, rules, sleep=lambda _: None, **more)


def test_a_canary_like_the_stable_version_passes_when_the_time_is_up() -> None:
    client = Answers()
    end = soaked(client)
    assert end.verdict is Verdict.PASS
    assert client.count("stable") == client.count("canary") == end.total.accuracy.pairs == 2000
    assert [name for name, _ in client.asked[:4]] == ["canary", "stable", "stable", "canary"]
    assert len({image for _, image in client.asked}) == 2000  # none comes twice before all came
    assert "+0.00 points of accuracy over 2000 images" in end.sentence


def test_the_path_has_a_band_that_closes() -> None:
    end = soaked(Answers(canary=every(100, wrong), stable=every(99, wrong)))
    assert [p.pairs for p in end.path] == sorted({p.pairs for p in end.path})
    assert all(p.lower <= p.difference <= p.upper for p in end.path)
    assert end.path[-1].upper - end.path[-1].lower < 0.3 * (end.path[0].upper - end.path[0].lower)
    assert end.to_json()["path"][-1]["pairs"] == end.path[-1].pairs == 1980


def test_images_that_come_again_tell_nothing_more_of_accuracy() -> None:
    client = Answers()
    end = soaked(client, rules=Rules(seconds=1000, rate=5))
    assert client.count("canary") == 5000
    assert (end.total.accuracy.pairs, end.total.errors.pairs) == (3000, 5000)


def test_a_canary_that_knows_less_is_found_before_the_time_is_up() -> None:
    client = Answers(canary=every(20, wrong))
    end = soaked(client)
    assert end.verdict is Verdict.FAIL
    assert "canary knows fewer images than stable at http://s1: -5.0" in end.sentence
    assert client.count("canary") < 500
    assert end.path[-1].upper < 0


def test_a_loss_within_the_margin_is_no_failure() -> None:
    rules = Rules(seconds=400, rate=5, margin=0.1)
    assert soaked(Answers(canary=every(20, wrong)), rules=rules).verdict is Verdict.PASS


def test_what_cannot_be_shown_is_inconclusive() -> None:
    end = soaked(Answers(), rules=Rules(seconds=20, rate=5))
    assert end.verdict is Verdict.INCONCLUSIVE
    assert "not shown to be as good: +0.00 points of accuracy over 100 images" in end.sentence


def test_a_canary_that_fails_is_refused_with_the_servers_words() -> None:
    end = soaked(Answers(canary=every(10, fail)))
    assert end.verdict is Verdict.FAIL
    assert "canary failed 13 of 130 requests at http://s1, stable 0: Servable not" in end.sentence


def test_failures_that_both_share_are_not_the_canarys() -> None:
    both = Answers(canary=every(10, fail), stable=every(10, fail))
    assert soaked(both).verdict is Verdict.PASS


@pytest.mark.parametrize("loading", [6, 15])
def test_a_restart_of_the_server_is_not_the_canarys(loading: int) -> None:
    """Both are gone, then the stable version is loaded, and the canary so many requests later."""
    turn = itertools.count()

    def canary(class_id: int) -> int:
        after = next(turn) - 100
        return refuse(0) if 0 <= after < 13 else fail(0) if 13 <= after < 13 + loading else class_id

    client = Answers(canary=canary, stable=within(range(101, 113), refuse))
    client.loaded = lambda version: "LOADING" if version == 5 else "AVAILABLE"
    rules, kept = Rules(seconds=60, rate=5, margin=0.1, error_margin=0), Evidence()
    if loading == 15:  # it is not asked for hours
        with pytest.raises(ServingError, match=f"failed {FEWEST} of 120 probes: no server"):
            soaked(client, rules=rules, version=5, evidence=kept)
    end = soaked(client, rules=rules, version=5, evidence=kept)
    assert end.verdict is Verdict.PASS
    assert (end.total.errors.worse, end.total.errors.better) == (0, 0)
    assert end.total.errors.pairs == 300


@pytest.mark.parametrize(
    ("fault", "state", "counts"),
    [
        (fail, "AVAILABLE", True),
        (fail, "UNAVAILABLE END", True),  # it could not be loaded again
        (fail, "LOADING", False),
        (refuse, "AVAILABLE", False),
        (crash, "AVAILABLE", True),
        (crash, "LOADING", True),  # which is what it did to the server
    ],
)
def test_a_failure_counts_where_the_version_is_loaded(
    fault: Special, state: str, counts: bool
) -> None:
    client = Answers(canary=every(10, fault))
    client.loaded = lambda _: state
    end = soaked(client, rules=Rules(seconds=40, rate=5), version=5)
    assert (end.verdict is Verdict.FAIL) is counts
    assert (end.total.errors.worse > 0) is counts


class Crashes(Answers):
    """The server is gone for so many requests after it crashed, by chance or by a version."""

    def __init__(self, gone: int, share: float, name: str = "") -> None:
        super().__init__()
        self.gone, self.share, self.name = gone, share, name
        self.left, self.random = 0, np.random.default_rng(2)

    def predict(self, inputs: Any, **asked: Any) -> Prediction:
        if self.left:
            self.left -= 1
            refuse(0)
        if asked.get("label", "").startswith(self.name) and self.random.random() < self.share:
            self.left = self.gone
            crash(0)
        return super().predict(inputs, **asked)


@pytest.mark.parametrize("new", [CANARY, STABLE])
@pytest.mark.parametrize(("gone", "share"), [(0, 0.05), (0, 1.0), (1, 0.2), (10, 0.03), (60, 1.0)])
def test_a_version_that_crashes_the_server_fails_in_so_many_attempts(
    gone: int, share: float, new: Any
) -> None:
    client, kept, ends = Crashes(gone, share, new["label"]), Evidence(), []
    old = STABLE if new is CANARY else {"version": 4}
    for _ in range(20):
        with suppress(ServingError):
            ends.append(soaked(client, version=5, new=new, old=old, evidence=kept).verdict)
        if ends:
            break
        client.left = 0
    assert ends == [Verdict.FAIL]


def test_crashes_of_the_server_by_chance_are_nobodys() -> None:
    rules = Rules(seconds=400, rate=5, margin=0.05)
    assert soaked(Crashes(12, 0.01), version=5, rules=rules).verdict is Verdict.PASS


def test_a_stable_version_that_is_loaded_later_after_a_restart_gives_no_credit() -> None:
    client = Answers(stable=within(range(100, 115), fail))
    client.loaded = lambda version: "LOADING" if version == 4 else "AVAILABLE"
    end = soaked(client, version=5, old_version=4)
    assert (end.total.errors.better, end.total.errors.worse) == (0, 0)
    client.loaded, client.behind = lambda _: "AVAILABLE", {"stable": 4}
    client.special["stable"] = within(range(100, 115), fail)
    assert soaked(client, version=5, old_version=4).total.errors.better == 15


def test_a_label_that_the_server_has_yet_to_learn_is_not_the_canarys() -> None:
    client = Answers(canary=every(10, fail))
    client.unknown = ["canary"]
    end = soaked(client, rules=Rules(seconds=40, rate=5), version=5)
    assert end.total.errors.worse == 0 and end.verdict is not Verdict.FAIL


def test_an_old_version_that_fails_by_itself_is_no_fault_of_the_server() -> None:
    """It is not what clients ask for; one that is asked for by its label is."""
    rules = Rules(seconds=20, rate=5)
    end = soaked(Answers(v4=fail), new=STABLE, old={"version": 4}, version=5, rules=rules)
    assert end.verdict is Verdict.INCONCLUSIVE
    assert (end.total.latency.pairs, end.total.errors.pairs) == (0, 100)
    assert end.total.errors.better == 0  # nor does that make up for what the new one fails
    for old, fault in (({"version": 4}, refuse), (STABLE, fail)):
        with pytest.raises(ServingError, match=f"failed {FEWEST} of {FEWEST} probes"):
            soaked(Answers(v4=fault, stable=fault), old=old, version=5, rules=rules)


def test_a_soak_goes_on_with_what_earlier_attempts_have_come_to() -> None:
    rules, client, evidence = Rules(seconds=40, rate=5), Answers(), Evidence()
    ends, texts = [], []
    for _ in range(4):
        kept = TypeAdapter(Evidence).validate_json(texts[-1]) if texts else evidence
        end = soaked(
            client, rules=rules, evidence=kept, keep=lambda e: texts.append(json.dumps(asdict(e)))
        )
        ends.append(end.verdict)
    images = [image for name, image in client.asked if name == "canary"]
    assert len(images) == len(set(images)) == 800
    assert end.total.accuracy.pairs == 800
    assert ends[0] is Verdict.INCONCLUSIVE and ends[-1] is Verdict.PASS


def test_a_soak_that_was_cut_short_is_gone_on_with_to_its_end() -> None:
    turns, client, kept = itertools.count(), Answers(), []

    def check() -> None:
        if next(turns) == 57:
            raise ServingError("killed")

    rules = Rules(seconds=20, rate=5)
    with pytest.raises(ServingError, match="killed"):
        soaked(client, rules=rules, check=check, keep=kept.append)
    assert kept[-1].turns == client.count("canary") == 57
    soaked(client, rules=rules, evidence=kept[-1])
    assert client.count("canary") == len({image for _, image in client.asked}) == 100


def test_images_that_nobody_answers_are_asked_again() -> None:
    """However often a server fails for both: what is left is what there is to learn from."""
    kept = Evidence()
    client = Answers(stable=fail, canary=fail)
    for _ in range(5):
        with pytest.raises(ServingError, match="failed 20 of 20 probes"):
            soaked(client, evidence=kept)
    assert (kept.turns, kept.left, kept.is_exhausted) == (100, 3000, False)
    client.special, client.asked = {}, []
    end = soaked(client, rules=Rules(seconds=600, rate=5), evidence=kept)
    assert end.total.accuracy.pairs == len({image for _, image in client.asked}) == 2900
    assert kept.left == 100


def test_an_image_that_no_version_answers_is_passed_over() -> None:
    poison = set(soaked_images()[5:7])

    def broken(inputs: Any, *, label: str = "", **_: Any) -> Prediction:
        return fail(0) if int(inputs["features"][0][1]) in poison else answer(inputs, label=label)

    client, kept = Answers(), Evidence()
    answer = client.predict
    client.predict = broken  # type: ignore[method-assign,assignment]
    rules = Rules(seconds=700, rate=5)
    assert soaked(client, rules=rules, evidence=kept).verdict is Verdict.PASS
    assert kept.left == 0 and kept.watches[""].accuracy.pairs == 2998


def soaked_images() -> list[int]:
    """The images of a soak, in order."""
    client = Answers()
    soaked(client, rules=Rules(seconds=8, rate=5))
    return [image for name, image in client.asked if name == "canary"]


def test_what_ended_before_the_first_pair_has_asked_for_nothing() -> None:
    def check() -> None:
        raise ServingError("cannot read ledger.jsonl")

    kept: list[Evidence] = []
    with pytest.raises(ServingError, match="cannot read"):
        soaked(Answers(), check=check, keep=kept.append)
    assert (kept[-1].turns, kept[-1].left, kept[-1].is_exhausted) == (0, 3000, False)


def test_evidence_that_cannot_be_kept_takes_the_place_of_nothing() -> None:
    def keep(_: Evidence) -> None:
        raise ServingError("cannot write to the served folder: No space left on device")

    def stop() -> None:
        raise KeyboardInterrupt

    assert soaked(Answers(canary=fail), keep=keep).verdict is Verdict.FAIL
    with pytest.raises(KeyboardInterrupt):
        soaked(Answers(), keep=keep, check=stop)


def test_a_failure_that_was_shown_before_is_said_without_numbers_that_nobody_took() -> None:
    kept, client = Evidence(), Answers(canary=fail)
    soaked(client, evidence=kept)
    client.special = {}
    assert soaked(client, evidence=kept).sentence.endswith("at http://s1, stable 0")
    kept = Evidence(turns=20, left=2980, watches={"http://s1": Watch(latency=Paired(worse=500))})
    client.special = {"canary": fail}
    assert "slower than stable at http://s1: as shown over 500" in (
        soaked(client, evidence=kept).sentence
    )


def test_the_reason_is_the_most_frequent_one() -> None:
    once = within(range(1), refuse_to_queue)
    end = soaked(Answers(canary=lambda class_id: fail(once(class_id))))
    assert end.verdict is Verdict.FAIL and "Servable not found" in end.sentence


def refuse_to_queue(_: int) -> int:
    raise ServerError("queue full", status=503)


def test_what_no_server_shows_alone_all_of_them_show() -> None:
    """8 servers see 375 images each of a canary that knows 3 of 100 less."""
    end = soaked(*(Answers(canary=every(33, wrong)) for _ in range(8)))
    assert end.verdict is Verdict.FAIL
    assert "canary knows fewer images than stable at all servers: -" in end.sentence


@pytest.mark.parametrize(
    ("canary", "verdict"),
    [
        (lambda _: 0.011, Verdict.PASS),
        (lambda _: 0.015, Verdict.FAIL),
        (lambda turn: 0.2 if turn % 6 == 0 else 0.01, Verdict.FAIL),  # the median is the same
    ],
)
def test_a_slow_canary_is_refused(
    monkeypatch: pytest.MonkeyPatch, canary: Callable[[int], float], verdict: Verdict
) -> None:
    clock, turns = [0.0], itertools.count()
    monkeypatch.setattr("bnpipe.serving.client.soak.time.perf_counter", lambda: clock[0])

    def take(seconds: Callable[[int], float]) -> Special:
        def answer(class_id: int) -> int:
            clock[0] += seconds(next(turns))
            return class_id

        return answer

    def of_stable(turn: int) -> float:
        return 0.01 * (1 + 0.05 * math.sin(turn))

    client = Answers(stable=take(of_stable), canary=take(canary))
    end = soaked(client)
    assert end.verdict is verdict
    if verdict is Verdict.FAIL:
        assert "canary is slower than stable at http://s1: 1" in end.sentence
        assert client.count("canary") < 400


def test_latencies_that_are_as_good_as_none_are_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("bnpipe.serving.client.soak.time.perf_counter", lambda: clock[0])

    def slow(class_id: int) -> int:
        clock[0] += 0.004
        return class_id

    assert soaked(Answers(canary=slow)).verdict is Verdict.PASS


def test_every_server_is_probed_and_the_bad_one_is_named() -> None:
    good, bad = Answers(), Answers(canary=every(5, fail))
    end = soaked(good, bad)
    assert end.verdict is Verdict.FAIL and "at http://s2" in end.sentence
    assert good.count("canary") == bad.count("canary") == 70
    both = Answers(), Answers()
    assert soaked(*both).verdict is Verdict.PASS
    assert [client.count("canary") for client in both] == [2000, 2000]


def test_another_version_may_be_what_it_is_measured_by() -> None:
    client = Answers(stable=every(20, wrong))
    end = soaked(client, new=STABLE, old={"version": 7})
    assert end.verdict is Verdict.FAIL and "stable knows fewer images than v7" in end.sentence


def test_a_server_that_is_down_decides_nothing() -> None:
    client = Answers(stable=fail, canary=fail)
    with pytest.raises(ServingError, match=f"s1 failed {FEWEST} of {FEWEST} probes: Serv"):
        soaked(client)
    assert len(client.asked) == 2 * FEWEST  # it is not asked for hours


def test_a_server_that_dies_on_the_way_decides_nothing() -> None:
    def dying() -> Special:
        turns = itertools.count()
        return lambda class_id: class_id if next(turns) < 50 else fail(class_id)

    with pytest.raises(ServingError, match=f"failed {FEWEST} of {50 + FEWEST} probes"):
        soaked(Answers(stable=dying(), canary=dying()))


def test_a_server_that_often_fails_for_the_stable_version_decides_nothing() -> None:
    with pytest.raises(ServingError, match="failed 1000 of 2000 probes: Serv"):
        soaked(Answers(stable=every(2, fail)))


def test_a_soak_whose_answers_take_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=5)
    monkeypatch.setattr("bnpipe.serving.client.soak.time.monotonic", lambda: next(clock))
    assert FEWEST <= soaked(Answers()).total.errors.pairs < 500


def test_somebody_else_decided() -> None:
    turns = itertools.count()

    def check() -> None:
        if next(turns) == 5:
            raise ServingError("moved")

    with pytest.raises(ServingError, match="moved"):
        soaked(Answers(), check=check)


def test_the_simulation_stops_where_the_soak_does() -> None:
    turns = np.random.default_rng(3)
    known = turns.random((1, 2000)) > 0.04
    lost = iter(~known[0])
    client = Answers(canary=lambda class_id: wrong(class_id) if next(lost) else class_id)
    soaked(client)
    ended = worse(np.zeros_like(known), ~known, LEVEL / 3, RULES.margin)
    assert 0 < client.count("canary") == ended[0].argmax() + 1 < 2000


@pytest.mark.parametrize("broken", [True, False])
def test_the_benchmark_exits_with_1_when_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: bool
) -> None:
    def simulated(truth: Truth, soaks: int, pairs: int) -> Ends:
        failed = 300 if truth.loss + truth.errors + (truth.slower > 1.1) else 0
        if broken and truth.slower > 1.1:
            failed = 700  # later than within a fifth
        return Ends(np.full(soaks, failed), np.full(soaks, 2000))

    monkeypatch.setattr(simulated_soaks, "simulate", simulated)
    monkeypatch.setattr("sys.argv", ["bench_soak.py", "--soaks", "10"])
    assert bench_soak.main() == int(broken)
    assert capsys.readouterr().out.count("BROKEN") == int(broken)


def test_attempts_go_on_and_one_that_passed_is_over() -> None:
    ends = Ends(failed=np.array([0, 0, 250, 150, 0]), shown=np.array([90, 150, 120, 160, 0]))
    assert ends.after(1, 100) == (0.2, 0.0)
    assert ends.after(2, 100) == (0.6, 0.2)
    assert ends.after(3, 100) == (0.6, 0.2)


def test_a_soak_is_right_as_often_as_it_says() -> None:
    """Few soaks here; tests/benchmarks/bench_soak.py draws 2,000 of each."""
    pairs = 3000
    equal = simulate(Truth(), 30, pairs)
    assert equal.failures <= 0.05 and equal.passed.mean() >= 0.3
    assert simulate(Truth(errors=0.01), 10, pairs).failures >= 0.9
    worse = simulate(Truth(loss=0.02), 20, pairs)
    assert worse.failures >= 0.85 and not worse.passed.any()
    slow = simulate(Truth(slower=1.5), 10, pairs)
    assert slow.failures == 1.0 and np.median(slow.failed) <= pairs / 5
    for noise in (0.02, 0.1):  # of a quiet server: what is within the margin is no tail either
        assert simulate(Truth(slower=1.1, noise=noise), 10, 1000).failures == 0.0
