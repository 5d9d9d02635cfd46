"""`kill -9` at any moment, then `bnpipe run`: the same bytes, and a store without damage."""

import random
import subprocess

import pytest

from tests.integration.conftest import MakeProject, digests, steps

KILLS = 20


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_runs_go_on_to_the_same_bytes(make_project: MakeProject) -> None:
    dice = random.Random(20)
    expected = make_project().json("run")
    kills = 0
    while kills < KILLS:
        project = make_project()
        finished = False
        while not finished:
            child = project.start("run")
            try:
                child.communicate(timeout=dice.uniform(0.3, expected["seconds"]))
                assert child.returncode == 0
                finished = True
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
                kills += 1
                project.call("gc", "--verify")  # exit 6 if anything in the store is damaged
        final = project.json("run")
        assert steps(final) == dict.fromkeys(steps(expected), "cached") | {"pusher": "keep"}
        assert digests(final) == digests(expected)
        served = project.home / "served" / "rendered_digits"
        assert [p.name for p in served.iterdir() if p.name.isdigit()] == ["1"]
