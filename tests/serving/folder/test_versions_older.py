"""A served folder that an older bnpipe signed and left: it is read, verified and rolled back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bnpipe.pipeline.cli.app import call
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import standing, versions
from tests.serving.folder.served import served

OLDER = Path(__file__).with_name("older_folder")
KEY = OLDER.with_name("older_folder.pub")


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    base = tmp_path / "served"
    shutil.copytree(OLDER, base)
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    settings = f"serving: {{base_path: '{base}', verify_key: '{KEY}'}}\n"
    Path("bnpipe.yaml").write_text("data: {dataset: rendered_digits}\n" + settings)
    return base


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert call([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def status(capsys: pytest.CaptureFixture[str]) -> dict[int, str]:
    answered = answer(capsys, "versions", "verify")
    assert answered["signatures"]
    return {version["version"]: version["status"] for version in answered["versions"]}


def test_every_version_is_listed_with_where_it_came_from(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = answer(capsys, "versions", "list")["versions"]
    assert [(row["version"], row["run"], row["live"]) for row in listed] == [
        (2, "0002", True),
        (1, "0001", False),
    ]
    assert listed[0]["note"].startswith("blessed: accuracy 0.8700")


def test_every_byte_is_what_was_published_and_signed(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(capsys) == {2: "ok", 1: "ok"}
    with (older / "2/variables/variables.data-00000-of-00001").open("r+b") as file:
        file.write(b"\0")
    assert call(["versions", "verify"]) == 7
    assert "damaged" in capsys.readouterr().out


def test_what_was_signed_with_ed25519_says_how_to_sign_anew(
    older: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["versions", "verify"]) == 0
    assert "Ed25519, by an older bnpipe; to sign it anew: bnpipe versions sign 2" in " ".join(
        capsys.readouterr().out.split()
    )
    assert call(["versions", "keygen", "key"]) == 0
    new = ["--set", "serving.signing_key=key", "--set", "serving.verify_key=key.pub"]
    assert call(["versions", "verify", *new]) == 7
    said = " ".join(capsys.readouterr().out.split())
    assert "Ed25519 signature: name its public key in serving.verify_key too" in said
    assert answer(capsys, "versions", "sign", "1", "2", *new) == {"signed": [1, 2]}
    assert answer(capsys, "versions", "sign", "1", "2", *new) == {"signed": []}
    checked = answer(capsys, "versions", "verify", *new)["versions"]
    assert [(row["status"], row["detail"]) for row in checked] == [("ok", "")] * 2
    assert json.loads((older / "manifests/2.sig").read_text())["dsseEnvelope"]
    # The older signature is not good enough any more.
    shutil.copy(OLDER / "manifests/2.sig", older / "manifests/2.sig")
    both = ["--set", f"serving.verify_key=[key.pub, {KEY}]"]
    assert call(["versions", "verify", "--set", "serving.signing_key=key", *both]) == 7
    said = " ".join(capsys.readouterr().out.split())
    assert "but the ledger has a newer one; anew: bnpipe versions sign 2" in said


def test_changed_bytes_are_found_by_the_older_signature_too(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = older / "manifests/2.json"
    manifest.write_text(manifest.read_text() + " ")
    assert call(["versions", "verify"]) == 7
    assert "bad signature" in capsys.readouterr().out


def test_an_unchanged_ed25519_key_keeps_nothing_from_being_verified_pruned_and_rolled_back(
    older: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "old").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "old").chmod(0o600)
    for number in (1, 2):
        manifest = (older / f"manifests/{number}.json").read_bytes()
        (older / f"manifests/{number}.sig").write_bytes(key.sign(manifest))
    settings = ["--set", "serving.signing_key=old", "--set", "serving.verify_key=[]"]
    checked = answer(capsys, "versions", "verify", *settings)["versions"]
    assert [row["status"] for row in checked] == ["ok"] * 2
    assert answer(capsys, "versions", "prune", *settings) == {"removed": []}
    answer(capsys, "rollback", "--reason", "odd sevens", *settings)
    answer(capsys, "promote", "1", "--label", "canary", *settings)
    told = r"serving\.signing_key .*old: .*keygen KEY, and .*serving\.verify_key: \[KEY\.pub, .*old"
    with pytest.raises(ServingError, match=told):
        call(["versions", "sign", "1", *settings])
    with pytest.raises(ConfigError, match=told):
        call(["config", "check", *settings])


def test_it_rolls_back_to_the_version_before(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    withdrawn = tree_digest(older / "2")
    answer(capsys, "rollback", "--reason", "odd sevens")
    assert versions.live(older) == 1
    assert served(older) == ([1], {"stable": 1})
    assert status(capsys) == {2: "ok", 1: "ok"}
    champion = standing.champion(older, withdrawn)
    assert champion is not None and champion.version == 1
