"""What is stated of a version: as the tool states it, and nothing that only looks like it."""

import base64
import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

from bnpipe.serving.export.digest import file_digests
from bnpipe.serving.folder import ledger, verify
from bnpipe.serving.folder.bundle import BundleError, seal
from bnpipe.serving.folder.ledger import Entry
from bnpipe.serving.folder.signing import Signer, Verifier, load_public
from bnpipe.serving.folder.statements import model_statement, provenance_statement, signed_files

HERE = Path(__file__).parent
OLDER, BY_TOOL = HERE / "older_folder", HERE / "signed_by_tool.sig"
TOOLS_KEY = Verifier((load_public(BY_TOOL.with_suffix(".pub")),))
SIGNER = Signer(derive_private_key(7, SECP256R1()))


@pytest.fixture
def entry() -> Entry:
    return ledger.read(OLDER).entries[2]


def stated_by_tool() -> dict[str, Any]:
    payload = json.loads(BY_TOOL.read_text())["dsseEnvelope"]["payload"]
    content: dict[str, Any] = json.loads(base64.b64decode(payload))
    return content


def test_ours_is_what_the_tool_states_of_the_same_files(entry: Entry) -> None:
    ours, tools = model_statement(entry, file_digests(OLDER / "2")), stated_by_tool()
    del tools["predicate"]["serialization"]["ignore_paths"]
    assert ours["subject"][0].pop("name") == "rendered_digits/2"
    assert tools["subject"][0].pop("name") == "2"
    assert ours == tools


def test_files_are_in_the_order_of_the_tool(entry: Entry) -> None:
    # Its order is that of PurePosixPath, folder by folder.
    names = ["assets.extra/x", "assets/x", "assets/\u00e9", "a", ".x", "variables/a", "variables.b"]
    files = dict.fromkeys(names, file_digests(OLDER / "2")["saved_model.pb"])
    resources = model_statement(entry, files)["predicate"]["resources"]
    assert [each["name"] for each in resources] == [str(p) for p in sorted(map(Path, names))]


def test_what_the_tool_signed_is_verified(tmp_path: Path, entry: Entry) -> None:
    base = tmp_path / "served"
    shutil.copytree(OLDER, base)
    shutil.copy(BY_TOOL, base / "manifests/2.sig")

    def look() -> tuple[str, str]:
        checked = verify.verify(base, TOOLS_KEY)[0]
        return checked.status, checked.detail

    status, detail = look()
    assert status == "unsigned"
    assert detail.endswith("its files are signed, not of which model; bnpipe versions sign 2")
    extra = base / "2/assets.extra/more"
    extra.touch()
    assert look()[0] == "damaged"
    extra.unlink()
    graph = base / "2/saved_model.pb"
    content = bytearray(graph.read_bytes())
    content[99] ^= 1
    graph.write_bytes(content)
    assert look()[0] == "damaged"
    graph.unlink()
    assert look() == ("damaged", "saved_model.pb is missing")
    (base / "manifests/2.sig").write_bytes(BY_TOOL.read_bytes().replace(b"A", b"B", 1))
    assert look()[0] == "bad signature"


def test_what_the_tool_signed_passes_once_its_origin_is_signed(
    tmp_path: Path, entry: Entry
) -> None:
    """Of its own it would pass for another model's version of this number."""
    base, files = tmp_path / "served", file_digests(OLDER / "2")
    shutil.copytree(OLDER, base)
    said = model_statement(entry, files)
    said["subject"][0]["name"] = "2"
    (base / "manifests/2.sig").write_text(seal(SIGNER, said))
    look = partial(verify.verify, base, SIGNER.verifier)
    assert (look()[0].status, look()[0].bad) == ("unsigned", True)
    (base / "manifests/2.slsa").write_text(seal(SIGNER, provenance_statement(entry, files)))
    assert (look()[0].status, look()[0].bad) == ("ok", False)
    another = replace(entry, model_name="mnist")
    (base / "manifests/2.slsa").write_text(seal(SIGNER, provenance_statement(another, files)))
    assert look()[0].status == "bad signature"


