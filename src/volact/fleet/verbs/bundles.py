# SPDX-License-Identifier: Apache-2.0
"""Files that are carried between fleets, and to where the publisher can be reached."""

from collections.abc import Callable

from volact.fleet.exchange import bundle, transfer
from volact.fleet.exchange.bundle import Bundle, RequestRow
from volact.fleet.exchange.transfer import Confirmed, Exported, Imported
from volact.fleet.keys import publisher
from volact.fleet.keys.publisher import KnownDefinition, Service
from volact.fleet.keys.vault import Vault
from volact.fleet.verbs.base import Base, Names
from volact.sealing.keys import LocalKey


class Bundles(Base):
    def export(
        self, kind: str = "requests", *, machines: Names | None = None, passphrase: bytes | None = None
    ) -> Exported:
        """``requests`` (no keys, no names: the default), ``inventory``, or ``full``, with keys under ``passphrase``."""
        key, now = bundle.signing_key(self.folder.keys), self.clock()
        if kind == "requests":
            return transfer.export_requests(self.store, key, now, self.who, self.random, machines)
        opened = self.open_vault() if kind == "full" else None
        return transfer.export_inventory(self.store, key, now, self.who, self.random, opened, passphrase)

    def import_bundle(
        self, data: bytes, *, signer: str | None = None, passphrase: bytes | None = None, dry_run: bool = False
    ) -> Imported:
        """Takes a bundle in; the file wins, and what it replaced is listed."""
        own = bundle.fingerprint(bundle.signing_key(self.folder.keys))
        parsed = bundle.parse(data)
        opened = self._vault_for_keys(dry_run=dry_run) if passphrase is not None else None
        return transfer.import_bundle(
            self.store, parsed, self.clock(), self.who, own, signer=signer, opened=opened, passphrase=passphrase,
            dry_run=dry_run,
        )  # fmt: skip

    def proxy_confirm(self, requests: bytes, url: str | None = None) -> Confirmed:
        """Has the requests of a bundle answered by their publishers; the answers' bundle."""
        parsed = bundle.parse(requests)
        return confirm_bundle(
            parsed, bundle.signing_key(self.folder.keys), self.clock(), self.random, url, self.service
        )

    def _vault_for_keys(self, *, dry_run: bool) -> Vault:
        """Head office may import its first keys; a dry run makes no vault for them."""
        return Vault.throwaway() if dry_run and not self.has_vault() else self.open_vault(create=True)


def confirm_bundle(
    requests: Bundle,
    key: LocalKey,
    now: int,
    random: Callable[[int], bytes],
    url: str | None = None,
    service: Callable[[KnownDefinition, str | None], Service] = publisher.service_of,
) -> Confirmed:
    """Needs no database: on a connected computer that knows nothing of the fleet."""

    def publisher_of(row: RequestRow) -> Service:
        return service(KnownDefinition("", "", 0, row.url, ""), url)

    return transfer.confirm(requests, publisher_of, key, now, random)
