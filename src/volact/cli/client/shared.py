# SPDX-License-Identifier: Apache-2.0
"""What the client's verbs share: the folder, this machine, and one product as it is shown."""

import argparse
from dataclasses import dataclass, field
from typing import Any

from volact.cli.environment import Environment
from volact.client.folder.files import find_folder
from volact.client.folder.records import Attempt, KnownIssuer
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct, load_product, record
from volact.core.errors import VolactError
from volact.core.evaluation import Evaluation
from volact.core.fingerprint import Fingerprint


def open_store(args: argparse.Namespace, env: Environment) -> ClientStore:
    return ClientStore(find_folder(env.variables, args.dir))


def machine_of(env: Environment) -> LocalMachine:
    return LocalMachine(env.traits, env.hostname, env.root)


@dataclass(frozen=True, slots=True)
class View:
    """One product with everything that is shown of it."""

    loaded: LoadedProduct
    evaluation: Evaluation
    attempt: Attempt | None
    known: KnownIssuer | None
    fingerprint: Fingerprint = field(default_factory=lambda: Fingerprint({}), repr=False)

    @property
    def threshold(self) -> int | None:
        """Only where something is counted."""
        edition = self.loaded.edition
        return edition.policy.threshold if edition and self.loaded.installation.channel == "volume" else None

    @property
    def counted(self) -> int | None:
        """The count that the state comes from: a licensed machine's, not what another host said later."""
        licence = self.evaluation.licence
        if self.evaluation.licensed and licence is not None and licence.count is not None:
            return licence.count
        return self.evaluation.count

    @property
    def count(self) -> str | None:
        if self.threshold is None or self.counted is None:
            return None
        return f"{self.counted}/{self.threshold}"

    @property
    def next_attempt(self) -> int | None:
        """Of the licensing service, or of whoever minds what host and policy ask for."""
        return self.attempt.next_due if self.attempt and self.loaded.asks_by_itself(self.evaluation) else None

    def to_json(self, env: Environment) -> dict[str, Any]:
        evaluation, installation, edition = self.evaluation, self.loaded.installation, self.loaded.edition
        return {
            "product": self.loaded.product,
            "version": self.loaded.definition.version,
            "publisher": self.loaded.definition.publisher,
            "root": self.loaded.trust.fingerprint,
            "edition": installation.edition,
            "group": edition.group if edition else None,
            "channel": installation.channel,
            "partial_key": installation.partial or None,
            "state": evaluation.state,
            "licensed": evaluation.licensed,
            "enforcement": evaluation.enforcement,
            "until": env.json_time(evaluation.until),
            "reason": reason_json(evaluation.reason),
            "count": self.counted,
            "threshold": self.threshold,
            "host": self.known.address if self.known else None,
            "host_source": self.known.source if self.known else None,
            "last_attempt": attempt_json(self.attempt, env),
            "next_attempt": env.json_time(self.next_attempt),
            "organisation": (evaluation.licence.organisation or None) if evaluation.licence else None,
            "fingerprint": self.fingerprint.digest.hex() if self.fingerprint.traits else None,
        }


def view(product: str, store: ClientStore, machine: LocalMachine, env: Environment) -> View:
    """Load and evaluate a product, and keep what that observed of clock and hardware."""
    loaded, now = load_product(store, product), env.clock()
    fingerprint = machine.fingerprint(loaded.trust.fingerprint)
    evaluation = loaded.evaluate(fingerprint, now)
    record(store, loaded, evaluation, now)
    return View(loaded, evaluation, store.attempt(product), store.issuer(product), fingerprint)


def reason_json(reason: VolactError | None) -> dict[str, str] | None:
    if reason is None:
        return None
    return {"code": reason.code, "message": str(reason), "remedy": reason.hint}


def attempt_json(attempt: Attempt | None, env: Environment) -> dict[str, Any] | None:
    if attempt is None:
        return None
    tried = [{"host": t.host, "source": t.source, "code": t.code, "message": t.message} for t in attempt.tried]
    return {"at": env.json_time(attempt.at), "code": attempt.code, "message": attempt.message, "tried": tried}


def say_notes(store: ClientStore, env: Environment) -> None:
    """What was repaired or left aside while reading the folder."""
    for note in store.notes:
        env.say(f"note: {note}")
