"""One export and its golden requests for all tests of a session; fake servers."""

import stat
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from bnpipe.components.infra_validator import Inputs
from bnpipe.components.infra_validator.servers import BINARY, Server
from tests.components.infra_validator import candidates

# A shell starts it: behind #! the path of an interpreter must not hold a space.
FAKE = """\
#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import http.server, json, os, sys, time
from pathlib import Path
here = Path(__file__).parent
(here / "pid").write_text(str(os.getpid()))
flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])

class Status(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = {{"error_code": "OK", "error_message": ""}}
        version = {{"version": "1", "state": "AVAILABLE", "status": status}}
        body = json.dumps({{"model_version_status": [version]}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

def serve():
    address = ("127.0.0.1", int(flags["rest_api_port"]))
    http.server.HTTPServer(address, Status).serve_forever()

{body}
"""


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `saved_model/` and `golden.npz`."""
    folder = tmp_path_factory.mktemp("candidate")
    candidates.golden(candidates.export(folder / "saved_model"), folder / "golden.npz")
    return folder


@pytest.fixture
def inputs(exported: Path, tmp_path: Path) -> Inputs:
    return candidates.inputs(tmp_path, exported / "saved_model", exported / "golden.npz")


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], Server]:
    """Makes a program that is started as if it were TensorFlow's server; it writes `pid`."""

    def make(body: str) -> Server:
        script = tmp_path / BINARY
        script.write_text(FAKE.format(python=sys.executable, body=textwrap.dedent(body)))
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return Server(BINARY, "fake", str(script))

    return make
