"""The tool of OpenSSF Model Signing itself, on what bnpipe signs; and bnpipe on what it signs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from bnpipe.serving.folder import publish, verify
from bnpipe.serving.folder.signing import Signer, Verifier, load_public, load_signer
from tests.child import environment
from tests.serving.folder.served import push, saved_model

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_disk")]


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model_signing` in an environment of its own: its packages clash with the pipeline's."""
    if (there := shutil.which("model_signing")) is not None:
        return Path(there)
    folder = tmp_path_factory.mktemp("model_signing") / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], env=environment(), check=True)
    install = ("-m", "pip", "--disable-pip-version-check", "-q", "install")
    made = subprocess.run(
        # 1.1 imports pyOpenSSL without requiring it.
        [folder / "bin" / "python", *install, "model-signing>=1.1,<2", "pyOpenSSL"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"model-signing cannot be installed: {made.stderr.strip().splitlines()[-1]}")
    return folder / "bin" / "model_signing"


@pytest.fixture(params=[ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda c: c.name)
def signer(request: pytest.FixtureRequest, tmp_path: Path) -> Signer:
    key = ec.generate_private_key(request.param)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, pem in (("key", private), ("key.pub", public)):
        (tmp_path / name).write_bytes(pem)
        (tmp_path / name).chmod(0o600)
    return load_signer(tmp_path / "key")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A SavedModel with all that may be in the folder of one."""
    folder = saved_model(tmp_path / "model", "a")
    (folder / "assets.extra").mkdir()
    for name in (
        "empty",
        ".hidden",
        "assets/words of \u00e9",
        "assets.extra/x",
        "assets/.gitignore",
    ):
        (folder / name).touch()
    (folder / "variables/large").write_bytes(os.urandom(3 << 20))
    return folder


def ask(tool: Path, *words: str | Path) -> tuple[int, str]:
    done = subprocess.run([tool, *words], env=environment(), capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def check(tool: Path, base: Path, key: Path, suffix: str = "sig") -> tuple[int, str]:
    signature = ("--signature", base / f"manifests/1.{suffix}")
    return ask(tool, "verify", "key", base / "1", *signature, "--public_key", key)


def test_the_tool_verifies_what_is_published_and_nothing_else(
    tool: Path, signer: Signer, model: Path, tmp_path: Path
) -> None:
    base, key = tmp_path / "served", tmp_path / "key.pub"
    push(base, model, signer=signer)
    assert check(tool, base, key) == (0, "Verification succeeded\n")
    graph = base / "1/saved_model.pb"
    content = bytearray(graph.read_bytes())
    content[0] ^= 1
    graph.write_bytes(content)
    code, said = check(tool, base, key)
    assert code == 1 and "Hash mismatch" in said and "saved_model.pb" in said
    content[0] ^= 1
    graph.write_bytes(content)
    (base / "1/assets/more").touch()
    code, said = check(tool, base, key)
    assert code == 1 and "Extra files found in model '1': assets/more" in said
    (base / "1/assets/more").unlink()
    (base / "1/empty").unlink()
    code, said = check(tool, base, key)
    assert code == 1 and "Missing files in model '1': empty" in said
    (base / "1/empty").touch()
    assert check(tool, base, key)[0] == 0
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "other.pub").write_bytes(pem)
    assert check(tool, base, tmp_path / "other.pub")[0] == 1
    # The tool opens the envelope of the provenance too, and says that it is about something else.
    code, said = check(tool, base, key, "slsa")
    assert code == 1 and "got https://slsa.dev/provenance/v1" in said


def test_what_the_tool_signed_is_verified_and_nothing_else(
    tool: Path, signer: Signer, model: Path, tmp_path: Path
) -> None:
    base = tmp_path / "served"
    verifier = Verifier((load_public(tmp_path / "key.pub"),))
    push(base, model)
    signature = base / "manifests/1.sig"
    key = ("--private_key", tmp_path / "key")
    code, said = ask(tool, "sign", "key", base / "1", "--signature", signature, *key)
    assert code == 0, said

    def look() -> str:
        return verify.verify(base, verifier)[0].status

    # Files and key are right; of which model they are is what it does not say.
    assert look() == "unsigned"
    (base / "1/assets/more").touch()
    assert look() == "damaged"
    (base / "1/assets/more").unlink()
    (base / "1/.hidden").write_bytes(b"\0")
    assert look() == "damaged"
    (base / "1/.hidden").unlink()
    assert look() == "damaged"
    (base / "1/.hidden").touch()
    assert look() == "unsigned"
    assert publish.sign(base, 1, signer)
    assert look() == "ok"
