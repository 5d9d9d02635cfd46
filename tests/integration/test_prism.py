"""On Prism, a runner of another make: the same bytes, with workers of its own or in a pool."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.child import environment
from tests.integration.conftest import SMALL, Project, outputs
from tests.integration.hosts import CACHE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

_MODULE = "github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0"


@pytest.fixture(scope="module")
def prism() -> Path:
    """The program, built from its source once; skips without Go."""
    if shutil.which("go") is None:
        pytest.skip("Prism is built by Go, which is not there")
    program = CACHE / "prism"
    if not program.is_file():
        environ = environment(GOBIN=str(CACHE))
        done = subprocess.run(
            ["go", "install", _MODULE], capture_output=True, text=True, env=environ
        )
        if done.returncode != 0:
            pytest.skip(f"Prism cannot be built: {done.stderr.strip().splitlines()[-1]}")
    return program


@pytest.mark.parametrize("workers", ["loopback", "external:localhost:50000"])
def test_every_artifact_has_the_bytes_of_a_local_run(
    prism: Path, locally: Project, tmp_path: Path, workers: str
) -> None:
    project = Project(tmp_path)
    engine = f"beam: {{engine: prism, prism: {{job_server: {prism}, environment: '{workers}'}}}}\n"
    (tmp_path / "bnpipe.yaml").write_text(SMALL + engine)
    run = shlex.join([sys.executable, "-m", "bnpipe.pipeline", "run", "--to", "evaluator"])
    # The pool listens on all addresses: it has a network of its own, which is this machine alone.
    module = "apache_beam.runners.worker.worker_pool_main"
    pool = shlex.join([sys.executable, "-P", "-m", module, "--service_port=50000"])
    shell = f"ip link set lo up; {pool} & {run}; code=$?; kill $!; exit $code"
    path = f"{Path(sys.executable).parent}:{environment()['PATH']}"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", shell],
        cwd=tmp_path,
        env=environment(PATH=path),
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr:
        pytest.skip(f"no network of its own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    again = project.json(
        "run", "--to", "evaluator", "--set", "beam.engine=local", "--force=transform"
    )
    assert [step["name"] for step in again["steps"] if step["action"] == "run"] == ["transform"]
    of_steps = outputs(project, "1")
    expected = outputs(locally)
    assert of_steps == {name: expected[name] for name in of_steps}
