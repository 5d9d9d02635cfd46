"""Drift of new data and of requests, and a champion that loses accuracy, over a real model."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components.label_validator.accuracy_estimate import AccuracyEstimate
from bnpipe.components.label_validator.answer_drift import AnswerDrift
from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.sources.digit_renderer import draw_chunk
from bnpipe.data.statistics.summary import SplitSummary
from bnpipe.pipeline.configuration.config import Config, from_values
from bnpipe.pipeline.engine.graph import Resolved
from bnpipe.pipeline.estimates import estimates
from bnpipe.pipeline.schedule import inspection
from bnpipe.pipeline.schedule.answers import Look
from bnpipe.pipeline.schedule.inspection import Inspection
from bnpipe.serving.client.logged_images import logged_images
from bnpipe.serving.client.request_log import RequestLog
from bnpipe.serving.errors import ServingError
from tests.span_folders import write_records

DATASET = {
    "name": "rendered_digits",
    "version": "1.0.0",
    "height": 28,
    "width": 28,
    "label_names": [str(n) for n in range(10)],
}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "spans").mkdir()
    return from_values(
        {
            "data": {"dataset": "rendered_digits", "spans": str(tmp_path / "spans/{SPAN}")},
            "schedule": {"every": "1d", "requests": str(tmp_path / "requests")},
        }
    )


@pytest.fixture
def look(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspection:
    """An inspection whose champion learnt from rendered digits, and was right on 95 of 100."""
    images, labels = draw_chunk(1, "train", 0)
    summary = SplitSummary(28, 28, 10)
    summary.add({"image": images.reshape(len(images), -1), "label": labels})
    (tmp_path / "statistics" / "Split-train").mkdir(parents=True)
    summary.write(tmp_path / "statistics" / "Split-train")
    resolved = Resolved(tmp_path / "statistics", "0" * 64, "data of v1")
    monkeypatch.setattr(inspection, "champion_statistics_of", lambda *a: lambda c: resolved)
    monkeypatch.setattr(inspection.versions, "live", lambda base: 1)
    monkeypatch.setattr(inspection.versions, "provenance_of", lambda *a: {"dataset": DATASET})
    monkeypatch.setattr(Inspection, "_published_accuracy", lambda self: 0.95)
    (tmp_path / "requests").mkdir()
    return Inspection(config, tmp_path / "home", "2026-11-28T03:00:00Z")


def log(folder: Path, signature: str = "serve_images", **inputs: Any) -> Path:
    requests = RequestLog(folder)
    requests.predict("digits", signature, 1, inputs, {"class_id": np.zeros(4)})
    requests.close()
    return requests.path


def test_without_anything_new_there_is_nothing_to_see(look: Inspection) -> None:
    assert look.drift().remark == "drift: no new data and no requests to look at"
    assert not look.accuracy().fired


def test_new_data_of_the_same_kind_is_no_drift(look: Inspection, tmp_path: Path) -> None:
    write_records(tmp_path / "spans" / "7", 5, train=300)
    assert look.drift().remark == "no drift in span 7"


def write_inverted(folder: Path, inverted: int) -> None:
    """A span of 300 images, the first of them inverted."""
    images, labels = draw_chunk(5, "train", 0)
    pixels = images[:300].reshape(300, -1).copy()
    pixels[:inverted] = 255 - pixels[:inverted]
    (folder / "train").mkdir(parents=True)
    file = folder / "train" / "part-0.tfrecord"
    file.write_bytes(frame(encode({"image": pixels, "label": labels[:300]})).tobytes())
    (folder / "_SUCCESS").touch()


def test_new_data_of_another_kind_has_drifted(look: Inspection, tmp_path: Path) -> None:
    write_inverted(tmp_path / "spans" / "8", 300)
    fired = look.drift().fired
    assert "300 images in span 8 have " in fired and "the champion's data has" in fired
    assert "more)" in fired


@pytest.mark.parametrize("tolerated", [0.01, 0.0])
def test_a_few_damaged_images_of_many_are_drift_too(
    config: Config, look: Inspection, tmp_path: Path, tolerated: float
) -> None:
    write_inverted(tmp_path / "spans" / "8", 20)
    checks = replace(config.validator.checks, image_drift="off")
    validator = replace(config.validator, max_outlier_share=tolerated, checks=checks)
    seen = Inspection(replace(config, validator=validator), tmp_path / "home", "").drift()
    assert " of 300 images in span 8 have " in seen.fired


def test_requests_are_compared_too(look: Inspection, tmp_path: Path) -> None:
    images, _ = draw_chunk(5, "test", 0)
    file = log(tmp_path / "requests", images=images[:300])
    assert look.drift().remark == "no drift in requests"
    file.unlink()
    log(tmp_path / "requests", images=255 - images[:300])
    assert "in requests" in look.drift().fired


@pytest.mark.parametrize(("right", "fires"), [(0.95, False), (0.93, False), (0.7, True)])
def test_a_champion_that_is_worse_on_the_newest_span_is_a_reason(
    look: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: float, fires: bool
) -> None:
    write_records(tmp_path / "spans" / "7", 5, train=300)
    _, labels = draw_chunk(5, "train", 0)
    answers = np.where(np.arange(300) < 300 * right, labels[:300], (labels[:300] + 1) % 10)
    monkeypatch.setattr("bnpipe.serving.client.restored.class_ids", lambda folder, images: answers)
    seen = look.accuracy()
    assert bool(seen.fired) is fires
    assert f"accuracy {right:.4f} on span 7 (300 images" in seen.fired + seen.remark


@pytest.mark.parametrize(("high", "fires"), [(0.961, False), (0.959, True)])
def test_an_estimate_that_is_surely_too_low_is_a_reason_and_is_written_down_once(
    look: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, high: float, fires: bool
) -> None:
    """Too low by `schedule.accuracy_drop`, 0.02, against 0.98 in the evaluation."""
    images, _ = draw_chunk(5, "test", 0)
    log(tmp_path / "requests", images=images[:300])
    estimate = AccuracyEstimate(accuracy=0.95, low=0.94, high=high, before=0.98)
    drift = AnswerDrift(1e-9, True, "confidence differs most")
    known = Look(300, drift, estimate)
    monkeypatch.setattr(Inspection, "_look", lambda self, images: known)
    told = f"v1 is estimated at 0.950 (0.940 to {high:.3f}) on 300 logged requests, but drift"
    assert look.drift().fired == "requests: confidence differs most"
    seen = look.estimate()
    assert bool(seen.fired) is fires
    assert (seen.fired + seen.remark).startswith(told)
    (line,) = estimates(tmp_path / "home")
    assert (line.version, line.high, line.drift) == (1, high, True)


def test_a_span_that_the_champion_answers_otherwise_has_drifted(
    look: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_records(tmp_path / "spans" / "7", 5, train=300)
    drifts = {300: AnswerDrift(1e-9, True, "confidence differs most")}
    monkeypatch.setattr(Inspection, "_look", lambda s, i: Look(len(i), drifts[len(i)], None))
    assert look.drift().fired == "span 7: confidence differs most"
    drifts[300] = AnswerDrift(0.3, False, "confidence differs most")
    assert look.drift().remark == "no drift in span 7"


@pytest.mark.parametrize("inverted", [False, True])
def test_where_the_model_cannot_be_asked_the_images_still_tell(
    look: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inverted: bool
) -> None:
    def refuse(self: Inspection, images: Any) -> None:
        raise ServingError("v1 does not answer serve_images: NotFoundError: a\nb")

    monkeypatch.setattr(Inspection, "_look", refuse)
    images, _ = draw_chunk(5, "test", 0)
    log(tmp_path / "requests", images=255 - images[:300] if inverted else images[:300])
    seen = look.drift()
    trouble = "requests: answers cannot be looked at: v1 does not answer serve_images: "
    assert f"; {trouble}NotFoundError: a" in seen.fired + seen.remark
    assert "\n" not in seen.fired + seen.remark
    assert bool(seen.fired) is inverted and seen.failed is not inverted
    assert ("images in requests have " in seen.fired) is inverted


def test_an_estimate_that_cannot_be_written_down_is_told_all_the_same(
    look: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = draw_chunk(5, "test", 0)
    log(tmp_path / "requests", images=images[:300])
    estimate = AccuracyEstimate(accuracy=0.95, low=0.94, high=0.97, before=0.98)
    known = Look(300, AnswerDrift(1e-9, True, "confidence differs most"), estimate)
    monkeypatch.setattr(Inspection, "_look", lambda self, images: known)
    (tmp_path / "home/schedule/estimates.jsonl").mkdir(parents=True)
    trouble = "estimates.jsonl cannot be written: expected a file with data, received a folder"
    assert look.drift().fired.startswith(f"requests: confidence differs most; {trouble}")
    seen = look.estimate()
    assert seen.remark.startswith("v1 is estimated at 0.950 ") and trouble in seen.remark
    assert seen.failed


def test_without_numbers_in_the_answers_it_says_so(
    look: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = draw_chunk(5, "test", 0)
    log(tmp_path / "requests", images=images[:300])
    known = Look(300, AnswerDrift(0.0, True, "v1 answers 300 of 300 images with no number"), None)
    monkeypatch.setattr(Inspection, "_look", lambda self, images: known)
    assert look.drift().fired == f"requests: {known.drift.sentence}"
    assert look.estimate().remark == f"estimate: {known.drift.sentence}"


def test_with_too_few_requests_nothing_is_estimated(look: Inspection, tmp_path: Path) -> None:
    assert look.estimate().remark.startswith("estimate: too few requests")
    assert estimates(tmp_path / "home") == []


def test_logged_images_are_those_that_were_asked(tmp_path: Path) -> None:
    from bnpipe.data.png import encode_stored

    images, _ = draw_chunk(5, "test", 0)
    pixels = images[:4].reshape(4, -1)
    pngs = np.array([encode_stored(image) for image in images[:4]], object)
    for folder, signature, inputs in (
        ("a", "serve_images", {"images": images[:4]}),
        ("b", "serving_default", {"features": (pixels / 255).astype(np.float32)}),
        ("c", "serve_png", {"image_bytes": pngs}),
    ):
        log(tmp_path / folder, signature, **inputs)
        found = logged_images(tmp_path / folder, 28, 28, most=100)
        np.testing.assert_array_equal(found, pixels)
    assert len(logged_images(tmp_path / "a", 28, 28, most=3)) == 3


def test_the_newest_requests_come_first_within_a_file_and_among_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        requests = RequestLog(tmp_path / name)
        for number in range(3):
            image = np.full((1, 2, 2), number + 10 * (name == "b"), np.uint8)
            requests.predict("digits", "serve_images", 1, {"images": image}, {})
        requests.close()
        (tmp_path / f"{name}.tfrecord").write_bytes(requests.path.read_bytes())
        os.utime(tmp_path / f"{name}.tfrecord", (1, 2 if name == "b" else 1))
    assert logged_images(tmp_path, 2, 2, most=5)[:, 0].tolist() == [12, 11, 10, 2, 1]


def test_a_log_that_is_being_written_or_damaged_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    images, _ = draw_chunk(5, "test", 0)
    file = log(tmp_path, images=images[:2])
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[200] ^= 1
    file.write_bytes(whole + bytes(damaged) + whole + whole[:100])
    assert len(logged_images(tmp_path, 28, 28, most=100)) == 4
