"""Signed statements: Sigstore bundles (v0.3) of a DSSE envelope around an in-toto statement.

That is what OpenSSF Model Signing (OMS) reads and writes. Only bundles with a key are known here,
none with a certificate: those lead to services.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from bnpipe.data.json_text import json_text
from bnpipe.serving.folder.signing import Signer, Verifier, hint_of

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"


class BundleError(Exception):
    """A bundle does not prove its statement; the text goes on after the name of its file."""


def seal(signer: Signer, content: Mapping[str, Any]) -> str:
    """The bundle, JSON, of a statement; the same for the same statement and key."""
    payload = json_text(content, sort_keys=True).encode()
    signature = signer.sign(_signed_bytes(payload))
    hint = hint_of(signer.key.public_key())
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json_text(bundle) + "\n"


def unseal(verifier: Verifier, bundle: bytes, kind: str) -> dict[str, Any]:
    """The statement of a bundle, which one of the keys signed.

    Raises:
        BundleError: it is no bundle, no key signed it, or it states something else.
    """
    with reading():
        content = json.loads(bundle.decode())
        envelope = content["dsseEnvelope"]
        expect("media type", MEDIA_TYPE, content["mediaType"])
        expect("payload type", PAYLOAD_TYPE, envelope["payloadType"])
        expect("number of signatures", 1, len(envelope["signatures"]))
        hint = content["verificationMaterial"]["publicKey"].get("hint") or ""
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        if not verifier.accepts(_signed_bytes(payload), signature, hint):
            raise BundleError("was not signed by this key")
        stated = dict(json.loads(payload.decode()))
        expect("statement", STATEMENT, stated["_type"])
        expect("predicate", kind, stated["predicateType"])
    return stated


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Whatever is not where a bundle or statement has it raises BundleError."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise BundleError("is no Sigstore bundle with the signature of a key") from error


def expect(what: str, expected: object, received: object) -> None:
    """Raises BundleError if something is not as expected."""
    if expected != received:
        raise BundleError(f"has another {what}: expected {expected}, received {received!r:.60}")


def _signed_bytes(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
