# SPDX-License-Identifier: Apache-2.0
"""The vault's keys, product definitions and what was bought."""

import json
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection

from volact.fleet.keys import agreements, keys, publisher
from volact.fleet.keys.agreements import Bought
from volact.fleet.keys.keys import Asked as AskedKey
from volact.fleet.keys.keys import KeyRow
from volact.fleet.keys.office import Office
from volact.fleet.keys.publisher import KnownDefinition
from volact.fleet.verbs.base import Base, Names


class Keys(Base):
    def keys_add(self, lines: Sequence[str]) -> tuple[Sequence[KeyRow], Sequence[KeyRow]]:
        """One key a line, a description behind a comma; the new ones, and those that were there.  The vault is made
        with the first.  A line that is no key raises its error, and nothing is added."""
        parsed = keys.parse_lines(lines, "the keys")
        if parsed.problems:
            raise parsed.problems[0].error
        opened = self.open_vault(create=True)
        return self._write(lambda conn, now: keys.add(conn, opened, parsed.keys, now, self.who))

    def keys_list(self, product: str | None = None, channel: str | None = None) -> Sequence[KeyRow]:
        return self._read(lambda conn: keys.listed(conn, product, channel))

    def keys_remove(self, key: str) -> KeyRow:
        """From the vault; no machine loses anything."""

        def change(conn: Connection, now: int) -> KeyRow:
            row = keys.find(conn, key)
            keys.remove(conn, row, now, self.who)
            return row

        return self._write(change)

    def keys_refresh(self, names: Names = (), *, url: str | None = None, who: str | None = None) -> Sequence[AskedKey]:
        """Asks the publisher what is left of these keys, or of all."""
        found = self._read(lambda conn: [keys.find(conn, one) for one in names] if names else keys.listed(conn))
        return keys.refresh(self.store, self.open_vault(), found, self.clock, who or self.who, url, self.service)

    def definition_add(self, token: str, root: str) -> KnownDefinition:
        """A signed product definition, under the root that came with the product."""

        def change(conn: Connection, now: int) -> KnownDefinition:
            made = publisher.add_definition(conn, token, root, now, self.who).definition
            return next(one for one in publisher.definitions(conn) if (one.root, one.product) == (root, made.product))

        return self._write(change)

    def definitions(self) -> Sequence[KnownDefinition]:
        return self._read(publisher.definitions)

    def agreements_import(self, data: bytes, source: str = "file") -> Sequence[Bought]:
        """What was bought, from CSV or the publisher's JSON."""
        found = agreements.parse(data)
        self._write(lambda conn, now: agreements.keep(conn, found, source, now, self.who))
        return found

    def agreements_fetch(self, url: str, token: str, *, ca_file: Path | None = None) -> Sequence[Bought]:
        """What was bought, from the publisher's HTTP API, by an organisation's token."""
        items = Office.at(url, token, ca_file).agreements()
        return self.agreements_import(json.dumps(items).encode(), url) if items else ()

    def agreements(self) -> Sequence[Bought]:
        return self._read(agreements.listed)

    def agreements_remove(self, name: str) -> None:
        self._write(lambda conn, now: agreements.remove(conn, name, now, self.who))
