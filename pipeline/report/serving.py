"""How the model was tried on a server before it could be published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bnpipe.pipeline.report.contents import Contents, Json


@dataclass(frozen=True)
class Trial:
    """The infra validator's verdict.

    Attributes:
        outcome: `passed` or `failed`.
        sentence: the verdict in words.
        checks: outcome, name and finding of everything that was asked, the failed ones first.
    """

    outcome: str
    sentence: str
    checks: list[tuple[str, str, str]]


def trial(contents: Contents) -> Trial | None:
    """What was found; None when the model was not tried."""
    verdict = contents.trial
    if not verdict:
        return None
    # Sorting is stable: what was asked first stays first.
    checks = sorted(_checks(verdict), key=lambda check: check[0] != "failed")
    return Trial(_outcome(verdict.get("passed")), str(verdict.get("sentence", "")), checks)


def _checks(verdict: Json) -> Iterator[tuple[str, str, str]]:
    for finding in verdict.get("findings", ()):
        yield "failed", f"SavedModel: {finding.get('code', '')}", str(finding.get("sentence", ""))
    for server, checks in verdict.get("checks", {}).items():
        for check in checks:
            yield _outcome(check["passed"]), f"{server}: {check['name']}", str(check["sentence"])


def _outcome(passed: object) -> str:
    return "passed" if passed else "failed"
