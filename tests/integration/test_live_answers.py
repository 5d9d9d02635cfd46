"""What the live model makes of requests without labels, from their log to `bnpipe status`."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from bnpipe.data.sources.digit_renderer import draw_chunk
from bnpipe.pipeline.configuration.config import Config, load
from bnpipe.pipeline.configuration.publishing import served_folder
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.estimates import estimates
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.slot import Slot
from bnpipe.pipeline.schedule.triggers import Triggers
from bnpipe.pipeline.schedule.work import Looked
from bnpipe.serving.client.request_log import RequestLog
from bnpipe.serving.client.restored import class_ids
from tests.integration.conftest import Project

NOW = datetime(2026, 11, 28, 3, 5, tzinfo=UTC)
IMAGES, LABELS = (part[:600] for part in draw_chunk(5, "test", 0))
LATER = 255 - IMAGES


@pytest.fixture
def project(kept: Project, tmp_path: Path) -> Project:
    return kept.copied_to(tmp_path)


def asked(project: Project, images: np.ndarray) -> Looked:
    """A tick's look, after these images were asked for one by one."""
    folder = project.folder / "requests"
    log = RequestLog(folder)
    for image in images:
        log.predict("mnist", "serve_images", 1, {"images": image[None]}, {})
    log.close()
    sets = [f"schedule.requests={folder}", "schedule.triggers=[drift, estimate]"]
    config: Config = load(project.folder / "bnpipe.yaml", [*sets, "schedule.every=1d"], {})
    store = Store(project.home)
    claim = Claim(slot=Slot(NOW))
    return Triggers(config, store, served_folder(config, project.home)).look(claim, NOW)


def test_a_tick_estimates_how_good_the_live_version_is_and_status_says_it(
    project: Project,
) -> None:
    looked = asked(project, IMAGES)
    assert not looked.failed and not [r for r in looked.reasons if r.trigger == "estimate"]
    (estimate,) = estimates(project.home)
    answers = class_ids(project.home / "served" / "mnist" / "1", IMAGES)
    assert estimate.low <= np.mean(answers == LABELS) <= estimate.high
    assert (estimate.time, estimate.version, estimate.requests) == ("2026-11-28T03:05:00Z", 1, 600)
    assert f"{estimate.sentence}; " in " ".join(looked.otherwise)
    assert f"\nestimate  v1 is estimated at {estimate.accuracy:.3f}" in project.call("status")
    status = project.json("status")
    assert status["estimate"]["accuracy"] == estimate.accuracy
    page = Path(project.json("report")["report"]).read_text()
    assert f">{estimate.accuracy:.4f}<" in page and f"{estimate.high:.3f}) on 600 logged" in page


def test_other_images_are_drift_by_the_answers_to_them(project: Project) -> None:
    looked = asked(project, LATER)
    (drift,) = [r.sentence for r in looked.reasons if r.trigger == "drift"]
    assert "; requests: " in drift and " differs most: on average " in drift
    (line,) = (project.home / "schedule" / "estimates.jsonl").read_text().splitlines()
    assert json.loads(line)["drift"] is True
    assert "but drift may make it far too high" in project.call("status")


def test_without_the_run_behind_it_nothing_is_said(project: Project) -> None:
    (project.home / "runs" / "0001" / "run.json").unlink()
    looked = asked(project, IMAGES)
    assert not looked.reasons and not estimates(project.home)
    assert "the evaluation is not known here" in " ".join(looked.otherwise)
    assert "estimate" not in project.call("status")
