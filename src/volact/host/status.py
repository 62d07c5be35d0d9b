# SPDX-License-Identifier: Apache-2.0
"""What a KMS host says of itself: keys, counts against thresholds, counters, settings.  Read-only; values, no text."""

from dataclasses import dataclass

from volact.core.count import day_of
from volact.core.states import State
from volact.host.folder import HostFolder
from volact.host.recording import FAILED, REFUSED, STATE, TOTAL
from volact.host.settings import HostSettings
from volact.host.store import HOST_SCOPE, HostStore
from volact.issuer.status import KeyStatus, key_status
from volact.sealing.verify import TrustedDefinition


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A product group's count.  ``thresholds`` by edition; ``states`` are cumulative requests by the client's state."""

    root: str
    group: int
    name: str
    count: int
    thresholds: dict[str, int]
    total: int
    failed: int
    states: dict[str, int]
    refusals: dict[str, int]
    scope_id: int = 0


@dataclass(frozen=True, slots=True)
class HostStatus:
    keys: tuple[KeyStatus, ...]
    groups: tuple[GroupStatus, ...]
    products: tuple[TrustedDefinition, ...]
    settings: HostSettings
    clones: int
    shared_hardware: int
    unproven: int


def host_status(folder: HostFolder, store: HostStore, now: int) -> HostStatus:
    products = folder.products()
    names = {trusted.trust.fingerprint: trusted.definition.publisher for trusted in products}
    clones = store.clones(since=now - 30 * 86400)
    return HostStatus(
        keys=tuple(key_status(key, names.get(key.root, "")) for key in folder.host_keys()),
        groups=tuple(groups_of(products, store, day_of(now))),
        products=tuple(products),
        settings=HostSettings.load(store),
        clones=sum(clone.proved_at is not None for clone in clones),
        shared_hardware=len(store.shared_fingerprints()),
        unproven=store.counters(HOST_SCOPE).get(FAILED, 0),
    )


def groups_of(products: list[TrustedDefinition], store: HostStore, today: int) -> list[GroupStatus]:
    """Each product group that the host counts."""
    found = []
    for scope in store.scopes():
        mine = [t.definition for t in products if t.trust.fingerprint == scope.root]
        counters = store.counters(scope.id)
        group = next((d.group(scope.product_group) for d in mine if d.group(scope.product_group)), None)
        found.append(
            GroupStatus(
                root=scope.root,
                group=scope.product_group,
                name=group.name if group else "",
                count=store.count(scope.id, today),
                thresholds={
                    f"{d.product}/{e.id}": e.policy.threshold
                    for d in mine
                    for e in d.editions
                    if e.group == scope.product_group
                },
                total=counters[TOTAL],
                failed=counters[FAILED],
                states={str(state): counters.get(STATE + state, 0) for state in State},
                refusals={n.removeprefix(REFUSED): v for n, v in counters.items() if n.startswith(REFUSED)},
                scope_id=scope.id,
            )
        )
    return found
