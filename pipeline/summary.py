"""The product's entries in `run.json` and `report.json`, beside those of any graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bnpipe.data.plain_file import read_plain
from bnpipe.pipeline.engine.plan import Action
from bnpipe.pipeline.engine.store import Store

FILES = {"evaluation": "metrics.json", "blessing": "blessing.json"}
"""The files, by output field of the evaluator, that the report is drawn from."""


def describe(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """`verdict`, the evaluator's if no gate refused, and `pushed`.

    Args:
        steps: what became of each, as in `run.json`.
    """
    judged = [s for s in steps if s["verdict"] and "blessing" in s["outputs"]]
    refused = [s for s in steps if s["verdict"] and not s["verdict"]["passed"]]
    said: dict[str, Any] = {"pushed": _pushed(steps)}
    if judged and not refused:
        said["verdict"] = {"step": judged[0]["name"], **judged[0]["verdict"]}
    return said


def attach(store: Store, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The metrics and every rule of the gate, for `report.json`."""
    contents = {}
    for step in steps:
        for field, name in FILES.items():
            digest = step["outputs"].get(field)
            path = store.object_path(digest) / name if digest else None
            if path is not None and path.exists():
                contents[field] = json.loads(read_plain(path))
    return contents


def _pushed(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The version that was published, or the sentence that says why none was."""
    for step in steps:
        if step["component"] != "pusher" or step["error"] is not None:
            continue
        if step["action"] == Action.STOPPED:
            return {"sentence": "nothing: a gate said no"}
        if not step["outputs"]:
            return {"sentence": "; ".join(r["sentence"] for r in step["reasons"])}
        facts = step["facts"]
        path = str(Path(str(facts["base_path"])) / str(facts["version"]))
        what = "live" if facts.get("label", "stable") == "stable" else "the canary"
        return {**facts, "path": path, "sentence": f"v{facts['version']} is {what} in {path}"}
    return None
