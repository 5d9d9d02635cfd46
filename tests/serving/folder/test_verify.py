"""Every way in which a version can differ from what was published, and who published it."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import file_digests, tree_digest
from bnpipe.serving.folder import ledger, object_store, publish, standing, verify, versions
from bnpipe.serving.folder.manifest import manifest_of, provenance_text
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.folder.signing import Signer, Verifier, load_signer, make_keys
from tests.child import environment
from tests.serving.folder.object_stores import contents
from tests.serving.folder.served import DIGITS, leftovers, push, torn, visible

MakeModel = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    make_keys(tmp_path / "key")
    return load_signer(tmp_path / "key")


@pytest.fixture
def signed(base: Path, model: MakeModel, signer: Signer) -> Path:
    for content in "ab":
        push(base, model(content), signer=signer)
    return base


def verified(base: Path, verifier: Verifier | None, version: int = 2) -> tuple[str, str, bool]:
    (finding,) = (f for f in verify.verify(base, verifier) if f.version == version)
    return finding.status, finding.detail, finding.bad


def test_files_with_odd_names_and_without_content_are_signed(
    base: Path, model: MakeModel, signer: Signer
) -> None:
    odd = model("a")
    (odd / "assets.extra").mkdir()
    for name in ("empty", ".hidden", "assets/\u00e9", "assets.extra/x", os.fsdecode(b"\xff")):
        (odd / name).touch()
    push(base, odd, signer=signer)
    assert verified(base, signer.verifier, 1) == ("ok", "", False)
    (base / "1/.hidden").write_text("more")
    assert verified(base, signer.verifier, 1)[1].startswith(".hidden: expected sha256")


def test_signed_versions_are_ok(signed: Path, signer: Signer) -> None:
    findings = verify.verify(signed, signer.verifier)
    assert [(f.version, f.status, f.bad) for f in findings] == [(2, "ok", False), (1, "ok", False)]


def test_what_waits_unsigned_is_published_anew_once_there_is_a_key(
    base: Path, model: MakeModel, signer: Signer
) -> None:
    push(base, model("a"), signer=signer)
    waiting = model("b")
    assert push(base, waiting, hold=True).version == 2
    for _ in range(2):  # the second time it is signed, and goes on
        done = push(base, waiting, hold=True, signer=signer)
        assert (done.version, done.live) == (3, False)
    assert verified(base, signer.verifier, 3) == ("ok", "", False)


@pytest.mark.parametrize("suffix", ["sig", "slsa"])
def test_the_signatures_are_checked_by_openssl_alone(
    signed: Path, tmp_path: Path, suffix: str
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it checks the signature without bnpipe")
    envelope = json.loads((signed / f"manifests/2.{suffix}").read_text())["dsseEnvelope"]
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    (tmp_path / "message").write_bytes(
        b"DSSEv1 28 %b %d %b" % (kind.encode(), len(payload), payload)
    )
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "dgst", "-sha256", "-verify", "key.pub", "-signature", "sig", "message"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert "Verified OK" in done.stdout + done.stderr


def test_the_manifest_names_every_file_and_is_the_same_for_the_same_bytes(
    signed: Path, model: MakeModel, signer: Signer
) -> None:
    manifest = json.loads((signed / "manifests/2.json").read_text())
    files = {p.relative_to(signed / "2").as_posix() for p in (signed / "2").rglob("*.*")}
    assert manifest["files"].keys() == files and "fingerprint.pb" in files
    assert (manifest["version"], manifest["model_name"]) == (2, "mnist")
    again = signed.parent / "again"
    for content in "ab":
        push(again, signed.parents[1] / "models" / content, signer=signer)
    for name in ("2.json", "2.sig", "2.slsa"):
        assert (again / "manifests" / name).read_bytes() == (
            signed / "manifests" / name
        ).read_bytes()


@pytest.mark.parametrize(
    ("file", "detail"),
    [
        ("saved_model.pb", "saved_model.pb: expected sha256"),
        ("variables/variables.data-00000-of-00001", "variables/variables.data-00000-of-00001: exp"),
        ("fingerprint.pb", "fingerprint.pb: expected sha256"),
    ],
)
@pytest.mark.parametrize("with_key", [True, False])
def test_a_changed_byte_is_named(
    signed: Path, signer: Signer, file: str, detail: str, with_key: bool
) -> None:
    path = signed / "2" / file
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    status, sentence, bad = verified(signed, signer.verifier if with_key else None)
    assert (status, bad) == ("damaged", True) and sentence.startswith(detail)
    assert verified(signed, signer.verifier, version=1) == ("ok", "", False)


def test_missing_and_foreign_files_are_named(signed: Path, signer: Signer) -> None:
    (signed / "2/assets/extra").write_text("x")
    assert verified(signed, None) == ("damaged", "assets/extra was not published", True)
    (signed / "2/saved_model.pb").unlink()
    assert verified(signed, None)[1] == "assets/extra was not published and 1 more"
    (signed / "2/assets/extra").unlink()
    assert verified(signed, signer.verifier)[:2] == ("damaged", "saved_model.pb is missing")
    (signed / "2/saved_model.pb").symlink_to("/etc/hostname")
    assert "expected a plain file" in verified(signed, signer.verifier)[1]


def test_a_listed_version_that_is_gone_is_bad(signed: Path) -> None:
    shutil.rmtree(signed / "1/variables")
    assert verified(signed, None, version=1)[0] == "damaged"


def test_another_provenance_is_told(signed: Path, signer: Signer) -> None:
    path = signed / "provenance/2.json"
    path.write_text(path.read_text().replace("mnist", "other"))
    status, sentence, _ = verified(signed, signer.verifier)
    assert status == "damaged" and sentence.endswith("provenance/2.json is not what was published")
    path.unlink()
    assert verified(signed, None)[1].endswith("provenance/2.json is missing")


def test_bytes_that_were_changed_together_with_manifest_and_ledger_are_not_what_was_signed(
    signed: Path, signer: Signer
) -> None:
    model, digest = signed / "2/saved_model.pb", versions.provenance_of(signed, 2)["digest"]
    before = verify.file_digests(signed / "2")["saved_model.pb"].sha256
    model.write_bytes(b"!" * model.stat().st_size)
    after = verify.file_digests(signed / "2")["saved_model.pb"].sha256
    replace(signed / "manifests/2.json", before, after)
    # Without a key the ledger still knows better.
    assert verified(signed, None) == ("damaged", "the ledger has another digest", True)
    for record in ("ledger.jsonl", "manifests/2.json", "provenance/2.json"):
        replace(signed / record, digest, tree_digest(signed / "2"))
    record = hashlib.sha256((signed / "provenance/2.json").read_bytes()).hexdigest()
    manifest = json.loads((signed / "manifests/2.json").read_text())
    replace(signed / "manifests/2.json", manifest["provenance_sha256"], record)
    assert verified(signed, None) == ("ok", "", False)
    status, sentence, bad = verified(signed, signer.verifier)
    assert (status, bad) == ("damaged", True)
    assert sentence.startswith(f"saved_model.pb: expected sha256 {before[:12]}")


def test_a_provenance_that_was_changed_together_with_the_manifest_is_not_what_was_signed(
    signed: Path, signer: Signer
) -> None:
    path, manifest = signed / "provenance/2.json", signed / "manifests/2.json"
    path.write_text(path.read_text().replace("3.0.1", "3.0.2"))
    listed = json.loads(manifest.read_text())["provenance_sha256"]
    replace(manifest, listed, hashlib.sha256(path.read_bytes()).hexdigest())
    assert verified(signed, None) == ("damaged", "the ledger has another provenance", True)
    change_ledger(signed, 2, provenance={"dataset": {**DIGITS, "version": "3.0.2"}})
    assert verified(signed, None) == ("ok", "", False)
    status, sentence, _ = verified(signed, signer.verifier)
    assert status == "damaged" and sentence.endswith("provenance/2.json is not what was published")


def test_a_ledger_with_another_provenance_than_the_signed_one_is_told(
    signed: Path, signer: Signer
) -> None:
    change_ledger(signed, 2, provenance={"dataset": DIGITS, "verdict": "blessed: accuracy 1.0"})
    for verifier in (None, signer.verifier):
        assert verified(signed, verifier)[:2] == ("damaged", "the ledger has another provenance")
    assert verified(signed, signer.verifier, version=1) == ("ok", "", False)


def test_a_forged_provenance_whose_signature_was_stripped_everywhere_is_unsigned(
    signed: Path, signer: Signer
) -> None:
    forged = {"dataset": DIGITS, "code": {"git_commit": "f" * 40}}
    entry = change_ledger(signed, 2, provenance=forged, attestation=None)
    (signed / "manifests/2.slsa").unlink()
    (signed / "provenance/2.json").write_bytes(provenance_text(entry))
    (signed / "manifests/2.json").write_bytes(manifest_of(entry, file_digests(signed / "2")))
    assert verified(signed, None) == ("ok", "", False)
    status, sentence, bad = verified(signed, signer.verifier)
    assert (status, bad) == ("unsigned", True) and "2.slsa is missing: only its file" in sentence
    with pytest.raises(ServingError, match=r"v2 in .* is refused: unsigned"):
        verify.require_whole(signed, 2, signer.verifier)


def change_ledger(base: Path, version: int, **changes: object) -> ledger.Entry:
    """What whoever can write to the folder can do; returns the version's record after it."""
    lines = [json.loads(line) for line in (base / ledger.LEDGER).read_text().splitlines()]
    for line in lines:
        if (line["event"], line["version"]) == ("reserved", version):
            line |= changes
    (base / ledger.LEDGER).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return ledger.read(base).entries[version]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_records_of_another_version_are_no_proof(signed: Path, signer: Signer) -> None:
    for suffix in ("json", "sig", "slsa"):
        shutil.copy(signed / f"manifests/1.{suffix}", signed / f"manifests/2.{suffix}")
    shutil.rmtree(signed / "2")
    shutil.copytree(signed / "1", signed / "2")
    assert verified(signed, None)[1].endswith("2.json is of another version")
    status, sentence, bad = verified(signed, signer.verifier)
    assert (status, bad) == ("bad signature", True)
    assert "2.sig has another version: expected mnist/2, received 'mnist/1'" in sentence


