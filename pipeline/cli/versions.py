"""`bnpipe versions`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_served, open_store
from bnpipe.pipeline.engine.errors import ExitCode

app = typer.Typer(
    help="List, verify or prune the served versions; make keys.", invoke_without_command=True
)


@app.callback()
def default(context: typer.Context, as_json: Json = False) -> None:
    """List the versions; `verify` and `prune` do more."""
    if context.invoked_subcommand is None:
        _list(None, None, as_json=as_json)


@app.command("list")
def listed(sets: Sets = None, config: ConfigFile = None, as_json: Json = False) -> None:
    """List the served versions: labels, where each came from, what was withdrawn."""
    _list(sets, config, as_json=as_json)


@app.command()
def verify(sets: Sets = None, config: ConfigFile = None, as_json: Json = False) -> int:
    """Compare every byte of every version with what was published, and check the signatures.

    Each is `ok`, `damaged` (with the file), `bad signature`, `unsigned` or `not published by
    bnpipe`. Signatures are checked when serving.verify_key or serving.signing_key is set; then an
    unsigned or unknown version is bad too. Exit code 7 if one is bad.
    """
    from bnpipe.pipeline.configuration.publishing import rollout
    from bnpipe.serving.folder.verify import verify as look

    target = rollout(config_from(config, sets), open_store().home)
    checked = look(target.base, target.verifier)
    bad = [v for v in checked if v.bad]
    if not as_json:
        ui.table(
            ("version", "status", ""), [(f"v{v.version}", v.status, v.detail) for v in checked]
        )
    signed = " and signed" if target.verifier else ""
    value = {
        "folder": str(target.base),
        "signatures": target.verifier is not None,
        "versions": [asdict(v) for v in checked],
    }
    good = f"{len(checked) - len(bad)} of {len(checked)} versions are what was published{signed}"
    ui.answer(value, good, as_json=as_json)
    return ExitCode.SERVING if bad else ExitCode.OK


@app.command()
def keygen(
    path: Annotated[Path, typer.Argument(metavar="KEY", help="The private key's file.")],
) -> None:
    """Make the keys (P-256) that versions are signed with: KEY, to be kept secret, and KEY.pub."""
    from bnpipe.serving.folder.signing import make_keys

    public = make_keys(path)
    ui.say(f"private key {path}, public key {public}")
    ui.say(f"sign what is published: --set serving.signing_key={path}")


@app.command()
def sign(
    versions: Annotated[list[int], typer.Argument(metavar="VERSION...", help="E.g. 3.")],
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Sign versions that were published before there was this key; you vouch for their bytes."""
    from bnpipe.pipeline.configuration.publishing import pusher_params, rollout
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.serving.folder.publish import sign as sign_one
    from bnpipe.serving.folder.signing import load_keys

    settings, home = config_from(config, sets), open_store().home
    params, target = pusher_params(settings, home), rollout(settings, home)
    signer, _ = load_keys(params.signing_key, params.verify_keys)
    if signer is None:
        raise ConfigError(
            "serving.signing_key is not set: expected the key to sign with",
            hint="--set serving.signing_key=KEY (make one: bnpipe versions keygen KEY)",
        )
    target.check()
    signed = [version for version in versions if sign_one(target.base, version, signer)]
    target.complete()
    names = ", ".join(f"v{v}" for v in signed) or "nothing, all of them were already"
    ui.answer({"signed": signed}, f"signed {names}", as_json=as_json)


@app.command()
def prune(
    keep: Annotated[
        int | None, typer.Option(min=1, help="By default serving.keep_versions.")
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Delete old versions; the live, the labelled and the newest stay."""
    from bnpipe.pipeline.configuration.publishing import rollout

    settings = config_from(config, sets)
    target = rollout(settings, open_store().home)
    removed = target.prune(keep or settings.serving.keep_versions)
    names = ", ".join(f"v{v}" for v in removed) or "nothing"
    ui.answer({"removed": removed}, f"removed {names}", as_json=as_json)


@app.command()
def fetch(sets: Sets = None, config: ConfigFile = None, as_json: Json = False) -> None:
    """Take over what other homes published to the object store that serving.base_path names."""
    from bnpipe.pipeline.configuration.publishing import rollout
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.serving.folder.object_store import fetch as take_over

    target = rollout(config_from(config, sets), open_store().home)
    if not target.store:
        raise ConfigError(
            f"serving.base_path is the folder {target.base}: there is nothing to fetch",
            hint="an object store is named as gs://BUCKET/PATH or s3://BUCKET/PATH",
        )
    came = take_over(target.base, target.store)
    names = ", ".join(f"v{v}" for v in came) or "nothing"
    value = {"folder": str(target.base), "store": target.store, "fetched": came}
    ui.answer(value, f"fetched {names} from {target.store}", as_json=as_json)


def _list(sets: list[str] | None, config: Path | None, *, as_json: bool) -> None:
    base = open_served(config, sets)
    rows = _rows(base)
    if as_json:
        ui.write_json({"folder": str(base), "versions": rows})
        return
    ui.say(str(base))
    shown = [
        (f"v{r['version']}", " ".join(r["labels"]), r["run"] or "", r["digest"][:12], r["note"])
        for r in rows
    ]
    ui.table(("version", "labels", "run", "digest", "note"), shown)


def _rows(base: Path) -> list[dict[str, Any]]:
    """One row a version, newest first."""
    from bnpipe.serving.folder import ledger, model_config, versions

    history = ledger.read(base)
    live, waiting = versions.live(base), versions.waiting_version(base, history)
    rows = []
    for version in reversed(versions.complete_versions(base)):
        digest = versions.digest_of(base, history, version)
        entry, withdrawal = history.entry(version), history.withdrawn.get(digest)
        labels = [n for n in model_config.LABELS if model_config.label(base, n) == version]
        note = entry.provenance.get("verdict", "") if entry else "not published by bnpipe"
        if entry and entry.force:
            note = f"forced: {entry.force}"
        if version == waiting:
            note = "waits until the server has loaded it"
        if withdrawal:
            note = f"withdrawn: {withdrawal.reason}"
        rows.append(
            {
                "version": version,
                "live": version == live,
                "labels": labels,
                "digest": digest,
                "run": entry.provenance.get("run") if entry else None,
                "note": note,
            }
        )
    return rows
