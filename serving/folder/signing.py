"""Ed25519 keys and signatures. A signature says that the holder of the key published these bytes.

    bnpipe versions keygen KEY       writes KEY (private, for who publishes) and KEY.pub

Keys are unencrypted PEM files, as `openssl genpkey -algorithm ed25519` writes them too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnpipe.serving.errors import ServingError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )


@dataclass(frozen=True)
class Verifier:
    """Public keys: while keys are replaced, the old one stays good for what it signed."""

    keys: tuple[Ed25519PublicKey, ...]

    def accepts(self, message: bytes, signature: bytes) -> bool:
        """Whether the holder of one of the private keys signed this message."""
        from cryptography.exceptions import InvalidSignature

        for key in self.keys:
            try:
                key.verify(signature, message)
            except InvalidSignature:
                continue
            return True
        return False


@dataclass(frozen=True)
class Signer:
    """A private key."""

    key: Ed25519PrivateKey

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes; the same for the same message."""
        return self.key.sign(message)

    @property
    def verifier(self) -> Verifier:
        """Its public key."""
        return Verifier((self.key.public_key(),))


def load_keys(signing: str | None, verify: Sequence[str]) -> tuple[Signer | None, Verifier | None]:
    """The configured keys; the public one follows from the private one unless some are named.

    Raises:
        ServingError: a file is not there, holds another kind of key, others may read the private
            key, or no public one belongs to it.
    """
    signer = load_signer(Path(signing)) if signing else None
    verifier = signer.verifier if signer else None
    if verify:
        verifier = Verifier(tuple(load_public(Path(path)) for path in verify))
    if signer and verifier and not verifier.accepts(b"", signer.sign(b"")):
        raise ServingError(
            f"serving.verify_key {', '.join(verify)} does not belong to serving.signing_key "
            f"{signing}",
            hint=f"expected the public key that was made with it, e.g. {signing}.pub",
        )
    return signer, verifier


def load_signer(path: Path) -> Signer:
    """Read a private key.

    Raises:
        ServingError: it is not there, others may read it, or it is no Ed25519 private key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = path.expanduser()
    pem = _read(path, "signing_key")
    try:
        key: Any = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ServingError(
            f"serving.signing_key {path}: expected a key without a passphrase, received one with"
        ) from None
    except Exception:  # ValueError, UnsupportedAlgorithm, whatever the key may be
        raise _wrong(path, "signing_key", "an Ed25519 private key", _kind(pem)) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _wrong(path, "signing_key", "an Ed25519 private key", _name(key))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ServingError(
            f"serving.signing_key {path}: expected a file that only its owner may read, "
            f"received mode {mode:04o}",
            hint=f"chmod 600 {path}",
        )
    return Signer(key)


def load_public(path: Path) -> Ed25519PublicKey:
    """Read a public key.

    Raises:
        ServingError: it is not there, or is no Ed25519 public key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    path = path.expanduser()
    pem = _read(path, "verify_key")
    try:
        key: Any = load_pem_public_key(pem)
    except Exception:
        raise _wrong(path, "verify_key", "an Ed25519 public key", _kind(pem)) from None
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong(path, "verify_key", "an Ed25519 public key", _name(key))
    return key


def make_keys(path: Path) -> Path:
    """Write a new private key, and its public key beside it; returns the path of that.

    Raises:
        ServingError: one of the files is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path = path.expanduser()
    beside = path.with_name(f"{path.name}.pub")
    if beside.exists():
        raise ServingError(f"{beside} is there already: keys are never overwritten")
    _write_new(path, private, 0o600)
    _write_new(beside, public, 0o644)
    return beside


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    except FileExistsError:
        raise ServingError(f"{path} is there already: keys are never overwritten") from None
    except OSError as error:
        raise ServingError(f"cannot write the key {path}: {error.strerror}") from error


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServingError(
            f"serving.{setting} {path}: expected a readable PEM file, received: {error.strerror}",
            hint="make a pair of keys: bnpipe versions keygen KEY",
        ) from error


def _wrong(path: Path, setting: str, expected: str, received: str) -> ServingError:
    return ServingError(
        f"serving.{setting} {path}: expected {expected}, received {received}",
        hint="make a pair of keys: bnpipe versions keygen KEY",
    )


def _kind(pem: bytes) -> str:
    """What a file that is not the right kind of PEM calls itself."""
    first = pem.lstrip().split(b"\n", 1)[0].strip()
    if first.startswith(b"-----BEGIN ") and first.endswith(b"-----") and len(first) < 80:
        return f"a PEM file of a {first[11:-5].decode('ascii', 'replace').lower()}"
    return "something that is not PEM"


def _name(key: object) -> str:
    """`Ed448PrivateKey`, `RSAPrivateKey` in words."""
    kind = type(key).__name__.lstrip("_")
    for half in ("Private", "Public"):
        kind = kind.replace(f"{half}Key", f" {half.lower()} key")
    return f"a key of another kind ({kind})"