def test_the_signed_provenance_of_another_version_is_no_proof(signed: Path, signer: Signer) -> None:
    shutil.copy(signed / "manifests/1.slsa", signed / "manifests/2.slsa")
    status, sentence, _ = verified(signed, signer.verifier)
    assert status == "bad signature" and "2.slsa has another subject" in sentence
    shutil.copy(signed / "manifests/2.sig", signed / "manifests/2.slsa")
    assert (
        "2.slsa has another predicate: expected https://slsa"
        in verified(signed, signer.verifier)[1]
    )


def test_a_signature_by_somebody_else_is_bad(signed: Path, signer: Signer, tmp_path: Path) -> None:
    make_keys(tmp_path / "other")
    other = load_signer(tmp_path / "other")
    assert verified(signed, other.verifier)[0] == "bad signature"
    (signed / "manifests/2.sig").write_bytes(b"short")
    assert verified(signed, signer.verifier)[0] == "bad signature"


def test_a_damaged_signature_is_bad_and_in_one_line(signed: Path, signer: Signer) -> None:
    path = signed / "manifests/2.sig"
    whole = path.read_bytes()
    for content in (whole[:-30], b"\xff" * 99, whole.decode().encode("utf-16"), b"[" * 99_999):
        path.write_bytes(content)
        status, sentence, bad = verified(signed, signer.verifier)
        assert (status, bad) == ("bad signature", True)
        assert sentence.endswith("2.sig is no Sigstore bundle with the signature of a key")


