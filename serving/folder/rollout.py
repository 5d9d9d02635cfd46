"""Bringing a change of a served folder to the servers that run on it.

A server checks labels before it loads versions, so an edit of models.config that lists a version
and moves an existing label to it is refused at every poll. With the addresses of the servers every
move is therefore made in two edits: list the version, wait until all servers report it AVAILABLE,
move the label. The lock of the folder is free while we wait. Between the two edits the ledger says
`listed`: whoever is killed there finishes by doing the same again, and what was live is live.

AVAILABLE counts only from a server that has an edit in force which lists the version: one that was
delisted is AVAILABLE too, until the server looks at the folders again, and to move a label to it is
refused for ever after. A server that refuses an edit all the same (somebody made it without
addresses) is brought out of it by an edit that leaves its labels where it has them.

Without addresses there is one edit. It is safe: a server that starts on it takes it, one that runs
refuses it whole and goes on with what it had until it is restarted.

A version that a server cannot load is withdrawn. Time that runs out withdraws nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bnpipe.serving.client.base import Client, LoadFailed, Options, ServerError
from bnpipe.serving.client.connect import connect
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import labels, ledger, model_config, object_store, versions
from bnpipe.serving.folder.publish import Published, prune
from bnpipe.serving.folder.settle import settle, writing
from bnpipe.serving.folder.signing import Verifier
from bnpipe.serving.folder.verify import require_whole

_CALL_SECONDS = 5.0
_POLL_SECONDS = 0.1
_AVAILABLE = "AVAILABLE"


@dataclass(frozen=True)
class Rollout:
    """A served folder and who follows it.

    Attributes:
        base: the folder.
        servers: addresses of the running servers, all of them; empty if there is none.
        wait_seconds: how long a server may take to load a version or to move a label.
        verifier: the key that versions must be signed with before they become live.
        store: the URL of an object store that the servers read instead of the folder; empty for
            none.
        canary: a version that was published becomes the canary; `promote` makes it live.
    """

    base: Path
    servers: tuple[str, ...] = ()
    wait_seconds: float = 60.0
    verifier: Verifier | None = None
    store: str = ""
    canary: bool = False

    def check(self) -> None:
        """Refuse to change a folder that is behind its object store.

        Raises:
            ServingError: another home published to the store, or it cannot be read.
        """
        if self.store:
            object_store.check(self.base, self.store)

    def prune(self, keep: int) -> list[int]:
        """`publish.prune`, in the object store too.

        Raises:
            ServingError: disk or store refuse.
        """
        self.check()
        removed = prune(self.base, keep)
        self._mirror()
        return removed

    def finish(self, published: Published) -> Published:
        """Move the label to a version that was published with `hold`, once servers have loaded it.

        The label is `stable`, or `canary` if new versions are to be tried first.

        The first version of a folder is live already; a server that is not there yet is not waited
        for, because without a version it could not have started.

        Raises:
            ServingError: a server cannot load it, and it is withdrawn; or time ran out.
        """
        version = published.version
        self._mirror()
        if not self.servers or (published.new and published.live and not self._somebody_answers()):
            return published if published.live else self._move(published)
        label = "canary" if self.canary and not published.live else "stable"
        with self._clients() as clients:
            try:
                self._wait_until_ready(clients, label, version)
            except LoadFailed as error:
                raise self._quarantine(published, error) from error
            done = published if published.live else self._move(published)
            self._wait_for_label(clients, label, version)
        return done

    def rollback(self, *, reason: str, to: int | None = None) -> int:
        """`labels.rollback`, on the servers too; returns the version that is live now.

        Raises:
            ServingError: there is nothing to go back to, or a server does not follow in time.
        """
        self.check()
        target = labels.rollback_target(self.base, to)
        self._check_signature(target)
        self._load(target, "stable", "rollback")
        now = labels.rollback(self.base, reason=reason, to=to)
        self._mirror()
        self._follow("stable", now)
        return now

    def promote(self, version: int, *, label: str = "stable", bake: bool = False) -> None:
        """`labels.promote`, on the servers too.

        Raises:
            ServingError: the label cannot move there, or a server does not follow in time.
        """
        self.check()
        labels.check_promotion(self.base, version, label)
        self._check_signature(version)
        self._load(version, label, "promote")
        labels.promote(self.base, version, label=label, bake=bake)
        self._mirror()
        self._follow(label, version)

    def complete(self) -> None:
        """Tell the servers what the ledger says, if a kill came in between.

        Raises:
            ServingError: disk or store refuse.
        """
        self.check()
        with writing(self.base, create=False) as folder:
            settle(folder)
        self._mirror()

    def confirm(self, version: int, *, label: str) -> None:
        """See that the servers have a label where it should be, also if its move was cut short.

        Raises:
            ServingError: a server is not there, or does not follow in time.
        """
        with self._clients() as clients:
            self._require_answers(clients)
            self.complete()
            self._wait_for_label(clients, label, version)

    def end_bake(self, version: int) -> None:
        """`labels.end_bake`, in the object store too.

        Raises:
            ServingError: disk or store refuse.
        """
        labels.end_bake(self.base, version)
        self._mirror()

    def withdraw(self, version: int, *, reason: str) -> None:
        """`labels.withdraw`, in the object store too: take back a version that is not live.

        Raises:
            ServingError: it is live, or not there.
        """
        self.check()
        labels.withdraw(self.base, version, reason=reason)
        self._mirror()

    def check_listed(self) -> None:
        """Refuse to have versions served that are not signed by the key, if there is one.

        Raises:
            ServingError: a listed version is damaged, unsigned, or signed by somebody else.
        """
        wanted = versions.wanted_config(self.base, ledger.read(self.base))
        for version in wanted.versions if wanted else ():
            self._check_signature(version)

    def _check_signature(self, version: int) -> None:
        if self.verifier is not None:
            require_whole(self.base, version, self.verifier)

    def _load(self, version: int, label: str, purpose: str) -> None:
        """First edit: have all servers load a version, by an edit that lists it."""
        if not self.servers:
            return
        with self._clients() as clients:
            self._require_answers(clients)
            if version == versions.live(self.base):
                return
            if version in self._wanted().versions:
                self.complete()
            else:
                labels.list_version(self.base, version, purpose=purpose)
                self._mirror()
            try:
                self._wait_until_ready(clients, label, version)
            except LoadFailed as error:
                self.withdraw(version, reason=f"server: {error.words}")
                raise ServingError(
                    f"v{version} is withdrawn: the server cannot load it: {error.words}",
                    hint="choose another one: bnpipe versions list",
                ) from error

    def _follow(self, label: str, version: int) -> None:
        """Second edit is made: see that the servers have taken it."""
        if self.servers:
            with self._clients() as clients:
                self._wait_for_label(clients, label, version)

    def _mirror(self) -> None:
        if self.store:
            object_store.mirror(self.base, self.store)

    def _move(self, published: Published) -> Published:
        self._check_signature(published.version)
        labels.promote(self.base, published.version, label="canary" if self.canary else "stable")
        self._mirror()
        return replace(published, live=not self.canary)

    def _is_ready(self, client: Client, label: str, version: int) -> bool:
        """True if a server will take the move of a label to a version, whenever it reads of it.

        Raises:
            LoadFailed: it cannot load the version.
        """
        if client.version_behind(label) == version:
            return True  # where a label may stay
        if _has_in_force(client, self._wanted()) and client.state(version).state == _AVAILABLE:
            return True
        return self._catch_up(client, version)

    def _catch_up(self, client: Client, version: int) -> bool:
        """Have a server that refuses models.config load a version, by an edit that it accepts.

        The edit is no entry of the ledger; the next change of the folder, by whomever, ends it.
        False if the server refuses nothing, or has gone on refusing.

        Raises:
            LoadFailed: it cannot load the version.
        """
        theirs = {name: client.version_behind(name) for name in model_config.LABELS}
        if not self._refuses(client, theirs) or self.store:
            return False
        kept = {n: v for n, v in theirs.items() if v and versions.is_complete(self.base, v)}
        with writing(self.base, create=False) as folder:
            wanted = versions.wanted_config(folder, settle(folder))
            assert wanted is not None  # a version is live
            listed = tuple(sorted({*wanted.versions, *kept.values(), version}))
            accepted = replace(wanted, versions=listed, labels={**wanted.labels, **kept})
            model_config.write(folder, accepted)
        deadline = time.monotonic() + self.wait_seconds
        try:
            while time.monotonic() < deadline:
                if _has_in_force(client, accepted) and client.state(version).state == _AVAILABLE:
                    return True
                time.sleep(_POLL_SECONDS)
            return False
        finally:
            with writing(self.base, create=False) as folder:
                settle(folder)

    def _refuses(self, client: Client, theirs: Mapping[str, int | None]) -> bool:
        """True if a server would refuse models.config as it should be, if it read it now."""
        try:
            states = {s.version: s.state for s in client.status()}
        except ServerError:
            return False
        moves = {v for n, v in self._wanted().labels.items() if theirs[n] not in (None, v)}
        return any(states.get(v, "END") in ("UNLOADING", "END") for v in moves)

    def _quarantine(self, published: Published, error: LoadFailed) -> ServingError:
        """Withdraw a version that was to become live; says what happened."""
        version = published.version
        why = f"the server cannot load v{version}: {error.words}"
        if published.live:
            hint = "nothing else was live before; publish another: bnpipe run"
            return ServingError(why, hint=hint)
        self.withdraw(version, reason=f"server: {error.words}")
        return ServingError(
            f"v{version} is withdrawn, v{versions.live(self.base)} stays live; {why}",
            hint="publish another model: bnpipe run",
        )

    def _wait_until_ready(self, clients: list[Client], label: str, version: int) -> None:
        """Wait until every server will follow when a label moves to a version.

        Raises:
            LoadFailed: one cannot load it.
            ServingError: time ran out.
        """
        deadline = time.monotonic() + self.wait_seconds
        for client, address in zip(clients, self.servers, strict=True):
            while not self._is_ready(client, label, version):
                if time.monotonic() > deadline:
                    raise ServingError(
                        f"{address}: expected v{version} loaded by {model_config.MODELS_CONFIG} as "
                        f"it is now within {self.wait_seconds:g} s, received "
                        f"{client.state(version)}; nothing is withdrawn, live in {self.base} is "
                        f"v{versions.live(self.base)}",
                        hint="run the same again to go on, or with serving.server_url=[] to wait "
                        "for no server",
                    )
                time.sleep(_POLL_SECONDS)

    def _wait_for_label(self, clients: list[Client], label: str, version: int) -> None:
        deadline = time.monotonic() + self.wait_seconds
        for client, address in zip(clients, self.servers, strict=True):
            while (current := client.version_behind(label)) != version:
                if time.monotonic() > deadline:
                    has = "nothing" if current is None else f"v{current}"
                    raise ServingError(
                        f"{label} is v{version} in {self.base}, but {address} did not follow "
                        f"within {self.wait_seconds:g} s: there it is {has}",
                        hint="it must read models.config again "
                        "(--model_config_file_poll_wait_seconds), or be restarted",
                    )
                try:
                    self._catch_up(client, version)
                except LoadFailed as error:
                    raise ServingError(
                        f"{label} is v{version} in {self.base}, but {address} cannot load it: "
                        f"{error.words}",
                        hint="bnpipe rollback --reason WHY",
                    ) from error
                time.sleep(_POLL_SECONDS)

    def _require_answers(self, clients: list[Client]) -> None:
        """Refuse to begin what a server that is down could not follow.

        Raises:
            ServingError: nobody answers at an address.
        """
        silent = [a for c, a in zip(clients, self.servers, strict=True) if not c.answers()]
        if silent:
            raise ServingError(
                f"no server at {', '.join(silent)}: nothing is changed, live in {self.base} is "
                f"v{versions.live(self.base)}",
                hint="start it, or leave it out of serving.server_url",
            )

    def _somebody_answers(self) -> bool:
        with self._clients() as clients:
            return any(client.answers() for client in clients)

    def _wanted(self) -> model_config.ModelConfig:
        wanted = versions.wanted_config(self.base, ledger.read(self.base))
        if wanted is None:
            raise ServingError(f"nothing was published in {self.base}")
        return wanted

    @contextlib.contextmanager
    def clients(self) -> Iterator[dict[str, Client]]:
        """Clients of all servers by their addresses, with one attempt for each request.

        Raises:
            ServingError: nobody answers at one of them.
        """
        with self._clients() as clients:
            self._require_answers(clients)
            yield dict(zip(self.servers, clients, strict=True))

    @contextlib.contextmanager
    def _clients(self) -> Iterator[list[Client]]:
        newest = ledger.read(self.base).newest()
        if newest is None:
            raise ServingError(f"nothing was published in {self.base}")
        options = Options(timeout=_CALL_SECONDS, attempts=1)
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(connect(address, newest.model_name, options))
                for address in self.servers
            ]


def _has_in_force(client: Client, config: model_config.ModelConfig) -> bool:
    """True if a server has taken over this very edit, and none since."""
    return client.version_behind(config.mark) is not None
