"""How the model was tried on a server before it could be published."""

from __future__ import annotations

from collections.abc import Iterator

from bnpipe.pipeline.report.contents import Contents
from bnpipe.pipeline.report.evaluation import ruling_row


def trial(contents: Contents) -> Iterator[tuple[str, str, str]]:
    """Outcome, name and sentence of everything that was asked; none when it was not tried."""
    for finding in contents.trial.get("findings", ()):
        yield "block", f"SavedModel: {finding.get('code', '')}", str(finding.get("sentence", ""))
    for server, checks in contents.trial.get("checks", {}).items():
        for check in checks:
            outcome, name, _, _, sentence = ruling_row(check)
            yield outcome, f"{server}: {name}", sentence