def test_without_a_signature_a_version_is_unsigned_and_bad_only_with_a_key(
    base: Path, model: MakeModel, signer: Signer
) -> None:
    push(base, model("a"))
    assert verified(base, None, 1) == ("ok", "", False)
    assert verified(base, signer.verifier, 1) == ("unsigned", "", True)


def test_a_signature_that_was_taken_away_is_missed(signed: Path, signer: Signer) -> None:
    (signed / "manifests/2.sig").unlink()
    assert verified(signed, signer.verifier) == ("unsigned", "", True)


def test_a_provenance_whose_signature_was_taken_away_is_missed(
    signed: Path, signer: Signer
) -> None:
    (signed / "manifests/2.slsa").unlink()
    status, sentence, bad = verified(signed, signer.verifier)
    assert (status, bad) == ("unsigned", True) and "2.slsa is missing" in sentence
    assert publish.sign(signed, 2, signer)
    assert verified(signed, signer.verifier) == ("ok", "", False)


def test_64_bytes_are_no_proof_that_something_is_signed_and_say_which_key_may_be_missing(
    base: Path, model: MakeModel, signer: Signer
) -> None:
    push(base, model("a"))
    (base / "manifests/1.sig").write_bytes(os.urandom(64))
    status, sentence, bad = verified(base, signer.verifier, 1)
    assert (status, bad) == ("bad signature", True)
    assert sentence.endswith(
        "1.sig is 64 bytes, as an older bnpipe's Ed25519 signature: "
        "name its public key in serving.verify_key too"
    )


