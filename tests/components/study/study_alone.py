"""python -m tests.components.study.study_alone EXAMPLES FOLDER WORKERS: a small study, by itself.

Its scratch folder and its artifact lie in FOLDER.
"""

import logging
import sys
from pathlib import Path

from bnpipe.components.artifacts import TransformedExamples
from bnpipe.components.base import Context
from bnpipe.components.study import Inputs, Outputs, Params, run
from bnpipe.components.study.results import Study

PARAMS = Params(seeds=2, epochs=1, experiments=("main", "custom"))


def main(examples: Path, folder: Path, workers: int) -> None:
    artifact, scratch = folder / "study", folder / "scratch"
    for made in (artifact, scratch):
        made.mkdir(parents=True, exist_ok=True)
    context = Context(
        step="study",
        run_id="test",
        scratch=scratch,
        cache=scratch,
        log=logging.getLogger("test"),
        progress=lambda done, total, note: None,
        beam=lambda: None,  # type: ignore[arg-type,return-value]
    )
    params = Params(**{**vars(PARAMS), "workers": workers})
    inputs = Inputs(examples=TransformedExamples("transform.transformed", examples))
    run(inputs, Outputs(study=Study("study.study", artifact)), params, context)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
