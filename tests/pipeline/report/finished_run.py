"""A finished run in a store, made without training: what the report and `diff` read."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bnpipe.components.artifacts import (
    Anomalies,
    Artifact,
    Blessing,
    Evaluation,
    Examples,
    InfraBlessing,
    LabelQuality,
    Model,
    Statistics,
)
from bnpipe.components.base import Ruling
from bnpipe.components.evaluator.gate import decide
from bnpipe.components.evaluator.params import Params
from bnpipe.components.evaluator.predictions import Predictions
from bnpipe.components.evaluator.work import measured
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.json_text import plain
from bnpipe.data.statistics.summary import SplitSummary
from bnpipe.pipeline.engine.files import write_json
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import StepRecord, Store

IMAGES = 600
NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    r"$\frac{",
    "line\nbreak\x00",
)

DATA_VERDICT: dict[str, Any] = {
    "passed": True,
    "sentence": "the data passes",
    "checks": [
        Ruling("duplicates", "warn", "warn", "3 <twice>", 3.0, 1.0).to_json(),
        Ruling("drift", "block", "not checked", "new").to_json(),
    ],
}

LABEL_VERDICT: dict[str, Any] = {
    "passed": True,
    "sentence": "the labels pass",
    "checks": [Ruling("part_labels", "block", "warn", "2 % of <train>", 0.02, 0.1).to_json()],
}

TRIAL: dict[str, Any] = {
    "passed": False,
    "sentence": "not served: stand-in: 3 <rows> differ",
    "server": "stand-in",
    "weaker": True,
    "findings": [],
    "checks": {
        "stand-in": [
            Ruling("predict over REST", "block", "ok", "largest difference 0").to_json(),
            Ruling("warmup", "block", "block", "3 <rows> differ").to_json(),
        ]
    },
}
SPANS = {
    "2026-01-02": {"number": 7, "train": 41, "validation": 5, "test": 0, "bad_records": 2},
    NASTY[0]: {"number": 8, "train": 1, "validation": 0, "test": 0, "bad_records": 0},
}


def predictions(wrong: float, seed: int, labels: tuple[str, ...], bins: int = 3) -> Predictions:
    """Answers of two models, of which the candidate errs on a share `wrong` of the images."""
    rng = np.random.default_rng(0)
    truth = np.arange(IMAGES) % len(labels)
    columns = {"column": np.array([NASTY[i % bins].encode() for i in range(IMAGES)])}
    models = {}
    for name, share in (("candidate", wrong), ("baseline", 0.1)):
        rng = np.random.default_rng([seed, len(name)])
        guess = np.where(rng.random(IMAGES) < share, (truth + 1) % len(labels), truth)
        rows = rng.uniform(0.01, 0.1, (IMAGES, len(labels)))
        rows[np.arange(IMAGES), guess] = 3.0
        models[name] = (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)
    ids = np.array([f"drawn:1.0.0/test/{i}".encode() for i in range(IMAGES)])
    return Predictions(ids, truth.astype(np.int64), columns, models)


def formerly(artifact: dict[str, Any], field: str) -> dict[str, Any]:
    """A gate's file as it was when each gate had words of its own."""
    words = {"ok": "passed", "warn": "warned", "block": "failed"}

    def before(ruling: dict[str, Any]) -> dict[str, Any]:
        told = {k: ruling[k] for k in ("name", "value", "bound", "sentence")}
        level, outcome = ruling["level"], ruling["outcome"]
        if field == "checks":
            return {**told, "action": level, "level": outcome}
        passed = {"ok": True, "warn": False, "block": False}.get(outcome)
        if field == "rules":
            return {**told, "outcome": words.get(outcome, outcome), "passed": passed}
        return {"name": told["name"], "sentence": told["sentence"], "passed": passed}

    if field == "trial":
        servers = artifact["checks"].items()
        return {**artifact, "checks": {s: [before(r) for r in made] for s, made in servers}}
    return {**artifact, field: [before(r) for r in artifact[field]]}


