"""Keys and signatures. A signature says that the holder of the key published these bytes.

    bnpipe versions keygen KEY       writes KEY (private, for who publishes) and KEY.pub

Keys are unencrypted PEM files on the curves that OpenSSF Model Signing takes: P-256, P-384, P-521,
as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` writes them too. Ed25519 keys,
with which an older bnpipe signed, still verify what they signed.
"""

from __future__ import annotations

import hashlib
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
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

_HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
"""What is hashed with before signing, by curve: as Sigstore's bundles have it."""


@dataclass(frozen=True)
class Verifier:
    """Public keys: while keys are replaced, the old one stays good for what it signed."""

    keys: tuple[ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey, ...]

    def accepts(self, message: bytes, signature: bytes, hint: str = "") -> bool:
        """True if the holder of one of the private keys signed this message.

        Args:
            message: what was signed.
            signature: ECDSA, DER.
            hint: `hint_of` the key, if the signature names it.
        """
        from cryptography.hazmat.primitives.asymmetric import ec

        return any(
            _holds(key.verify, signature, message, _ecdsa(key.curve))
            for key in self.keys
            if isinstance(key, ec.EllipticCurvePublicKey) and hint in ("", hint_of(key))
        )

    def accepts_older(self, message: bytes, signature: bytes) -> bool:
        """The same of a signature of an older bnpipe, with Ed25519."""
        from cryptography.hazmat.primitives.asymmetric import ed25519

        keys = (key for key in self.keys if isinstance(key, ed25519.Ed25519PublicKey))
        return any(_holds(key.verify, signature, message) for key in keys)


@dataclass(frozen=True)
class Signer:
    """A private key."""

    key: ec.EllipticCurvePrivateKey

    def sign(self, message: bytes) -> bytes:
        """The signature, ECDSA in DER; the same for the same message (RFC 6979)."""
        return self.key.sign(message, _ecdsa(self.key.curve, deterministic_signing=True))

    @property
    def verifier(self) -> Verifier:
        """Its public key."""
        return Verifier((self.key.public_key(),))


def hint_of(key: ec.EllipticCurvePublicKey) -> str:
    """The name that a bundle has for a key: sha256 (hex) of its PEM file."""
    return hashlib.sha256(_pem(key)).hexdigest()


def _pem(key: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _ecdsa(curve: ec.EllipticCurve, **options: bool) -> ec.ECDSA:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(getattr(hashes, _HASHES[curve.name])(), **options)


def _holds(verify: Callable[..., None], *signed: object) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        verify(*signed)
    except InvalidSignature:
        return False
    return True


def load_keys(signing: str | None, verify: Sequence[str]) -> tuple[Signer | None, Verifier | None]:
    """The configured keys, for whoever signs.

    Raises:
        ServingError: a file is not there, holds another kind of key, others may read the private
            key, or no public one belongs to it; or OpenSSL is too old to sign.
    """
    signer = load_signer(Path(signing)) if signing else None
    verifier = load_verifier(signing, verify)
    if signer and verifier and signer.key.public_key() not in verifier.keys:
        raise ServingError(
            f"serving.verify_key {', '.join(verify)} does not belong to serving.signing_key "
            f"{signing}",
            hint=f"expected the public key that was made with it, e.g. {signing}.pub",
        )
    return signer, verifier


def load_verifier(signing: str | None, verify: Sequence[str]) -> Verifier | None:
    """The public keys; that of the private one, which may be an older one, unless some are named.

    Raises:
        ServingError: a file is not there, or holds another kind of key.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if verify:
        return Verifier(tuple(load_public(Path(path)) for path in verify))
    kinds = (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)
    return Verifier((_load_private(Path(signing), kinds).public_key(),)) if signing else None


def load_signer(path: Path) -> Signer:
    """Read a private key.

    Raises:
        ServingError: it is not there, others may read it, it is no private key on a curve that
            signs, or OpenSSL is too old to sign with it.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    setting = f"serving.signing_key {path}"
    key = _load_private(path, (ec.EllipticCurvePrivateKey,))
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ServingError(
            f"{setting}: expected a file that only its owner may read, received mode {mode:04o}",
            hint=f"chmod 600 {path}",
        )
    try:
        _ecdsa(key.curve, deterministic_signing=True)
    except UnsupportedAlgorithm as error:  # said now, not after an hour of training
        raise ServingError(
            f"{setting}: expected OpenSSL 3.2, which signs without chance, or newer",
            hint="pip install --upgrade cryptography, from its wheel: that has its own OpenSSL",
        ) from error
    return Signer(key)


def _load_private(path: Path, kinds: tuple[type, ...]) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    setting = f"serving.signing_key {path}"
    return _load(path, setting, kinds, lambda pem: load_pem_private_key(pem, None))


def load_public(path: Path) -> ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey:
    """Read a public key.

    Raises:
        ServingError: it is not there, or is no public key on a curve that signs or has signed.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    kinds = (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)
    return _load(path, f"serving.verify_key {path}", kinds, load_pem_public_key)


def _load(
    path: Path, setting: str, kinds: tuple[type, ...], parse: Callable[[bytes], object]
) -> Any:
    """The key in a PEM file; anything else that the file may hold is refused."""
    side = "private" if setting.startswith("serving.signing_key") else "public"
    expected = f"an elliptic-curve {side} key (P-256, P-384 or P-521)"
    hint = "make a pair of keys: bnpipe versions keygen KEY"
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
        curve = getattr(key, "curve", None)
        if isinstance(key, kinds) and (curve is None or curve.name in _HASHES):
            return key
        where = f" on {curve.name}" if curve else ""
        received = f"a key of another kind ({_name(type(key))}{where})"
        if received.endswith("(Ed25519 private key)"):
            hint += f", and for what this one signed serving.verify_key: [KEY.pub, {path}.pub]"
    raise ServingError(f"{setting}: expected {expected}, received {received}", hint=hint)


def make_keys(path: Path) -> Path:
    """Write a new private key, and its public key beside it; returns the path of that.

    Raises:
        ServingError: one of the files is there already, or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = path.expanduser()
    beside = path.with_name(f"{path.name}.pub")
    if beside.exists():
        raise ServingError(f"{beside} is there already: keys are never overwritten")
    _write_new(path, private, 0o600)
    _write_new(beside, _pem(key.public_key()), 0o644)
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
