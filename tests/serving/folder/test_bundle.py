"""Bundles that prove their statement, and all else, which does not."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurve,
    derive_private_key,
)

from bnpipe.serving.folder import bundle
from bnpipe.serving.folder.bundle import BundleError, seal, unseal
from bnpipe.serving.folder.signing import Signer, Verifier, load_public

KIND = "https://example.org/kind/v1"
SIGNER = Signer(derive_private_key(7, SECP256R1()))
SAID = {
    "_type": "https://in-toto.io/Statement/v1",
    "subject": [{"name": "x", "digest": {"sha256": "00"}}],
    "predicateType": KIND,
    "predicate": {"a": [1, "\u00e9"]},
}
BY_TOOL = Path(__file__).with_name("signed_by_tool.sig")


def sealed(**changes: Any) -> dict[str, Any]:
    """A bundle whose envelope has other fields."""
    content: dict[str, Any] = json.loads(seal(SIGNER, SAID))
    content["dsseEnvelope"] |= changes
    return content


def refused(content: Any, verifier: Verifier = SIGNER.verifier) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(BundleError) as caught:
        unseal(verifier, text, KIND)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("curve", [SECP256R1(), SECP384R1(), SECP521R1()])
def test_what_was_sealed_is_unsealed_and_the_same_for_the_same_statement(
    curve: EllipticCurve,
) -> None:
    signer = Signer(derive_private_key(9, curve))
    content = seal(signer, SAID)
    assert unseal(signer.verifier, content.encode(), KIND) == SAID
    assert seal(signer, dict(reversed(SAID.items()))) == content


def test_a_bundle_has_the_shape_that_the_tool_gives_it() -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(each) for key, each in value.items()}
        return [shape(each) for each in value] if isinstance(value, list) else type(value)

    ours, tools = sealed(), json.loads(BY_TOOL.read_text())
    assert shape(ours) == shape(tools)
    assert (ours["mediaType"], ours["dsseEnvelope"]["payloadType"]) == (
        tools["mediaType"],
        tools["dsseEnvelope"]["payloadType"],
    )


def test_the_tools_name_for_a_key_is_ours() -> None:
    stated = unseal(
        Verifier((load_public(BY_TOOL.with_suffix(".pub")),)),
        BY_TOOL.read_bytes(),
        "https://model_signing/signature/v1.0",
    )
    assert stated["subject"][0]["name"] == "2"


def test_another_key_or_name_of_a_key_is_refused() -> None:
    other = Signer(derive_private_key(8, SECP256R1())).verifier
    larger = Signer(derive_private_key(7, SECP384R1())).verifier
    for verifier in (other, larger, Verifier(())):
        assert refused(sealed(), verifier) == "was not signed by this key"
    content = sealed()
    content["verificationMaterial"]["publicKey"]["hint"] = "0" * 64
    assert refused(content) == "was not signed by this key"
    # Older tools named none.
    del content["verificationMaterial"]["publicKey"]["hint"]
    assert unseal(SIGNER.verifier, json.dumps(content).encode(), KIND) == SAID


def test_every_flipped_bit_of_payload_and_signature_is_noticed() -> None:
    envelope = sealed()["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    for number in range(0, 8 * len(payload), 7):
        assert "signed by this key" in refused(sealed(payload=_flipped(payload, number)))
    for number in range(8 * len(signature)):
        sig = {"sig": _flipped(signature, number), "keyid": ""}
        assert "signed by this key" in refused(sealed(signatures=[sig]))


def _flipped(content: bytes, number: int) -> str:
    changed = bytearray(content)
    changed[number // 8] ^= 1 << number % 8
    return base64.b64encode(changed).decode()


def test_a_statement_that_is_signed_as_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for field, value, received in (
        ("_type", "https://in-toto.io/Statement/v0.1", "has another statement"),
        ("predicateType", "https://example.org/other", "has another predicate"),
    ):
        assert received in refused(seal(SIGNER, {**SAID, field: value}).encode())
    assert "is no Sigstore bundle" in refused(seal(SIGNER, {}).encode())
    monkeypatch.setattr(bundle, "PAYLOAD_TYPE", "text/plain")
    other = seal(SIGNER, SAID).encode()
    monkeypatch.undo()
    assert "has another payload type" in refused(other)


def test_other_bundles_are_refused() -> None:
    signature = sealed()["dsseEnvelope"]["signatures"][0]
    assert "another number of signatures: expected 1, received 2" in refused(
        sealed(signatures=[signature, signature])
    )
    assert "another number of signatures: expected 1, received 0" in refused(sealed(signatures=[]))
    newer = sealed() | {"mediaType": "application/vnd.dev.sigstore.bundle.v0.4+json"}
    assert "has another media type: expected application/vnd.dev" in refused(newer)
    certified = sealed()
    certified["verificationMaterial"] = {"certificate": {"rawBytes": "AAAA"}}
    for content in (
        *({}, [], None, 7, b"", b"\xff\xfe", b"{", b"[" * 99_999, certified),
        *(sealed(payload=None), sealed(payload="%"), sealed(signatures=[{}]), sealed(signatures=7)),
        sealed(signatures=[{"sig": "A", "keyid": ""}]),
    ):
        assert "is no Sigstore bundle with the signature of a key" in refused(content) or (
            "has another number of signatures" in refused(content)
        )
