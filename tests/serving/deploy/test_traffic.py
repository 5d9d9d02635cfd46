"""What is counted of nginx's log, and how often the canary is judged rightly."""

import gzip
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.serving.client.soak import Rules, Verdict
from bnpipe.serving.deploy.render import render
from bnpipe.serving.deploy.traffic import LOG, Fate, Label, Traffic, read
from bnpipe.serving.errors import ServingError
from bnpipe.serving.local.codec import error_body
from tests.serving.deploy.test_render import DEPLOYMENT

RULES = Rules(error_margin=0.002, latency_margin=0.2)
ABSENT = f"400 {len(error_body('Unrecognized servable version label: canary'))}"


def line(label: str, status: str = "200", seconds: str = "0.004", **changes: Any) -> dict[str, Any]:
    """What nginx logs of a request."""
    return {
        "time": 1000.0,
        "id": "0123",
        "label": label,
        "share": 0.1,
        "status": int(status.split(" : ")[-1].rpartition(", ")[2].strip("-") or 499),
        "upstream_status": status,
        "upstream_seconds": seconds,
        "canary": "",
        "seconds": 0.005,
        "method": "POST",
        "uri": "/v1/models/mnist:predict",
        **changes,
    }


def write(folder: Path, lines: list[dict[str, Any]], name: str = LOG) -> Path:
    text = "".join(json.dumps(entry) + "\n" for entry in lines)
    (folder / name).write_text(text)
    return folder


def counts(folder: Path, **options: Any) -> tuple[Any, Any, int]:
    traffic, unread = read(folder, RULES, **options)
    return traffic.stable.to_json(), traffic.canary.to_json(), unread


def test_the_lines_are_those_that_nginx_writes(tmp_path):
    text = render("compose", DEPLOYMENT)["nginx.conf"]
    formats = re.findall(r"log_format (\w+) escape=json ((?:'[^']*'\s*)+);", text)
    assert [name for name, _ in formats] == ["as_it_is", "stable", "canary"]
    for name, parts in formats:
        joined = "".join(re.findall("'([^']*)'", parts))
        filled = re.sub(r"\$(msec|status|request_time)\b", "7", joined)
        assert set(json.loads(filled)) == set(line(name))
    assert f"/{LOG} as_it_is;" in text


@pytest.mark.parametrize(
    ("label", "status", "more", "expected"),
    [
        ("stable", "200", {}, "answered"),
        ("stable", "502, 200", {"upstream_seconds": "-, 0.004"}, "answered"),
        ("stable", "400", {}, "refused"),
        ("stable", "500", {}, "failed"),
        *(("stable", code, {}, "failed") for code in ("408", "409", "429", "499")),
        *(("canary", f"{code} : 200", {}, "failed") for code in ("409", "429")),
        ("canary", "429 : 429", {}, "failed"),
        ("stable", "413", {}, "refused"),
        ("stable", "504", {}, "failed"),
        ("stable", "-", {"upstream_seconds": "-"}, "failed"),
        ("stable", "", {"upstream_seconds": ""}, "refused"),
        ("canary", "200", {}, "answered"),
        ("canary", "502 : 200", {"canary": ABSENT}, "absent"),
        ("canary", "502 : 200", {"canary": f"502, {ABSENT}"}, "absent"),
        ("canary", "404 : 200", {}, "absent"),
        ("canary", "502 : 200", {"canary": "400 70"}, "failed"),
        ("canary", "502 : 400", {"canary": "400 70"}, "refused"),
        ("canary", "500 : 200", {}, "failed"),
        ("canary", "502 : 500", {"canary": "500 70"}, "failed"),
        ("canary", "502 : 400", {"canary": "500 70"}, "failed"),
        ("canary", "502, 502 : 200", {"upstream_seconds": "-, - : 0.004"}, "failed"),
        ("canary", "-", {"upstream_seconds": "-"}, "failed"),
        ("canary", "", {"upstream_seconds": ""}, "refused"),
    ],
)
def test_what_became_of_a_request(tmp_path, label, status, more, expected):
    stable, canary, unread = counts(write(tmp_path, [line(label, status, **more)]))
    got, other = (stable, canary) if label == "stable" else (canary, stable)
    shown = {name: got[name] for name in ("failed", "refused", "absent")}
    shown["answered"] = got["requests"] - got["failed"]
    assert shown == {name: int(name == expected) for name in shown}
    assert other["requests"] == other["refused"] == other["absent"] == unread == 0
    assert got["p50_ms"] == (pytest.approx(4.0) if expected == "answered" else None)


def test_times_are_those_of_the_label_itself(tmp_path):
    lines = [line("stable", seconds=f"{i / 1000}") for i in range(1, 101)]
    lines += [line("canary", "200", "0.020")]
    lines += [line("canary", "500 : 200", "0.001 : 0.500")]
    stable, canary, _ = counts(write(tmp_path, lines))
    assert stable["p50_ms"] == pytest.approx(50.5) and stable["p99_ms"] == pytest.approx(99.01)
    assert canary["p50_ms"] == canary["p99_ms"] == pytest.approx(20.0)
    low, high = stable["failed_between"]
    assert low == 0.0 < high < 0.08
    assert canary["failed_share"] == 0.5


