# SPDX-License-Identifier: Apache-2.0
"""The key vault: what opens it, what does not, and what can be seen without."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from volact.core.product_key import Channel, ProductKey
from volact.fleet.keys import keys, vault
from volact.fleet.keys.keys import KeyAmbiguousError, KeyUnknownHereError
from volact.fleet.keys.vault import Vault, VaultDamagedError, VaultExistsError, VaultMissingError, VaultPassphraseError
from volact.fleet.schema import KEYS, METADATA, VAULT
from volact.fleet.store import FleetStore

ROOT = "sha256:" + "ab1" + "0" * 61
NOW = 1_800_000_000
PASSPHRASE = b"a passphrase for tests"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault, "SCRYPT_N", 1 << 4)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FleetStore]:
    with FleetStore.open(tmp_path / "fleet.sqlite") as opened:
        yield opened


@pytest.fixture
def opened(store: FleetStore) -> Vault:
    with store.write() as conn:
        return vault.create(conn, PASSPHRASE, NOW, "alice")


def make(channel: Channel = Channel.MAK, group: int = 101) -> ProductKey:
    return ProductKey.new(channel, 0xAB1, group, os.urandom(7))


def mistyped(key: ProductKey) -> str:
    """The key with another check symbol at its end: every such key is wrong, whatever the key."""
    text = str(key)
    return text[:-1] + ("X" if text[-1] != "X" else "Y")


def add(store: FleetStore, opened: Vault, *found: ProductKey) -> list[keys.KeyRow]:
    with store.write() as conn:
        return keys.add(conn, opened, [(key, "") for key in found], NOW, "alice")[0]


def test_a_key_comes_out_as_it_went_in(store: FleetStore, opened: Vault) -> None:
    key = make()
    (row,) = add(store, opened, key)
    with store.read() as conn:
        assert keys.open_key(conn, vault.open_vault(conn, PASSPHRASE), row) == key


def test_no_byte_of_a_key_beyond_its_last_group_lies_in_the_database(
    store: FleetStore, opened: Vault, tmp_path: Path
) -> None:
    key = make()
    add(store, opened, key)
    store.checkpoint()
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.partial.encode() in data
    for form in (str(key), str(key)[:17], str(key).replace("-", ""), str(key).lower()):
        assert form.encode() not in data


def test_a_wrong_passphrase_opens_nothing(store: FleetStore, opened: Vault) -> None:
    with store.read() as conn, pytest.raises(VaultPassphraseError):
        vault.open_vault(conn, b"another")


def test_a_new_passphrase_opens_the_same_keys_and_the_old_one_no_more(store: FleetStore, opened: Vault) -> None:
    (row,) = add(store, opened, make())
    with store.write() as conn:
        vault.change_passphrase(conn, PASSPHRASE, b"another", NOW, "alice")
    with store.read() as conn:
        assert keys.open_key(conn, vault.open_vault(conn, b"another"), row).partial == row.partial
        with pytest.raises(VaultPassphraseError):
            vault.open_vault(conn, PASSPHRASE)


def test_there_is_one_vault(store: FleetStore, opened: Vault) -> None:
    with store.write() as conn, pytest.raises(VaultExistsError):
        vault.create(conn, PASSPHRASE, NOW, "alice")


def test_without_a_vault_it_is_said(store: FleetStore) -> None:
    with store.read() as conn, pytest.raises(VaultMissingError):
        vault.open_vault(conn, PASSPHRASE)


def test_a_key_that_was_put_into_another_row_is_noticed(store: FleetStore, opened: Vault) -> None:
    one, two = add(store, opened, make(), make())
    with store.write() as conn:
        sealed = conn.execute(select(KEYS.c.sealed).where(KEYS.c.id == two.id)).scalar_one()
        conn.execute(update(KEYS).where(KEYS.c.id == one.id).values(sealed=sealed))
    with store.read() as conn, pytest.raises(VaultDamagedError):
        keys.open_key(conn, opened, one)


@pytest.mark.parametrize("sealed", ["", "{}", '{"v":1,"n":3,"r":8,"p":1,"salt":"","sealed":""}', "[" * 50])
def test_a_damaged_vault_is_named(store: FleetStore, opened: Vault, sealed: str) -> None:
    with store.write() as conn:
        conn.execute(update(VAULT).values(sealed=sealed))
    with store.read() as conn, pytest.raises(VaultDamagedError):
        vault.open_vault(conn, PASSPHRASE)


def test_representations_and_rows_show_no_key(store: FleetStore, opened: Vault) -> None:
    key = make()
    (row,) = add(store, opened, key)
    with store.read() as conn:
        everything = [repr(conn.execute(select(table)).all()) for table in METADATA.sorted_tables]
    for text in (repr(opened), repr(row), str(row.to_json()), *everything):
        assert str(key) not in text


def test_a_file_of_keys_is_read_line_by_line_and_wrong_lines_are_named_without_their_text() -> None:
    good, other = make(), make(Channel.RETAIL)
    wrong = mistyped(make())
    lines = [f"{good},bought 2027", "", "# a comment", str(other).lower().replace("-", " "), wrong, "nonsense"]
    parsed = keys.parse_lines(lines, "keys.csv")
    assert parsed.keys == ((good, "bought 2027"), (other, ""))
    assert [problem.line for problem in parsed.problems] == [5, 6]
    assert wrong[:17] not in str([(str(p.error), p.error.fields) for p in parsed.problems])


def test_a_key_is_found_by_its_end_its_id_and_itself(store: FleetStore, opened: Vault) -> None:
    key = make()
    (row,) = add(store, opened, key)
    with store.read() as conn:
        for text in (key.partial, key.partial.lower(), key.key_id, str(key), str(key).replace("-", "")):
            assert keys.find(conn, text) == row
        with pytest.raises(KeyUnknownHereError) as raised:
            keys.find(conn, str(make()))
        assert len(str(raised.value.fields["key"])) == 5


def test_two_keys_with_one_end_are_named_by_their_ids(store: FleetStore, opened: Vault) -> None:
    add(store, opened, make(), make())
    with store.write() as conn:
        conn.execute(update(KEYS).values(partial="AAAAA"))
    with store.read() as conn, pytest.raises(KeyAmbiguousError):
        keys.find(conn, "AAAAA")


def test_a_key_that_is_there_is_not_added_twice(store: FleetStore, opened: Vault) -> None:
    key = make()
    add(store, opened, key)
    with store.write() as conn:
        added, known = keys.add(conn, opened, [(key, "the same")], NOW, "bob")
    assert not added
    assert known[0].description == "the same"


def test_the_recommended_key_is_of_the_group_has_something_left_and_is_a_mak(store: FleetStore, opened: Vault) -> None:
    small, large, retail, other, empty, blocked, host = add(
        store, opened, make(), make(), make(Channel.RETAIL), make(group=102), make(), make(), make(Channel.KMS_HOST)
    )
    with store.write() as conn:
        for row, values in (
            (small, {"remaining": 3}),
            (large, {"remaining": 30}),
            (retail, {"remaining": 90}),
            (other, {"remaining": 90}),
            (empty, {"remaining": 0}),
            (blocked, {"remaining": 90, "blocked_at": NOW}),
            (host, {"remaining": 90}),
        ):
            conn.execute(update(KEYS).where(KEYS.c.id == row.id).values(**values))
    with store.read() as conn:
        rows = keys.listed(conn)
    assert keys.recommended(rows, ROOT, 101) == next(row for row in rows if row.id == large.id)
    assert keys.recommended(rows, ROOT, 103) is None
    assert keys.recommended(rows, "sha256:" + "cd2" + "0" * 61, 101) is None
    best = keys.recommended(rows, ROOT, 101, Channel.RETAIL)
    assert best is not None
    assert best.id == retail.id


def test_what_leaves_in_a_bundle_needs_the_bundles_passphrase() -> None:
    sealed = vault.Carrier(b"one").encrypt(b"secret")
    assert vault.Carrier(b"one").decrypt(sealed) == b"secret"
    with pytest.raises(VaultPassphraseError):
        vault.Carrier(b"two").decrypt(sealed)
