"""Bills of materials of served versions, held to the schemas that CycloneDX publishes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bnpipe.pipeline.cli.app import call
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.report.cyclonedx import bill_of_materials
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import signing, versions
from tests.pipeline.report.finished_run import NASTY, Home
from tests.serving.folder.served import DIGITS, push, saved_model

OLDER = Path(__file__).parents[2] / "serving/folder/older_folder"


def built(*packages: str, root: str = "ab" * 32) -> dict[str, Any]:
    """What SLSA's statement says that the bill takes over."""
    parts = [{"name": "code"}, *({"uri": f"pkg:pypi/{name}"} for name in packages)]
    return {
        "subject": [{"name": "m/1", "digest": {"sha256": root}}],
        "predicate": {"buildDefinition": {"resolvedDependencies": parts}},
    }


def flaws(bill: Any) -> list[str]:
    """What CycloneDX's own validator says."""
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill), all_errors=True)
    return [str(error) for error in errors or ()]


def references(value: Any, key: str) -> Iterator[str]:
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from references(inner, key)
    if isinstance(value, dict) and key in value:
        yield from value[key] if isinstance(value[key], list) else [value[key]]


def hold(bill: Any) -> None:
    assert flaws(bill) == []
    names = list(references(bill, "bom-ref"))
    assert len(names) == len(set(names))
    assert {*references(bill, "ref"), *references(bill, "dependsOn")} <= set(names)


def test_the_schemas_notice_what_is_wrong() -> None:
    bill = bill_of_materials(versions.provenance_of(OLDER, 2), built(), {})
    bill["metadata"]["component"]["modelCard"]["modelParameters"]["tsak"] = "x"
    assert len(flaws(bill)) == 1


