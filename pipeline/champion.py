"""Looks up the champion: what the served folder really serves now."""

from __future__ import annotations

from pathlib import Path

from pipeline.graph import Resolved, Resolver
from serving import versions


def champion_of(served: Path) -> Resolver:
    """A resolver for the model that a candidate must not be worse than.

    That is the live version; or, when the candidate itself is live or withdrawn, the version that
    it was compared with when it was pushed. So an unchanged rerun asks an unchanged question.
    """

    def resolve(candidate: str | None) -> Resolved | None:
        found = versions.champion(served, candidate)
        if found is None:
            return None
        return Resolved(found.path, found.digest, f"v{found.version}")

    return resolve
