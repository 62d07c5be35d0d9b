# SPDX-License-Identifier: Apache-2.0
"""The secrets of a bundle: keys and backups, opened by one vault, under the bundle's own passphrase, sealed by another.

Spec: docs/spec/bundle.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from volact.core.encoding import Fields, b64encode, dump_object, parse_object
from volact.core.errors import InputError, MalformedError
from volact.core.product_key import ProductKey
from volact.fleet.activation import confirmations
from volact.fleet.activation.confirmations import KeptBackup
from volact.fleet.keys.vault import Vault
from volact.fleet.schema import KEYS
from volact.sealing import recipient

PIECE = 1000  # keys in one encrypted row
_PURPOSE = "machine backup"


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    keys: dict[str, ProductKey]
    backups: list[KeptBackup]


def secrets(conn: Connection, opened: Vault) -> Iterator[bytes]:
    """Keys and backups, opened by the vault, for the bundle's own passphrase: some in each piece."""
    rows = conn.execute(select(KEYS.c.key_id, KEYS.c.sealed).order_by(KEYS.c.id)).all()
    for start in range(0, len(rows), PIECE):
        found = [
            {"key_id": row.key_id, "key": str(opened.open(row.key_id, bytes(row.sealed)))}
            for row in rows[start : start + PIECE]
        ]
        yield dump_object({"keys": found, "backups": []})
    for one in confirmations.backups(conn):
        if one.vault != opened.recipient.text:
            continue
        kept = {"machine_id": one.machine_id.hex(), "machine": one.machine, "products": list(one.products)}
        plain = b64encode(opened.open_backup(one.sealed, _PURPOSE))
        yield dump_object({"keys": [], "backups": [{**kept, "made_at": one.made_at, "opened": plain}]})


def read_secrets(data: bytes, opened: Vault | None, found: Secrets) -> None:
    claim = Fields(parse_object(data, "bundle's secrets"), "bundle's secrets")
    for item in claim.items("keys", most=PIECE):
        key = _read_key(Fields(item, "key of a bundle"))
        found.keys[key.key_id] = key
    for item in claim.items("backups", most=PIECE):
        if opened is not None:
            found.backups.append(_read_backup(Fields(item, "backup of a bundle"), opened))


def _read_key(fields: Fields) -> ProductKey:
    try:
        key = ProductKey.strict(fields.text("key", most=29))
    except MalformedError:
        raise
    except InputError:  # nothing of it is repeated
        fields.fail("key", "a product key in its canonical spelling")
    if key.key_id != fields.text("key_id", most=64):
        fields.fail("key_id", "the ID of its key")
    return key


def _read_backup(fields: Fields, opened: Vault) -> KeptBackup:
    """Sealed anew, to the vault of this database."""
    to = opened.recipient.text
    return KeptBackup(
        machine_id=_bytes(fields, fields.text("machine_id", least=64, most=64)),
        machine=fields.text("machine", most=253),
        vault=to,
        products=fields.texts("products", most=1000),
        sealed=recipient.seal(to, _PURPOSE, fields.octets("opened", most=1024 * 1024)),
        made_at=fields.integer("made_at"),
    )


def _bytes(fields: Fields, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        fields.fail("machine_id", "64 hexadecimal digits")