def test_a_version_is_described_from_its_folder_alone() -> None:
    source = versions.provenance_of(OLDER, 2)
    bill = bill_of_materials(source, built("tensorflow@2.21.0", "x@2.0%2Bcu12"), {})
    hold(bill)
    assert bill["components"][-1]["version"] == "2.0+cu12"
    bill = bill_of_materials(source, built("tensorflow@2.21.0"), {})
    assert bill == bill_of_materials(source, built("tensorflow@2.21.0"), {})
    model = bill["metadata"]["component"]
    assert (model["name"], model["version"]) == ("rendered_digits", "2")
    assert model["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    analysis = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert {"type": "rule accuracy_floor", "value": "0.8012802069575176"} in analysis
    limits = model["modelCard"]["considerations"]["technicalLimitations"]
    assert "trained on synthetic data" in limits and "weaker" in limits[-1]
    libraries = {each.get("purl") for each in bill["components"]}
    assert (
        "pkg:pypi/tensorflow@2.21.0" in libraries
        and "dataset" in bill["dependencies"][0]["dependsOn"]
    )


def test_two_bills_that_differ_have_two_serial_numbers(tmp_path: Path) -> None:
    source, report = (
        versions.provenance_of(OLDER, 2),
        Home(tmp_path / "home").finish("0001").report(),
    )
    bills = [
        bill_of_materials(source, built(), {}),
        bill_of_materials(source, built(), report),
        bill_of_materials({**source, "verdict": "other"}, built(), {}),
        bill_of_materials(source, built("tensorflow@2.21.0"), {}),
    ]
    assert len({bill["serialNumber"] for bill in bills}) == 4


def test_a_version_of_which_little_is_known_is_described_all_the_same() -> None:
    hold(bill_of_materials({"model_name": "m", "version": 1}, built(), {}))


def test_the_model_card_holds_what_was_measured(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    report = home.finish("0001", wrong=0.3).report()
    report["config"]["trainer"] = {"hidden_units": [64], "normalization": "batch", "seed": None}
    source = {"model_name": "m", "version": 1, "dataset": {**DIGITS, "label_names": NASTY}}
    bill = bill_of_materials(source, built(), report)
    hold(bill)
    shown = bill["metadata"]["component"]["modelCard"]
    measured = report["evaluation"]["models"]["candidate"]
    accuracy = shown["quantitativeAnalysis"]["performanceMetrics"][0]
    low, high = map(str, measured["accuracy_interval"])
    assert accuracy == {
        "type": "accuracy",
        "value": str(measured["accuracy"]),
        "confidenceInterval": {"lowerBound": low, "upperBound": high},
    }
    slices = {m["slice"] for m in shown["quantitativeAnalysis"]["performanceMetrics"][7:]}
    assert slices == set(report["evaluation"]["slices"])
    layers = "dense, hidden units [64], normalization batch"
    assert shown["modelParameters"]["modelArchitecture"] == layers
    assert shown["properties"] == [
        {"name": "hidden_units", "value": "[64]"},
        {"name": "normalization", "value": "batch"},
    ]
    refused = [r["sentence"] for r in report["blessing"]["rules"] if r["outcome"] == "block"]
    assert refused and set(refused) <= set(shown["considerations"]["technicalLimitations"])


# The command


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A served folder whose first version comes from a run of this home; the second does not."""
    base, home = tmp_path / "served", Home(tmp_path / "home")
    signing.make_keys(tmp_path / "key")
    signer = signing.load_signer(tmp_path / "key")
    steps = {step["name"]: step for step in home.finish("0001").summary()["steps"]}
    model = steps["trainer"]["outputs"]["model"]
    for content, digest in (("a", model), ("b", "00" * 32)):
        source = {"dataset": DIGITS, "run": "0001", "inputs": {"model": digest}}
        push(base, saved_model(tmp_path / content, content), provenance=source, signer=signer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(home.store.home))
    settings = f"serving: {{base_path: '{base}'}}\n"
    Path("bnpipe.yaml").write_text("data: {dataset: rendered_digits}\n" + settings)
    return base


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert call(list(words)) == 0
    return json.loads(capsys.readouterr().out)


def test_show_prints_the_bill_with_what_the_home_knows(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bills = [
        printed(capsys, "show", f"served/{number}", "--format", "cyclonedx") for number in (1, 2)
    ]
    for bill in bills:
        hold(bill)
    cards = [bill["metadata"]["component"]["modelCard"] for bill in bills]
    kinds = [
        [metric["type"] for metric in card["quantitativeAnalysis"]["performanceMetrics"]]
        for card in cards
    ]
    assert kinds[0][0] == "accuracy", "measured in the run that pushed it"
    assert kinds[1] == [], "a run of the same number in another home made another model"


def test_show_prints_the_provenance_that_is_signed(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from base64 import b64decode

    shown = printed(capsys, "show", "served/1", "--format", "slsa")
    envelope = json.loads((published / "manifests/1.slsa").read_text())["dsseEnvelope"]
    assert shown == json.loads(b64decode(envelope["payload"]))
    files = json.loads((published / "manifests/1.sig").read_text())["dsseEnvelope"]
    assert shown["subject"] == json.loads(b64decode(files["payload"]))["subject"]


@pytest.mark.parametrize("content", ["[]", "null", '{"steps": [7]}', '{"steps": null}', "{"])
def test_the_bill_does_without_a_run_whose_record_is_damaged(
    published: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home/runs/0001/run.json").write_text(content)
    bill = printed(capsys, "show", "served/1", "--format", "cyclonedx")
    hold(bill)
    card = bill["metadata"]["component"]["modelCard"]
    assert card["quantitativeAnalysis"]["performanceMetrics"] == []


def test_the_provenance_is_shown_whatever_became_of_the_run(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home/runs/0001/report.json").write_text("{")
    assert printed(capsys, "show", "served/1", "--format", "slsa")["predicateType"]


def test_a_version_is_the_same_whatever_zeros_are_before_its_number(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--json"], ["--format", "slsa"]):
        shown = [printed(capsys, "show", f"served/{name}", *words) for name in ("2", "002")]
        assert shown[0] == shown[1]


def test_a_version_whose_folder_is_gone_says_where_to_look(published: Path) -> None:
    shutil.rmtree(published / "1")
    with pytest.raises(ServingError, match=r"v1 is not in .*; list what is: bnpipe versions"):
        call(["show", "served/1", "--format", "slsa"])


def test_show_has_no_form_for_tools_of_a_run_or_of_damaged_bytes(
    published: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"--format slsa: latest is no served version"):
        call(["show", "latest", "--format", "slsa"])
    (published / "1/saved_model.pb").write_text("other")
    for form in ("slsa", "cyclonedx"):
        with pytest.raises(ServingError, match=r"v1 in .* is damaged"):
            call(["show", "served/1", "--format", form])