def test_statements_that_are_not_about_the_files_of_this_version_are_refused(entry: Entry) -> None:
    def refused(**changes: Any) -> str:
        said = stated_by_tool()
        name = changes.pop("name", "2")
        resources = changes.pop("resources", said["predicate"]["resources"])
        said["predicate"]["resources"] = resources
        said["predicate"]["serialization"] |= changes
        digests = b"".join(bytes.fromhex(each["digest"]) for each in resources)
        root = {"sha256": hashlib.sha256(digests).hexdigest()}
        said["subject"] = [{"name": name, "digest": root}]
        with pytest.raises(BundleError) as caught:
            signed_files(SIGNER.verifier, seal(SIGNER, said).encode(), entry)
        return str(caught.value)

    resources = stated_by_tool()["predicate"]["resources"]
    assert "another version: expected rendered_digits/2, received '3'" in refused(name="3")
    assert "received 'mnist/2'" in refused(name="mnist/2")
    for method in ({"hash_type": "blake3"}, {"method": "shards"}):
        assert "has another serialization: expected {'method': 'files'" in refused(**method)
    assert "another number of files: expected 4, received 5" in refused(
        resources=[*resources, {**resources[0], "digest": "00" * 32}]
    )
    other = [{**each, "algorithm": "blake2"} for each in resources]
    assert "another number of files: expected 0, received 4" in refused(resources=other)


def test_a_name_that_leads_out_of_the_version_is_no_file_of_it(entry: Entry) -> None:
    said, (first, *others) = stated_by_tool(), stated_by_tool()["predicate"]["resources"]
    said["predicate"]["resources"] = [{**first, "name": "../2/" + first["name"]}, *others]
    listed = signed_files(SIGNER.verifier, seal(SIGNER, said).encode(), entry)
    assert set(listed) - set(file_digests(OLDER / "2")) == {"../2/" + first["name"]}


def test_the_digest_over_all_files_must_be_theirs(entry: Entry) -> None:
    said = stated_by_tool()
    said["predicate"]["resources"][0]["digest"] = "00" * 32
    with pytest.raises(BundleError, match="has another digest"):
        signed_files(SIGNER.verifier, seal(SIGNER, said).encode(), entry)


# Provenance


def test_provenance_is_a_statement_of_slsa(entry: Entry) -> None:
    said = provenance_statement(entry, file_digests(OLDER / "2"))
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said["subject"] == model_statement(entry, file_digests(OLDER / "2"))["subject"]
    made, run = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    # What the specification requires, and nothing that it does not know.
    assert made.keys() == {
        *("buildType", "externalParameters", "internalParameters", "resolvedDependencies")
    }
    assert run.keys() == {"builder", "metadata", "byproducts"}
    assert run["metadata"] == {"invocationId": "0002"}
    assert ":" in made["buildType"] and ":" in run["builder"]["id"]
    for resource in (*made["resolvedDependencies"], *run["byproducts"]):
        assert resource.keys() <= {"name", "uri", "digest", "annotations"}
        assert "uri" in resource or all(
            set(value) <= set("0123456789abcdef") for value in resource["digest"].values()
        )
    named = {each.get("name"): each.get("digest") for each in made["resolvedDependencies"]}
    code = entry.provenance["code"]
    assert named["source"] == {"gitCommit": code["git_commit"]}
    assert named["requirements.lock"] == {"sha256": code["lock_digest"]}
    assert "dataset rendered_digits" in named
    assert {"uri": "pkg:pypi/tensorflow@2.21.0"} in made["resolvedDependencies"]
    digest = hashlib.sha256((OLDER / "provenance/2.json").read_bytes()).hexdigest()
    assert {"name": "provenance/2.json", "digest": {"sha256": digest}} in run["byproducts"]


def test_libraries_are_named_as_a_package_url_has_it_and_only_those_that_were_there() -> None:
    code = {"version_x": "2.0+cu12 a", "version_tensorflow": "missing", "version_python": "3.11"}
    entry = Entry(1, "00", "mnist", None, {"code": code})
    said = provenance_statement(entry, file_digests(OLDER / "2"))
    built = said["predicate"]["buildDefinition"]
    assert built["resolvedDependencies"] == [{"uri": "pkg:pypi/x@2.0%2Bcu12%20a"}]


def test_provenance_of_a_version_of_which_little_is_known_is_stated_all_the_same() -> None:
    entry = Entry(1, "00", "mnist", None, {"dataset": {"name": "mnist"}})
    said = provenance_statement(entry, file_digests(OLDER / "2"))
    assert said["predicate"]["buildDefinition"]["resolvedDependencies"] == []
    assert [each["name"] for each in said["predicate"]["runDetails"]["byproducts"]] == [
        "provenance/1.json"
    ]
