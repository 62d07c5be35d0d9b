# SPDX-License-Identifier: Apache-2.0
"""Activation through the directory: a member computer reads the forest's activation object, and keeps that it has.

What is kept is a reading: the publisher's signed object, the forest it was found in, as whom and when, signed by this
machine's own key.  It is verified at each load and evaluated as a licence that lasts a lease from the reading on,
never past the object's end.  Leaving the domain ends it: whether this computer is a member, its own files say, so
that nobody on the network can take a licence away.  How a directory is read is the door's work, which the command
line plugs in.  Spec: docs/spec/activation-object.md §6.
"""

from collections.abc import Callable
from typing import Protocol

from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.readings import verified
from volact.core.activation_object import Reading
from volact.core.definition import Edition
from volact.core.errors import ConfigError
from volact.core.evaluation import Answer
from volact.core.forest import Forest
from volact.sealing import verify
from volact.sealing.sign import MachineSigner
from volact.sealing.verify import Trust

SOURCE = "directory"
NOT_A_MEMBER = "not-a-member"


class Found(Protocol):
    """What a door read."""

    @property
    def token(self) -> str: ...
    @property
    def forest(self) -> Forest: ...
    @property
    def member(self) -> str: ...
    @property
    def server(self) -> str: ...


class Door(Protocol):
    """A way to this computer's directory: :class:`volact.directory.door.DirectoryDoor`."""

    def account(self) -> str:
        """Who this computer is to its directory, by its own files; an error ``not-a-member`` where it is nobody."""
        ...

    def read(self, trust: Trust, group: int, now: int) -> Found:
        """The best activation object for a product group."""
        ...


def account_of(door: Door | None) -> str | None:
    """Who this computer is to its directory; ``None`` where it is nobody, or there is no door."""
    if door is None:
        return None
    try:
        return door.account()
    except ConfigError as exc:
        if exc.code != NOT_A_MEMBER:
            raise
        return None


def heed_membership(store: ClientStore, door: Door | None) -> None:
    """Forget the readings of any other account than this computer's: to be done when the service starts, and before
    each activation through its doors.  Where it cannot be told whose computer this is, nothing is forgotten."""
    try:
        account = account_of(door)
    except ConfigError:  # a keytab that this user may not read
        return
    for product in store.products():
        kept = store.load_reading(product, _unverified_account)
        if kept is not None and kept != account:
            store.remove_reading(product)


def read_directory(
    store: ClientStore,
    door: Door,
    account: str,
    product: str,
    trust: Trust,
    edition: Edition,
    machine: LocalMachine,
    signer: MachineSigner,
    clock: Callable[[], int],
) -> tuple[Reading, Answer]:
    """Read the directory and keep the reading.  Raises by name why there is none, and then keeps what was there."""
    now = clock()
    found = door.read(trust, edition.group, now)
    fingerprint = machine.fingerprint(trust.fingerprint)
    reading = Reading(found.token, now, found.forest, account, found.member, found.server, fingerprint)
    token = signer.reading(reading)
    answer = verified(token, trust, signer.machine, product, edition)
    store.save_reading(product, token)
    return reading, answer


def _unverified_account(token: str) -> str:
    """Whose reading it says it is: only to forget it, which needs no proof."""
    from volact.sealing import jws

    return Reading.from_claim(jws.parse(token, verify.READING).claims()).account