def test_percentiles_of_counted_times_are_those_of_all_times():
    random = np.random.default_rng(0)
    for size in (1, 2, 3, 10, 997):
        times = random.geometric(0.1, size).tolist()
        label = Label()
        for milliseconds in times:
            label.add(milliseconds)
        for q in (0, 50, 95, 99, 100):
            assert label.percentile(q) == pytest.approx(np.percentile(times, q))


def test_lines_of_others_and_torn_ones_are_passed_over(tmp_path):
    write(tmp_path, [line("stable"), line(""), line("canary")])
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'127.0.0.1 - - [28/Nov/2026] "POST / HTTP/1.1" 200\n')
        file.write(b'[1]\n"x"\n5\n{"time": 1}\n\xff\xfe\n')
        file.write(json.dumps(line("stable", seconds="soon")).encode() + b"\n")
        file.write(json.dumps(line("stable") | {"upstream_status": None}).encode() + b"\n")
        file.write(json.dumps(line("stable")).encode()[:-20])
    stable, canary, unread = counts(tmp_path)
    assert (stable["requests"], canary["requests"], unread) == (1, 1, 9)


def test_rotated_logs_count_too_the_oldest_first(tmp_path):
    write(tmp_path, [line("stable", share=0.1)] * 5, f"{LOG}.2")
    (tmp_path / f"{LOG}.2").write_bytes(gzip.compress((tmp_path / f"{LOG}.2").read_bytes()))
    (tmp_path / f"{LOG}.2").rename(tmp_path / f"{LOG}.2.gz")
    write(tmp_path, [line("stable", share=0.2)] * 3, f"{LOG}.1")
    write(tmp_path, [line("canary", share=0.2)] * 2)
    for age, name in enumerate((LOG, f"{LOG}.1", f"{LOG}.2.gz")):
        os.utime(tmp_path / name, (5000 - age, 5000 - age))
    traffic, _ = read(tmp_path, RULES)
    counted = traffic.share, traffic.stable.failures.pairs, traffic.canary.failures.pairs
    assert counted == (0.2, 3, 2), "a new share begins anew"
    torn = (tmp_path / f"{LOG}.2.gz").read_bytes()[:-6]
    (tmp_path / f"{LOG}.2.gz").write_bytes(torn)
    os.utime(tmp_path / f"{LOG}.2.gz", (4998, 4998))
    assert read(tmp_path, RULES)[0].canary.failures.pairs == 2


def test_only_what_came_since_counts(tmp_path):
    write(tmp_path, [line("stable", time=10.0 * i) for i in range(10)])
    assert counts(tmp_path, since=45.0)[0]["requests"] == 5
    os.utime(tmp_path / LOG, (40, 40))
    assert counts(tmp_path, since=45.0)[0]["requests"] == 0


def test_each_line_of_the_log_counts_once_and_nothing_else(tmp_path):
    write(tmp_path, [line("stable")] * 5, f"{LOG}.1")
    # Half written: gzip is at work.
    half = gzip.compress((tmp_path / f"{LOG}.1").read_bytes())[:-12]
    (tmp_path / f"{LOG}.1.gz").write_bytes(half)
    (tmp_path / f"{LOG}.2.zst").write_bytes(b"\x28\xb5\x2f\xfd\n" * 9)
    write(tmp_path, [line("stable")] * 2, f"{LOG}-20261127")
    write(tmp_path, [line("stable", uri="/v1/?")])
    (tmp_path / LOG).write_bytes((tmp_path / LOG).read_bytes().replace(b"?", b"\xff"))
    stable, _, unread = counts(tmp_path)
    assert (stable["requests"], unread) == (8, 0)


def test_of_files_of_the_same_moment_the_larger_number_is_older(tmp_path):
    write(tmp_path, [line("stable", share=0.2)] * 3)
    write(tmp_path, [line("stable", share=0.1)] * 5, f"{LOG}.1")
    for name in (LOG, f"{LOG}.1"):
        os.utime(tmp_path / name, (5000, 5000))
    assert read(tmp_path, RULES)[0].share == 0.2
    assert counts(tmp_path, since=None)[0]["requests"] == 3


def test_there_is_no_log(tmp_path):
    with pytest.raises(ServingError, match=rf"there is no {LOG} in") as raised:
        read(tmp_path / "nowhere", RULES)
    assert "deploy.traffic_log" in str(raised.value.hint)
    (tmp_path / LOG).mkdir()
    with pytest.raises(ServingError, match="cannot read the log"):
        read(tmp_path, RULES)