class Home:
    """A home whose runs are written by hand."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.store.prepare()

    def finish(
        self,
        run: str,
        *,
        wrong: float = 0.05,
        seed: int = 1,
        labels: tuple[str, ...] = ("zero", NASTY[0], "two"),
        epochs: int = 3,
        code: str = "a",
        former: bool = False,
    ) -> RunFolder:
        """A run that went through to the verdict; `former`: by a version with other words."""
        info = DatasetInfo(
            "drawn", "1.0.0", 4, 4, labels, dict.fromkeys(("train", "test"), IMAGES), True
        )
        params = Params(slices=("label", "column", "column*label"), resamples=100)
        answers = predictions(wrong, seed, labels)
        metrics, evidence = measured(answers, info, params)
        decision = decide(replace(evidence, batch_difference=0.0, tfma_failures=()), params)
        metrics["dataset"] = {
            **{k: getattr(info, k) for k in ("name", "version", "synthetic", "height", "width")},
            "split": "test",
            "images": IMAGES,
            "label_names": list(labels),
        }
        blessing = {
            "passed": decision.passed,
            "sentence": decision.sentence,
            "rules": [ruling.to_json() for ruling in decision.rulings],
            "champion": None,
        }
        data_verdict, trial = DATA_VERDICT, TRIAL
        if former:
            blessing = formerly(blessing, "rules")
            data_verdict, trial = formerly(DATA_VERDICT, "checks"), formerly(TRIAL, "trial")
        digests = {
            "examples": self._commit(
                Examples, {"dataset.json": info.to_json(shards={}, spans=SPANS)}
            ),
            "trainer": self._commit(Model, _model("batch", epochs, seed)),
            "baseline": self._commit(Model, _model("none", epochs, 0)),
            "evaluation": self._evaluation(answers, plain(metrics)),
            "blessing": self._commit(Blessing, {"blessing.json": json.dumps(plain(blessing))}),
            "statistics": self._statistics(len(labels)),
            "anomalies": self._commit(Anomalies, {"verdict.json": json.dumps(data_verdict)}),
            "quality": self._labels(),
            "infra": self._commit(InfraBlessing, {"verdict.json": json.dumps(trial)}),
        }
        verdict = {"passed": decision.passed, "sentence": decision.sentence}
        steps = [
            self._step(run, "example_gen", {}, {"examples": digests["examples"]}, code),
            self._step(
                run,
                "statistics_gen",
                {"examples": digests["examples"]},
                {"statistics": digests["statistics"]},
                code,
            ),
            self._step(
                run,
                "example_validator",
                {"statistics": digests["statistics"]},
                {"anomalies": digests["anomalies"]},
                code,
                {"passed": True, "sentence": DATA_VERDICT["sentence"]},
            ),
            *(
                self._step(run, n, {"examples": digests["examples"]}, {"model": digests[n]}, code)
                for n in ("trainer", "baseline")
            ),
            self._step(run, "label_validator", {}, {"quality": digests["quality"]}, code),
            self._step(
                run,
                "evaluator",
                {
                    "candidate": digests["trainer"],
                    "baseline": digests["baseline"],
                    "champion": "f" * 64,
                },
                {"evaluation": digests["evaluation"], "blessing": digests["blessing"]},
                code,
                verdict,
            ),
            self._step(
                run,
                "infra_validator",
                {"model": digests["trainer"]},
                {"blessing": digests["infra"]},
                code,
            ),
        ]
        config = {"trainer": {"epochs": epochs}, "evaluator": plain(asdict(params))}
        summary = _summary(self.store, run, steps, {"step": "evaluator", **verdict})
        report = {
            **summary,
            "config": config,
            "evaluation": plain(metrics),
            "blessing": plain(blessing),
        }
        return self.write(run, summary, report)

    def fail(
        self, run: str, status: str = "failed", error: str | None = "no <space> left"
    ) -> RunFolder:
        """A run that got nowhere; a killed one leaves no report.json."""
        step = {**self._step(run, "example_gen", {}, {}, "a"), "action": "failed", "error": error}
        summary = {**_summary(self.store, run, [step], None), "status": status, "error": error}
        return self.write(run, summary, {**summary, "config": {}} if error else None)

    def write(self, run: str, summary: Any, report: Any | None) -> RunFolder:
        folder = self.store.runs / run
        folder.mkdir()
        write_json(folder / "run.json", summary)
        if report is not None:
            write_json(folder / "report.json", report)
        return RunFolder(folder)

    def _evaluation(self, answers: Predictions, metrics: Any) -> str:
        rows = np.flatnonzero(~answers.correct("candidate"))[:6]
        images = np.random.default_rng(0).integers(0, 255, (len(rows), 4, 4), dtype=np.uint8)
        folder = self.store.stage("made", "evaluator", 1, "evaluation")
        (folder / "metrics.json").write_text(json.dumps(metrics))
        answers.write(folder / "predictions.npz")
        arrays = {"mistakes/row": rows, "mistakes/image": images}
        np.savez(folder / "pictures.npz", **arrays)
        return self.store.commit_object(Evaluation("evaluator.evaluation", folder)).digest

    def _labels(self) -> str:
        folder = self.store.stage("made", "label_validator", 1, "quality")
        (folder / "verdict.json").write_text(json.dumps(LABEL_VERDICT))
        arrays = {"id": [b"drawn/test/7"], "label": [1], "suggested": [2], "score": [0.03]}
        arrays |= {"confident": [True], "image": np.zeros((1, 4, 4), np.uint8)}
        np.savez(folder / "suspects.npz", **{f"test/{n}": np.array(v) for n, v in arrays.items()})
        return self.store.commit_object(LabelQuality("label_validator.quality", folder)).digest

    def _statistics(self, classes: int) -> str:
        folder = self.store.stage("made", "statistics_gen", 1, "statistics")
        for split in ("train", "test"):
            images = np.random.default_rng(0).integers(0, 255, (30, 16), dtype=np.uint8)
            summary = SplitSummary(4, 4, classes)
            summary.add({"image": images, "label": np.arange(30) % classes})
            sources = (".", "base", "span-2026-01-02") if split == "train" else (".",)
            for source in sources:
                (folder / f"Split-{split}" / source).mkdir(parents=True)
                summary.write(folder / f"Split-{split}" / source)
        return self.store.commit_object(Statistics("statistics_gen.statistics", folder)).digest

    def _commit(self, kind: type[Artifact], files: dict[str, str]) -> str:
        folder = self.store.stage("made", "made", 1, kind.__name__)
        for name, text in files.items():
            (folder / name).write_text(text)
        return self.store.commit_object(kind("made.made", folder)).digest

    def _step(
        self, run: str, name: str, inputs: Any, outputs: Any, code: str, verdict: Any = None
    ) -> dict[str, Any]:
        parts = {
            "code": {
                f"bnpipe.components.{name}": code * 64,
                "bnpipe.data.records.examples": "d" * 64,
            },
            "environment": {"python": "3.11"},
            "outside": {},
            "files": {},
        }
        key = f"{name}-{run}"
        record = StepRecord(key, name, name, outputs, {}, None, parts, run, 1.5, 0.0)
        self.store.commit_step(record)
        return {
            "name": name,
            "component": name,
            "action": "run",
            "reasons": [{"code": "new", "sentence": "never run here"}],
            "seconds": 1.5,
            "key": key,
            "facts": {},
            "inputs": inputs,
            "outputs": outputs,
            "verdict": verdict,
            "error": None,
        }


def _model(normalization: str, epochs: int, seed: int) -> dict[str, str]:
    names = [f"{split}_{m}" for split in ("train", "validation") for m in ("loss", "accuracy")]
    history = [{"epoch": i + 1, **dict.fromkeys(names, 1 / (i + 2 + seed))} for i in range(epochs)]
    card = {"params": {"normalization": normalization}}
    return {
        "history.json": json.dumps({"epochs": history}),
        "model_card.json": json.dumps(card),
    }


def _summary(store: Store, run: str, steps: list[dict[str, Any]], verdict: Any) -> dict[str, Any]:
    return {
        "id": run,
        "status": "succeeded" if not verdict or verdict["passed"] else "stopped",
        "exit_code": 0,
        "dataset": "drawn",
        "started": 1_700_000_000.0,
        "seconds": 6.0,
        "steps": steps,
        "verdict": verdict,
        "pushed": None,
        "error": None,
        "config_digest": "c" * 64,
        "folder": str(store.runs / run),
    }
