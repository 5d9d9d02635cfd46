"""Keys that can be used and keys that are refused, each in one line."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat

from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder.signing import (
    Verifier,
    hint_of,
    load_keys,
    load_public,
    load_signer,
    load_verifier,
    make_keys,
)


def pem_of(key: object, *, public: bool = False, passphrase: bytes = b"") -> bytes:
    if public:
        return key.public_key().public_bytes(  # type: ignore[attr-defined]
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    )


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_keys(tmp_path / "key")
    return tmp_path / "key"


def written(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "other"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_made_keys_sign_and_verify(key: Path) -> None:
    signer, verifier = load_keys(str(key), ())
    assert signer is not None and verifier is not None
    signature = signer.sign(b"message")
    assert signature == signer.sign(b"message")
    public = Verifier((load_public(Path(f"{key}.pub")),))
    assert public.accepts(b"message", signature)
    assert not public.accepts(b"massage", signature)
    assert not public.accepts(b"message", signature[:-1])
    assert not public.accepts(b"message", b"")
    assert public.accepts(b"message", signature, hint_of(signer.key.public_key()))
    assert not public.accepts(b"message", signature, "0" * 64)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_keys_of_three_curves_sign_whoever_made_them(
    tmp_path: Path, curve: ec.EllipticCurve, form: PrivateFormat
) -> None:
    key = ec.generate_private_key(curve)
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    signer = load_signer(written(tmp_path, pem))
    public = load_public(written(tmp_path, pem_of(key, public=True)))
    assert Verifier((public,)).accepts(
        b"message", signer.sign(b"message"), hint_of(signer.key.public_key())
    )


def test_made_keys_are_secret_and_never_overwritten(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    with pytest.raises(ServingError, match="is there already: keys are never overwritten"):
        make_keys(key)
    Path(f"{key}.pub").unlink()
    with pytest.raises(ServingError, match="is there already: keys are never overwritten"):
        make_keys(key)
    assert key.read_bytes() == before
    with pytest.raises(ServingError, match=r"cannot write the key .*No such file or directory"):
        make_keys(key.parent / "none" / "key")


@pytest.mark.parametrize("umask", [0, 0o077])
def test_modes_of_keys_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        public = make_keys(tmp_path / "key")
    finally:
        os.umask(old)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert public.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (pem_of(ec.generate_private_key(ec.SECP256K1())), "(EC private key on secp256k1)"),
        (pem_of(ed25519.Ed25519PrivateKey.generate()), "another kind (Ed25519 private key)"),
        (pem_of(rsa.generate_private_key(65537, 2048)), "RSA private key"),
        (pem_of(ed448.Ed448PrivateKey.generate()), "Ed448 private key"),
        (pem_of(ec.generate_private_key(ec.SECP256R1()), public=True), "a PEM file of a public"),
        (b"", "something that is not PEM"),
        (b"\x00\xff" * 40, "something that is not PEM"),
        (
            b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n",
            "PEM file of a pri",
        ),
    ],
)
def test_another_file_is_no_signing_key(tmp_path: Path, content: bytes, received: str) -> None:
    path = written(tmp_path, content)
    expected = r"expected an elliptic-curve private key \(P-256, P-384 or P-521\), received"
    with pytest.raises(ServingError, match=expected) as caught:
        load_signer(path)
    assert "keygen" in caught.value.hint and "\n" not in str(caught.value)
    assert received in caught.value.headline
    kept = f"serving.verify_key: [KEY.pub, {path}.pub]"
    assert (kept in caught.value.hint) == ("Ed25519" in received)


def test_a_passphrase_is_refused(tmp_path: Path) -> None:
    content = pem_of(ec.generate_private_key(ec.SECP256R1()), passphrase=b"secret")
    with pytest.raises(ServingError, match="expected a key without a passphrase, received one wit"):
        load_signer(written(tmp_path, content))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(ServingError, match=f"only its owner may read, received mode {mode:04o}; c"):
        load_signer(key)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"serving.signing_key .*none: .*No such file.*keygen"):
        load_signer(tmp_path / "none")
    with pytest.raises(ServingError, match=r"serving.verify_key .*none: .*No such file.*keygen"):
        load_public(tmp_path / "none")


def test_a_private_key_is_no_public_one(key: Path) -> None:
    with pytest.raises(ServingError, match=r"public key \(P-.*, received a PEM file of a private"):
        load_public(key)


def test_an_rsa_public_key_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, pem_of(rsa.generate_private_key(65537, 2048), public=True))
    with pytest.raises(ServingError, match=r"received a key of another kind \(RSA public key\)"):
        load_public(path)


def test_keys_that_do_not_belong_together_are_refused(key: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "second")
    with pytest.raises(ServingError, match=r"second.pub does not belong to .*signing_key"):
        load_keys(str(key), [str(tmp_path / "second.pub")])
    assert load_keys(None, ()) == (None, None)


def test_an_older_key_verifies_what_it_signed_and_signs_nothing_more(tmp_path: Path) -> None:
    older = ed25519.Ed25519PrivateKey.generate()
    path = written(tmp_path, pem_of(older))
    verifier = load_verifier(str(path), ())
    assert verifier is not None and verifier.accepts_older(b"x", older.sign(b"x"))
    with pytest.raises(ServingError, match="bnpipe versions keygen KEY, and for what"):
        load_keys(str(path), ())
    assert load_verifier(None, ()) is None


def test_an_openssl_that_cannot_sign_is_told_when_the_key_is_read(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(backend), "ecdsa_deterministic_supported", lambda self: False)
    with pytest.raises(ServingError, match=r"expected OpenSSL 3\.2.*; pip install --upgrade cr"):
        load_keys(str(key), ())
    assert load_verifier(str(key), ()) is not None


def test_while_keys_are_replaced_the_old_one_stays_good(key: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "new")
    publics = [f"{tmp_path}/new.pub", f"{key}.pub"]
    signer, verifier = load_keys(str(tmp_path / "new"), publics)
    assert signer is not None and verifier is not None
    assert verifier.accepts(b"x", signer.sign(b"x"))
    assert verifier.accepts(b"x", load_signer(key).sign(b"x"))
    make_keys(tmp_path / "third")
    assert not verifier.accepts(b"x", load_signer(tmp_path / "third").sign(b"x"))


def test_what_an_older_key_signed_is_verified_beside_what_a_new_one_signs(
    key: Path, tmp_path: Path
) -> None:
    older = ed25519.Ed25519PrivateKey.generate()
    public = written(tmp_path, pem_of(older, public=True))
    signer, verifier = load_keys(str(key), [f"{key}.pub", str(public)])
    assert signer is not None and verifier is not None
    assert verifier.accepts_older(b"x", older.sign(b"x"))
    assert not verifier.accepts_older(b"y", older.sign(b"x"))
    # Neither kind stands in for the other.
    assert not verifier.accepts(b"x", older.sign(b"x"))
    assert not verifier.accepts_older(b"x", signer.sign(b"x"))
