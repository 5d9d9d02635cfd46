"""The fresh process: lints a SavedModel, then restores and serves it with the stand-in.

python -m bnpipe.components.infra_validator.fresh PARENT_ID

When it has loaded its libraries it reads the base path, as a line of JSON. It writes one line of
JSON with the lint's findings, then the stand-in's lines.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bnpipe.components.infra_validator.servers import MODEL
from bnpipe.data.json_text import json_text
from bnpipe.data.parent import tie


def main() -> int:
    """Returns the exit code: 0 when the lint found something, else the stand-in's."""
    tie(int(sys.argv[1]))
    # A SavedModel needs no Keras, and this process lives for seconds: without Keras and without
    # garbage collection TensorFlow is imported in half the time.
    sys.modules["keras"] = None  # type: ignore[assignment]
    gc.disable()

    from bnpipe.serving.lint import lint
    from bnpipe.serving.local import server  # noqa: F401
    from bnpipe.serving.local.main import main as serve

    line = sys.stdin.readline()
    if not line:  # there is nothing to try
        return 0
    base = json.loads(line)
    findings = lint(Path(base) / "1")
    sys.stdout.write(json_text([asdict(finding) for finding in findings]) + "\n")
    sys.stdout.flush()
    if findings:
        return 0

    flags = ["--rest_api_port=0", "--port=0", "--max_num_load_retries=0"]
    return serve([*flags, f"--model_name={MODEL}", f"--model_base_path={base}"])


if __name__ == "__main__":
    sys.exit(main())