def test_copies_are_compared_with_their_originals(tmp_path):
    """Whatever stands between; refusals and a canary that is not there say nothing."""
    pairs = [("200", "200")] * 10 + [("500", "200")] * 3 + [("400", "400")] * 4 + [("400", "200")]
    lines = [line("canary", "400", id="a", share="shadow", canary=ABSENT)]
    lines += [line("stable", id="a", share="shadow")]
    for number, (canary, stable) in enumerate(pairs):
        lines += [line("canary", canary, id=str(number), share="shadow")]
        lines += [line("", id="other", share="shadow")]
        lines += [line("stable", stable, id=str(number), share="shadow")]
    lines += [line("canary", "500", id="lost", share="shadow")]
    for canary, stable in (("200", "400"), ("429", "200"), ("200", "429")):
        lines += [line("canary", canary, id=canary + stable, share="shadow")]
        lines += [line("stable", stable, id=canary + stable, share="shadow")]
    stable, canary, _ = counts(write(tmp_path, lines))
    assert (canary["requests"], canary["failed"]) == (17, 5)
    assert (canary["refused"], canary["absent"]) == (4, 1)
    assert (stable["requests"], stable["failed"], stable["refused"]) == (18, 2, 4)


# verdicts


def requests(
    seed: int,
    *,
    share: float | str = 0.1,
    errors: tuple[float, float] = (0.01, 0.01),
    slower: float = 1.0,
    count: int = 20_000,
) -> Iterator[tuple[str, str, Any]]:
    """Requests as `Traffic.add` takes them; errors of canary and stable; log-normal latencies.

    Load and errors double in the middle, for both: the lot does not mind.
    """
    random = np.random.default_rng(seed)
    arm, fails, times = random.random(count), random.random((2, count)), random.normal(size=count)
    own = random.normal(size=(2, count))
    for i in range(count):
        busy = 1 + (count // 3 < i < 2 * count // 3)
        for label, side in (("canary", 0), ("stable", 1)):
            if share != "shadow" and (label == "canary") != (arm[i] < share):
                continue
            spread = (times[i] + own[side][i]) / 2**0.5
            milliseconds = 10 * busy * np.exp(0.4 * spread) * (slower if side == 0 else 1)
            failed = fails[side][i] < busy * errors[side]
            yield label, str(i), Fate.FAILED if failed else round(float(milliseconds))


def first_shown(seed: int, every: int = 200, **world: Any) -> tuple[int | None, str]:
    """After how many requests something is shown, when one looks again and again."""
    traffic = Traffic(world.get("share", 0.1), RULES)
    for number, (label, request, outcome) in enumerate(requests(seed, **world)):
        traffic.add(label, request, outcome)
        if number % every == 0:
            verdict, sentence = traffic.verdict()
            if verdict is Verdict.FAIL:
                return number, sentence
    return None, traffic.verdict()[1]


@pytest.mark.parametrize("share", [0.1, "shadow"])
@pytest.mark.parametrize(
    ("soaks", "count"), [(20, 4_000), pytest.param(200, 6_000, marks=pytest.mark.slow)]
)
def test_a_canary_that_is_no_worse_is_left_alone(share, soaks, count):
    shown = [first_shown(seed, share=share, count=count)[0] for seed in range(soaks)]
    assert sum(at is not None for at in shown) <= 0.01 * soaks


@pytest.mark.parametrize("share", [0.1, "shadow"])
@pytest.mark.parametrize("soaks", [5, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("world", "words"),
    [
        (
            {"errors": (0.03, 0.01)},
            r"canary failed \d+ of \d+ requests after its first, stable \d+ of \d+",
        ),
        ({"slower": 1.5}, r"canary is slower: \d+ ms \(p95 \d+ ms\) against"),
    ],
    ids=["errors", "latency"],
)
def test_a_canary_that_is_worse_is_found_out(share, soaks, world, words):
    """Two points more errors, or half as slow again, within 20,000 requests."""
    ends = [first_shown(seed, share=share, **world) for seed in range(soaks)]
    assert sum(at is not None for at, _ in ends) >= 0.95 * soaks, ends
    assert all(re.search(words, sentence) for at, sentence in ends if at is not None)


def test_quick_answers_are_not_slow_ones():
    """Ten times as slow, within what nginx cannot tell."""
    traffic = Traffic(0.5, RULES)
    for number in range(2000):
        traffic.add("stable", str(number), 0)
        traffic.add("canary", str(number), 4)
    verdict, sentence = traffic.verdict()
    assert verdict is Verdict.INCONCLUSIVE
    assert sentence == "nothing is shown against canary in 2000 requests"


def test_what_came_before_the_canary_is_not_held_against_stable():
    traffic = Traffic(0.1, RULES)
    for number in range(1000):
        traffic.add("stable", str(number), Fate.FAILED)
        traffic.add("canary", str(number), Fate.ABSENT)
    for number in range(20):
        traffic.add("canary", str(number), Fate.FAILED)
        for _ in range(9):
            traffic.add("stable", str(number), 1)
    verdict, sentence = traffic.verdict()
    assert verdict is Verdict.FAIL
    assert sentence == ("canary failed 19 of 19 requests after its first, stable 0 of 180 requests")
