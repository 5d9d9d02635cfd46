"""Ed25519 keys and signatures. A signature says that the holder of the key published these bytes.

    bnpipe versions keygen KEY       writes KEY (private, for who publishes) and KEY.pub

Keys are unencrypted PEM files, as `openssl genpkey -algorithm ed25519` writes them too.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnpipe.data.plain_file import read_plain
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
        """True if the holder of one of the private keys signed this message."""
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

    setting = f"serving.signing_key {path}"
    key = _load(path, setting, Ed25519PrivateKey, lambda pem: load_pem_private_key(pem, None))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ServingError(
            f"{setting}: expected a file that only its owner may read, received mode {mode:04o}",
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

    return _load(path, f"serving.verify_key {path}", Ed25519PublicKey, load_pem_public_key)


def _load(path: Path, setting: str, kind: type, parse: Callable[[bytes], object]) -> Any:
    """The key in a PEM file; anything else that the file may hold is refused."""
    expected = f"an {_name(kind)}"
    try:
        pem = read_plain(path)
        key = parse(pem)
    except OSError as error:
        expected, received = "a readable PEM file", f"the error {error.strerror!r}"
    except TypeError:
        expected, received = "a key without a passphrase", "one with"
    except Exception:  # ValueError, UnsupportedAlgorithm, whatever the key may be
        received = _first_line(pem)
    else:
        if isinstance(key, kind):
            return key
        received = f"a key of another kind ({_name(type(key))})"
    raise ServingError(
        f"{setting}: expected {expected}, received {received}",
        hint="make a pair of keys: bnpipe versions keygen KEY",
    )


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
        os.fchmod(descriptor, mode)  # whatever the umask: whoever verifies is somebody else
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
    except FileExistsError:
        raise ServingError(f"{path} is there already: keys are never overwritten") from None
    except OSError as error:
        raise ServingError(f"cannot write the key {path}: {error.strerror}") from error


def _first_line(pem: bytes) -> str:
    """The kind of file that PEM says it is, in words."""
    first = pem.lstrip().split(b"\n", 1)[0].strip()
    if first.startswith(b"-----BEGIN ") and first.endswith(b"-----") and len(first) < 80:
        return f"a PEM file of a {first[11:-5].decode('ascii', 'replace').lower()}"
    return "something that is not PEM"


def _name(kind: type) -> str:
    """A class such as `Ed448PrivateKey` in words."""
    return re.sub(r"^_?(.*)(P\w+)Key$", lambda m: f"{m[1]} {m[2].lower()} key", kind.__name__)
