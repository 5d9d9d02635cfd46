"""The triggers `drift`, `accuracy` and `estimate`, in a process of its own: they need TensorFlow.

`python -m bnpipe.pipeline.schedule.inspection` reads {"config", "home", "now", "wanted"} and
writes, by trigger, the fields of `Seen`, or {"error": sentence} if it could not tell.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnpipe.components.example_validator import Params as ValidatorParams
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import BnpipeError, DataError
from bnpipe.data.json_text import json_text
from bnpipe.data.sources.spans import Span, find_spans
from bnpipe.pipeline.champion import champion_statistics_of
from bnpipe.pipeline.configuration.config import Config, from_values
from bnpipe.pipeline.configuration.publishing import served_folder
from bnpipe.pipeline.engine.errors import one_line
from bnpipe.pipeline.engine.runs import find_run
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.estimates import Estimate, append
from bnpipe.pipeline.schedule.triggers import Seen, new_spans
from bnpipe.serving.folder import versions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bnpipe.data.sources.source import BadRecord
    from bnpipe.data.statistics.summary import SplitSummary
    from bnpipe.pipeline.schedule.answers import Look

MOST_REQUESTS = 20_000
"""So many logged images are looked at, the newest ones."""
_LEVEL = 0.01
_REQUESTS = "requests"


class Inspection:
    """Looks at new data, requests and the champion of one home.

    Args:
        config: the configuration.
        home: the home.
        now: the present moment, ISO 8601.
    """

    def __init__(self, config: Config, home: Path, now: str) -> None:
        self._config = config
        self._now = now
        self._store = Store(home)
        self._served = served_folder(config, home)
        self._live = versions.live(self._served)
        self._unwritten: list[str] = []

    def drift(self) -> Seen:
        """New spans and logged requests against what the champion was trained and evaluated on.

        Their statistics against those of the training data, and its answers to them against its
        answers to the evaluated split: a network may be confused by what looks alike on average.

        Raises:
            BnpipeError: data or statistics cannot be read.
        """
        from bnpipe.data.statistics.summary import SplitSummary

        statistics = champion_statistics_of(self._served, self._store.home)(None)
        if statistics is None:
            return Seen(remark="drift: the champion's data is not known here")
        reference = SplitSummary.read(statistics.location / "Split-train")
        names, off, unread, info = [], [], [], self._info()
        for name, columns in self._samples():
            names.append(name)
            sample = SplitSummary(info.height, info.width, info.classes)
            sample.add(columns)
            off.append(self._off(name, sample, reference))
            try:
                look = self._asked if name == _REQUESTS else self._look(columns["image"])
            except Exception as error:  # the boundary to the model: the images tell without it
                unread.append(f"{name}: answers cannot be looked at: {one_line(error)}")
                continue
            if look is not None and look.drift.drifted:
                off.append(f"{name}: {look.drift.sentence}")
        if not names:
            return Seen(remark="drift: no new data and no requests to look at")
        unread += self._unwritten
        if any(off):
            return Seen("; ".join(filter(None, [*off, *unread])))
        quiet = f"no drift in {', '.join(names)}"
        return Seen(remark="; ".join([quiet, *unread]), failed=bool(unread))

    def accuracy(self) -> Seen:
        """The champion on the newest span against what it had when it was published.

        Raises:
            BnpipeError: the span, the model or its run cannot be read.
        """
        spans = self._spans()
        if self._live is None or not spans:
            return Seen(remark="accuracy: no champion and newest span to compare")
        span, before = spans[-1], self._published_accuracy()
        if before is None:
            return Seen(remark=f"accuracy: what v{self._live} had when published is not known here")
        from bnpipe.components.evaluator.statistics import clopper_pearson
        from bnpipe.serving.client.restored import class_ids

        images, labels = self._labelled(span)
        answers = class_ids(versions.version_path(self._served, self._live), images)
        total, right = len(labels), int((answers == labels).sum())
        at_most = float(clopper_pearson(right, total, 1 - 2 * _LEVEL).high)  # one-sided
        sentence = (
            f"v{self._live} has accuracy {right / total:.4f} on span {span.name} ({total} images, "
            f"99 % at most {at_most:.4f}), {before:.4f} when published"
        )
        dropped = at_most < before - self._config.schedule.accuracy_drop
        return Seen(sentence) if dropped else Seen(remark=sentence)

    def estimate(self) -> Seen:
        """How good the champion is on logged requests, from how sure it is of its answers.

        Raises:
            BnpipeError: the requests, the evaluation or the model cannot be read.
        """
        from bnpipe.components.label_validator.accuracy_estimate import LEAST

        look = self._asked
        if look is not None and look.estimate is None and look.images >= LEAST:
            return Seen(remark=f"estimate: {look.drift.sentence}")  # not with such answers
        if look is None or look.estimate is None:
            return Seen(remark="estimate: too few requests, or the evaluation is not known here")
        sentence = f"v{self._live} {look.sentence}; {look.estimate.before:.4f} when published"
        sentence = "; ".join([sentence, *self._unwritten])
        dropped = look.estimate.high < look.estimate.before - self._config.schedule.accuracy_drop
        if dropped:
            return Seen(sentence)
        return Seen(remark=sentence, failed=bool(self._unwritten))

    @cached_property
    def _asked(self) -> Look | None:
        """The champion's answers to the newest requests; what they tell is written down at once."""
        from bnpipe.components.label_validator.answer_drift import MOST

        look = self._look(self._requests(MOST))
        if look is not None and look.estimate is not None:
            assert self._live is not None  # it has answered
            source = versions.provenance_of(self._served, self._live)
            estimate = Estimate(
                time=self._now,
                version=self._live,
                requests=look.images,
                accuracy=look.estimate.accuracy,
                low=look.estimate.low,
                high=look.estimate.high,
                drift=look.drift.drifted,
                sentence=f"v{self._live} {look.sentence}",
                model=source.get("inputs", {}).get("model", ""),
            )
            try:
                append(self._store.home, estimate)
            except OSError as error:  # what was seen is not unseen by that
                self._unwritten = [f"estimates.jsonl cannot be written: {one_line(error)}"]
        return look

    def _look(self, images: npt.NDArray[np.uint8]) -> Look | None:
        """The champion's answers to images uint8[N, H * W]; None when nothing is known of it."""
        from bnpipe.pipeline.schedule.answers import LiveAnswers

        if self._live is None:
            return None
        info = self._info()
        live = LiveAnswers(self._store, self._served, self._live, info.classes)
        return live.look(images.reshape(-1, info.height, info.width))

    def _requests(self, most: int) -> npt.NDArray[np.uint8]:
        """Images of the newest logged requests, uint8[N, H * W]."""
        import numpy as np

        from bnpipe.serving.client.logged_images import logged_images

        folder = self._config.schedule.requests
        if folder is None or self._live is None:
            return np.zeros((0, 0), np.uint8)
        info = self._info()
        return logged_images(Path(folder), info.height, info.width, most=most)

    def _samples(self) -> Iterator[tuple[str, dict[str, npt.NDArray[Any]]]]:
        """Data that may have drifted: spans that no model was judged on yet, and requests."""
        for span in self._spans(new_spans(self._config, self._store)[0]):
            images, labels = self._labelled(span)
            yield f"span {span.name}", {"image": images.reshape(len(images), -1), "label": labels}
        requests = self._requests(MOST_REQUESTS)
        if len(requests):
            yield _REQUESTS, {"image": requests}

    def _off(self, name: str, sample: SplitSummary, reference: SplitSummary) -> str:
        """Compare a sample with the champion's data, by the validator's checks and bounds.

        Returns:
            what differs most, and how much else does; empty when nothing differs.
        """
        from bnpipe.components.example_validator.gate import CHECKS, DRIFT_CHECKS
        from bnpipe.components.example_validator.profile import Profile, Share

        params: ValidatorParams = self._config.validator
        profile = Profile(
            info=self._info(),
            schema=None,
            splits={},
            parts=[Share(name, name, sample)],
            spans={},
            champion=reference,
            params=params,
        )
        observations = [
            # What has happened to all images shows in those of every class too: that comes last.
            # Where no outlier is tolerated, the bound is 0.
            (
                check != "class_statistics",
                observation.value / max(observation.bound, 1e-9),
                observation,
            )
            for check in DRIFT_CHECKS
            if getattr(params.checks, check) != "off"
            for observation in CHECKS[check](profile)
            if observation.outcome != "ok"
        ]
        if not observations:
            return ""
        *_, worst = max(observations, key=lambda o: o[:2])
        more = f" (and {len(observations) - 1} more)" if len(observations) > 1 else ""
        return f"{worst.sentence}{more}"

    def _info(self) -> DatasetInfo:
        """The data set that the champion takes and answers for.

        Raises:
            DataError: it does not say.
        """
        assert self._live is not None
        info: Any = versions.provenance_of(self._served, self._live).get("dataset", {})
        try:
            return DatasetInfo(
                name=info["name"],
                version=str(info.get("version", "")),
                height=int(info["height"]),
                width=int(info["width"]),
                label_names=tuple(info["label_names"]),
                splits={},
                synthetic=False,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"v{self._live} does not say which data it takes: {error}") from error

    def _spans(self, names: list[str] | None = None) -> list[Span]:
        data = self._config.data
        if data.spans is None:
            return []
        spans = find_spans(
            data.spans,
            window=data.span_window,
            first=data.first_span,
            settle=data.span_settle_seconds,
        )
        return [span for span in spans if names is None or span.name in names]

    def _labelled(self, span: Span) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Images uint8[N, H, W] and labels int64[N] of a span: test, where it has one, else train.

        Raises:
            DataError: it has another layout or unreadable files.
        """
        import numpy as np

        from bnpipe.data.sources.span_layout import span_sources

        def refuse(bad: BadRecord) -> None:
            raise DataError(f"span {span.name}: {bad.file}: {bad.reason}")

        info = self._info()
        sources = span_sources(span, info)
        source = sources.get("test") or sources["train"]
        batches = list(source.read_slice(0, source.size, refuse))
        images = np.concatenate([b.images.reshape(-1, info.height, info.width) for b in batches])
        return images, np.concatenate([b.labels for b in batches])

    def _published_accuracy(self) -> float | None:
        """The champion's accuracy in the run that published it."""
        assert self._live is not None
        run = versions.provenance_of(self._served, self._live).get("run")
        try:
            steps = find_run(self._store, str(run)).summary()["steps"]
        except BnpipeError:
            return None
        facts = [s["facts"] for s in steps if s["component"] == "evaluator"]
        accuracy = facts[0].get("candidate_accuracy") if facts else None
        return None if accuracy is None else float(accuracy)


def main() -> None:
    """Answer what stdin asks."""
    asked = json.load(sys.stdin)
    inspection = Inspection(from_values(asked["config"]), Path(asked["home"]), asked["now"])
    looks = {
        "drift": inspection.drift,
        "accuracy": inspection.accuracy,
        "estimate": inspection.estimate,
    }
    answers = {}
    for name in asked["wanted"]:
        try:
            answers[name] = asdict(looks[name]())
        except Exception as error:  # the boundary to data and models
            answers[name] = {"error": one_line(error)}
    sys.stdout.write(json_text(answers) + "\n")


if __name__ == "__main__":
    main()