def test_bytes_that_are_exchanged_after_the_check_are_not_signed(
    base: Path, model: MakeModel, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(base, model("a"))
    other = file_digests(model("b"))
    monkeypatch.setattr(publish, "file_digests", lambda folder: other)
    with pytest.raises(ServingError, match=r"v1 in .*: expected digest"):
        publish.sign(base, 1, signer)
    assert not (base / "manifests/1.sig").exists()
    assert ledger.read(base).entries[1].signature is None


def test_what_somebody_put_there_by_hand_is_bad_only_with_a_key(
    signed: Path, signer: Signer
) -> None:
    shutil.copytree(signed / "2", signed / "7")
    assert verified(signed, None, 7) == ("not published by bnpipe", "", False)
    assert verified(signed, signer.verifier, 7)[2] is True


def test_versions_from_before_there_were_manifests_are_compared_as_a_whole(
    base: Path, model: MakeModel
) -> None:
    push(base, model("a"))
    shutil.rmtree(base / "manifests")
    assert verified(base, None, 1) == ("ok", "", False)
    (base / "1/saved_model.pb").write_text("?")
    assert verified(base, None, 1)[1].startswith("expected digest")


def test_a_manifest_that_is_no_json_is_told(signed: Path) -> None:
    for text in ("", "[]", '{"files": {"a": 1}}'):
        (signed / "manifests/2.json").write_text(text)
        assert verified(signed, None)[1].endswith("2.json cannot be read")


def test_a_push_whose_bytes_change_after_they_were_signed_is_refused(
    signed: Path, model: MakeModel, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flip(folder: Path) -> object:
        history = settle(folder)
        if (folder / "3").exists():
            (folder / "3/saved_model.pb").write_text("flipped")
        return history

    settle = publish.settle
    monkeypatch.setattr(publish, "settle", flip)
    with pytest.raises(ServingError, match=r"v3 in .* is refused: damaged: saved_model.pb: exp"):
        push(signed, model("c"), signer=signer)


def test_labels_do_not_move_to_a_version_with_a_bad_signature(signed: Path, signer: Signer) -> None:
    (signed / "manifests/1.sig").write_bytes(bytes(64))
    rollout = Rollout(signed, verifier=signer.verifier)
    with pytest.raises(ServingError, match=r"v1 in .* is refused: bad signature.*versions verify"):
        rollout.rollback(reason="bad")
    with pytest.raises(ServingError, match=r"v1 in .* is refused"):
        rollout.promote(1, label="canary")
    assert ledger.read(signed).labels == {"stable": 2}


def test_a_killed_signed_push_is_finished_without_the_key(
    base: Path, model: MakeModel, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renamed_and_killed(source: Path, target: Path) -> None:
        rename(source, target)
        raise KeyboardInterrupt

    push(base, model("a"), signer=signer)
    rename = os.rename
    monkeypatch.setattr(os, "rename", renamed_and_killed)
    with pytest.raises(KeyboardInterrupt):
        push(base, model("b"), signer=signer)
    monkeypatch.setattr(os, "rename", rename)
    assert publish.prune(base, 5) == []
    assert verified(base, signer.verifier) == ("ok", "", False)


@pytest.mark.parametrize("before", ["unsigned", "another key"])
def test_an_unchanged_model_that_is_live_is_signed_where_it_lies(
    base: Path, model: MakeModel, signer: Signer, tmp_path: Path, before: str
) -> None:
    make_keys(tmp_path / "old")
    old = load_signer(tmp_path / "old") if before == "another key" else None
    live = model("a")
    digest = push(base, live, signer=old).digest
    assert not standing.state_of(base, digest, old.verifier if old else None).needed
    assert standing.state_of(base, digest, signer.verifier).sentence == "publish (sign v1)"
    done = push(base, live, signer=signer)
    assert (done.version, done.new, done.signed) == (1, False, True)
    assert verified(base, signer.verifier, 1) == ("ok", "", False)
    assert standing.state_of(base, digest, signer.verifier).sentence == "up to date (v1 live)"
    assert not push(base, live, signer=signer).signed
    assert visible(base) == ["1"] and torn(base) == leftovers(base) == []


def test_a_version_with_damaged_records_is_not_signed_and_nothing_is_written(
    base: Path, model: MakeModel, signer: Signer
) -> None:
    live = model("a")
    digest = push(base, live, signer=signer).digest
    next(base.glob("provenance/1.json")).write_text("{}")
    history = (base / ledger.LEDGER).read_bytes()
    sentence = standing.state_of(base, digest, signer.verifier).sentence
    assert sentence == "publish (v1 is refused: damaged)"
    with pytest.raises(ServingError, match=r"v1 in .* is refused: damaged"):
        push(base, live, signer=signer)
    assert (base / ledger.LEDGER).read_bytes() == history


def test_another_model_is_not_signed_along_with_the_one_that_is_pushed(
    base: Path, model: MakeModel, signer: Signer
) -> None:
    """Only bytes that the publisher has at hand: whoever changed v1 in the folder gains nothing."""
    push(base, model("a"))
    live = model("b")
    push(base, live)
    push(base, live, signer=signer)
    assert verified(base, signer.verifier, 2)[0] == "ok"
    assert verified(base, signer.verifier, 1)[0] == "unsigned"


def test_what_is_signed_later_is_signed_in_the_object_store_and_in_other_homes(
    base: Path, url: str, model: MakeModel, signer: Signer, tmp_path: Path
) -> None:
    make_keys(tmp_path / "old")
    rollout, live = Rollout(base, store=url), model("a")
    rollout.finish(push(base, live, signer=load_signer(tmp_path / "old")))
    object_store.fetch(tmp_path / "other", url)
    rollout.finish(push(base, live, signer=signer))
    for name in ("manifests/1.sig", "manifests/1.slsa"):
        assert contents(url)[name] == (base / name).read_bytes()
    object_store.fetch(tmp_path / "other", url)
    assert verified(tmp_path / "other", signer.verifier, 1) == ("ok", "", False)
