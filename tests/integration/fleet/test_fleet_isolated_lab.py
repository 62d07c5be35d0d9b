# SPDX-License-Identifier: Apache-2.0
"""An isolated lab: three databases that no network joins, files between them, and a publisher that only one reaches."""

import asyncio
import base64
import binascii
import contextlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from support.clock import Clock
from support.fleet_folders import EDITION, PASSPHRASE, Lab, Online, issue, used
from support.site import RealPublisher
from volact.core.errors import MalformedError
from volact.core.product_key import ProductKey
from volact.fleet.activation import confirmations
from volact.fleet.activation.acting import Activate, InstallKeys
from volact.fleet.activation.backups import Keep, Restore
from volact.fleet.activation.proxy import Apply, Collect
from volact.fleet.exchange import bundle, transfer
from volact.fleet.exchange.bundle import Bundle, BundleKindError, Kind
from volact.fleet.exchange.transfer import BundlePassphraseNeededError, NothingToExportError, SignerUnknownError
from volact.fleet.inventory import machines
from volact.fleet.jobs.records import Job
from volact.fleet.keys import keys, publisher, vault
from volact.fleet.keys.vault import VaultPassphraseError
from volact.fleet.schema import HISTORY, MACHINES, METADATA, PRODUCTS
from volact.fleet.store import FleetStore
from volact.sealing.keys import LocalKey

START = 1_800_000_000
DAY = 86400
NAMES = ("accounting-01", "reception-02", "mueller-laptop-03")
OWN = LocalKey.generate()
OTHER = LocalKey.generate()


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(START)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> RealPublisher:
    return RealPublisher.make(tmp_path_factory.mktemp("site") / "acme", clock=clock)


@pytest.fixture
def mak(site: RealPublisher) -> str:
    return issue(site)


@pytest.fixture
def lab(
    tmp_path: Path, clock: Clock, site: RealPublisher, mak: str, databases: Callable[[], str | None]
) -> Iterator[Lab]:
    """Machines with a MAK, behind no network: its own publisher is never asked."""
    clock.now = START
    made = Lab.make(tmp_path / "lab", clock, site, databases())
    assert made.opened is not None
    with made.store.write() as conn:
        (row,) = keys.add(conn, made.opened, [(ProductKey.parse(mak), "the lab's")], clock(), "m.mueller")[0]
    for number, name in enumerate(NAMES, 1):
        made.add(name, number)
        with made.store.write() as conn:
            machines.tag(conn, [number], ["site:munich"], clock(), "m.mueller")
    assert run(made, InstallKeys, key_id=row.key_id, edition=EDITION).well
    made.publisher = None
    yield made
    made.close()


def run(lab: Lab, act: type[Any], names: list[str] | None = None, **arguments: Any) -> Job:
    return asyncio.run(lab.job(act(lab.context), names, **arguments))


def export(lab: Lab) -> bytes:
    return transfer.export_requests(lab.store, OWN, lab.clock(), "m.mueller", os.urandom).data


def confirm(data: bytes, site: RealPublisher, clock: Clock) -> bytes:
    """On a computer that reaches the publisher and has no database."""
    service = Online(site)
    return transfer.confirm(bundle.parse(data), lambda _row: service, OTHER, clock(), os.urandom).data


def take(store: FleetStore, data: bytes, clock: Clock, **how: Any) -> transfer.Imported:
    return transfer.import_bundle(store, bundle.parse(data), clock(), "m.mueller", bundle.fingerprint(OWN), **how)


def test_a_lab_without_a_network_is_activated_by_two_files(
    lab: Lab, site: RealPublisher, clock: Clock, mak: str
) -> None:
    assert run(lab, Collect).well
    requests = export(lab)
    clock.now += 7 * DAY
    answers = confirm(requests, site, clock)
    clock.now += 7 * DAY
    made = take(lab.store, answers, clock)
    assert (made.added, made.unknown, made.conflict_count) == ({"answers": 3}, 0, 0)
    assert run(lab, Apply).well
    assert {computer.state for computer in lab.reach.computers.values()} == {"licensed"}
    assert used(site, mak) == 3


def test_the_file_holds_no_name_address_user_or_key_in_any_form(lab: Lab, mak: str, site: RealPublisher) -> None:
    assert run(lab, Activate, mak="proxy").counts == {"failed": 3}  # nobody to ask: the rows are there all the same
    data = export(lab)
    secret = [
        *NAMES, *(name.split("-")[0] for name in NAMES), *(f"192.0.2.{n}" for n in (1, 2, 3)), "machine-001",
        "machine-002", "machine-003", "m.mueller", "tester", "munich", "the lab's", "Contoso", mak,
        mak.replace("-", ""), ProductKey.parse(mak).key_id, str(lab.folder), "root",
    ]  # fmt: skip
    with lab.store.read() as conn:
        secret += [row.hex() for row in conn.execute(select(MACHINES.c.machine_id)).scalars() if row]
        for one in confirmations.listed(conn):
            secret += [one.machine_id.hex() if one.machine_id else "", *json.loads(one.traits or "{}").values()]
        secret += [text for text in conn.execute(select(PRODUCTS.c.organisation)).scalars() if text]
    forms = _decoded(data)
    assert not any(mak[-5:].encode() in form for form in forms)
    for text in filter(None, secret):
        if text == "root":  # the publisher's root is a member's name; whose account it is must not be a value
            continue
        for form in forms:
            assert text.lower().encode() not in form.lower(), text
    rows = bundle.parse(data).rows
    assert {name for row in rows for name in row.to_claim()} == {"t", "ref", "root", "product", "issuer", "sealed"}
    assert len({row.to_claim()["ref"] for row in rows}) == len(rows) == 3


def _decoded(data: bytes) -> list[bytes]:
    """The file, what it unpacks to, and everything in either that decodes as base64 or hexadecimal."""
    body = data.split(b"\n", 2)[2]
    forms = [data, zlib.decompress(body)]
    for form in list(forms):
        for token in re.findall(rb"[A-Za-z0-9_-]{16,}", form):
            with contextlib.suppress(binascii.Error):  # a name may have a base64 text's letters, and not its length
                forms.append(base64.urlsafe_b64decode(token + b"=" * (-len(token) % 4)))
            if re.fullmatch(rb"(?:[0-9a-f]{2})+", token):
                forms.append(bytes.fromhex(token.decode()))
    return forms


def test_confirming_twice_or_losing_the_answers_uses_nothing_up(
    lab: Lab, site: RealPublisher, clock: Clock, mak: str
) -> None:
    run(lab, Collect)
    requests = export(lab)
    confirm(requests, site, clock)  # lost on its way
    answers = confirm(requests, site, clock)
    take(lab.store, answers, clock)
    run(lab, Apply)
    assert used(site, mak) == 3


def test_an_answer_that_came_twice_is_a_conflict_that_the_file_wins(
    lab: Lab, site: RealPublisher, clock: Clock, mak: str
) -> None:
    run(lab, Collect)
    requests = export(lab)
    first, second = confirm(requests, site, clock), confirm(requests, site, clock)
    take(lab.store, first, clock)
    assert take(lab.store, first, clock).conflict_count == 0  # the same again changes nothing
    made = take(lab.store, second, clock)
    assert made.changed == {"answers": 3}
    assert {one.row for one in made.conflicts} == {f"{name}/acme-cad" for name in NAMES}
    assert run(lab, Apply).well


def test_answers_of_another_lab_are_not_taken(lab: Lab, site: RealPublisher, clock: Clock, tmp_path: Path) -> None:
    run(lab, Collect)
    answers = confirm(export(lab), site, clock)
    with FleetStore.open(tmp_path / "another.sqlite") as another:
        made = take(another, answers, clock)
    assert (made.unknown, made.added) == (3, {})


def test_one_request_that_the_publisher_does_not_answer_does_not_keep_the_others(
    lab: Lab, site: RealPublisher, clock: Clock
) -> None:
    run(lab, Collect)
    service = Online(site)
    refused: list[bytes] = []

    class Choosy:
        def get_issuer(self, *words: Any) -> str:
            return service.get_issuer(*words)

        def activate(self, issuer: str, sealed: bytes) -> bytes:
            if not refused:
                refused.append(sealed)
                raise publisher.NoServiceError(product="acme-cad")
            return service.activate(issuer, sealed)

    made = transfer.confirm(bundle.parse(export(lab)), lambda _row: Choosy(), OTHER, clock(), os.urandom)
    assert (made.answered, made.problems) == (2, {"fleet-no-publisher": 1})
    taken = take(lab.store, made.data, clock)
    assert taken.problems == {"fleet-no-publisher": 1}
    assert run(lab, Apply).counts == {"done": 2, "failed": 1}
    assert len(bundle.parse(export(lab)).rows) == 1  # it waits on, and leaves with the next file


def test_there_must_be_something_to_export(lab: Lab) -> None:
    with pytest.raises(NothingToExportError):
        export(lab)


def test_the_whole_inventory_goes_to_a_third_database_and_the_file_wins(
    lab: Lab, site: RealPublisher, clock: Clock, tmp_path: Path
) -> None:
    run(lab, Collect)
    head = FleetStore.open(tmp_path / "head-office.sqlite")
    data = transfer.export_inventory(lab.store, OWN, clock(), "m.mueller", os.urandom).data
    with pytest.raises(SignerUnknownError):
        _take_at_head_office(head, data, clock)
    assert _rows(head) == {}
    made = _take_at_head_office(head, data, clock, signer=bundle.fingerprint(OWN))
    assert made.added["machines"] == 3
    assert made.added["products"] == 3
    with head.write() as conn:
        conn.execute(update(MACHINES).where(MACHINES.c.name == NAMES[0]).values(os="written over here"))
    with lab.store.write() as conn:
        conn.execute(update(MACHINES).where(MACHINES.c.name == NAMES[0]).values(os="Debian"))
    data = transfer.export_inventory(lab.store, OWN, clock(), "m.mueller", os.urandom).data
    tried = _take_at_head_office(head, data, clock, dry_run=True)
    again = _take_at_head_office(head, data, clock)
    assert tried.conflicts == again.conflicts
    assert [(one.table, one.row, one.column, one.was, one.became) for one in again.conflicts] == [
        ("machines", NAMES[0], "os", "written over here", "Debian")
    ]
    for table in (MACHINES, PRODUCTS, HISTORY):
        assert _count(head, table) == _count(lab.store, table)
    assert _take_at_head_office(head, data, clock).changed == {}
    head.close()


def test_an_inventory_without_keys_holds_none_and_one_with_keys_needs_its_passphrase(
    lab: Lab, site: RealPublisher, clock: Clock, tmp_path: Path, mak: str
) -> None:
    without = transfer.export_inventory(lab.store, OWN, clock(), "m.mueller", os.urandom)
    full = transfer.export_inventory(lab.store, OWN, clock(), "m.mueller", os.urandom, lab.opened, b"on paper")
    for data in (without.data, full.data):
        for form in _decoded(data):
            assert mak.encode() not in form
    assert without.kind is Kind.INVENTORY
    with FleetStore.open(tmp_path / "head-office.sqlite") as head:
        with head.write() as conn:
            opened = vault.create(conn, b"another passphrase", clock(), "head")
        signer = bundle.fingerprint(OWN)
        with pytest.raises(BundlePassphraseNeededError):
            _take_at_head_office(head, full.data, clock, signer=signer, opened=opened)
        with pytest.raises(VaultPassphraseError):
            _take_at_head_office(head, full.data, clock, signer=signer, opened=opened, passphrase=b"guessed")
        assert _count(head, MACHINES) == 0
        made = _take_at_head_office(head, full.data, clock, signer=signer, opened=opened, passphrase=b"on paper")
        assert made.added["keys"] == 1
        with head.read() as conn:
            (row,) = keys.listed(conn)
            assert str(keys.open_key(conn, opened, row)) == mak


def test_backups_come_along_with_the_keys_and_bring_a_machine_back_there(
    lab: Lab, site: RealPublisher, clock: Clock, tmp_path: Path, mak: str
) -> None:
    run(lab, Collect)
    take(lab.store, confirm(export(lab), site, clock), clock)
    run(lab, Apply)
    assert run(lab, Keep).well
    full = transfer.export_inventory(lab.store, OWN, clock(), "m.mueller", os.urandom, lab.opened, b"on paper").data
    moved = Lab.make(tmp_path / "moved", clock)
    how: dict[str, Any] = {"opened": moved.opened, "passphrase": b"on paper", "signer": bundle.fingerprint(OWN)}
    made = transfer.import_bundle(moved.store, bundle.parse(full), clock(), "x", bundle.fingerprint(OTHER), **how)
    assert made.added["backups"] == 3
    moved.reach.computers = lab.reach.computers
    computer = lab.reach.computers[NAMES[1]]
    computer.reimage(tmp_path / "reimaged")
    assert run(moved, Restore, [NAMES[1]]).well
    assert computer.state == "licensed"
    assert used(site, mak) == 3
    moved.close()


def test_a_bundle_goes_only_where_its_kind_belongs(lab: Lab, site: RealPublisher, clock: Clock) -> None:
    run(lab, Collect)
    requests = export(lab)
    with pytest.raises(BundleKindError):
        take(lab.store, requests, clock)
    with pytest.raises(BundleKindError):
        confirm(confirm(requests, site, clock), site, clock)


def test_what_is_carried_is_read_once_and_is_whole_or_nothing(lab: Lab, clock: Clock) -> None:
    """A row in the middle that does not fit takes the whole import back."""
    run(lab, Collect)
    good = bundle.parse(transfer.export_inventory(lab.store, OWN, clock(), "m.mueller", os.urandom).data)
    broken = tuple(
        bundle.TableRow(row.table, {**row.values, "token": "a.b.c"})
        if isinstance(row, bundle.TableRow) and row.table == "definitions"
        else row
        for row in good.rows
    )
    with lab.store.write() as conn:
        conn.execute(update(MACHINES).values(os="as it is"))
    from volact.core.errors import VolactError

    with pytest.raises(VolactError):
        transfer.import_bundle(lab.store, Bundle(good.manifest, broken), clock(), "x", bundle.fingerprint(OWN))
    with lab.store.read() as conn:
        assert set(conn.execute(select(MACHINES.c.os)).scalars()) == {"as it is"}
    assert PASSPHRASE


def _changed(good: Bundle, table: str, **values: Any) -> Bundle:
    """With one row more, which says ``values`` of what the first one of ``table`` is about."""
    first = next(row for row in good.rows if isinstance(row, bundle.TableRow) and row.table == table)
    return Bundle(good.manifest, (*good.rows, bundle.TableRow(table, {**first.values, **values})))


def test_rows_that_no_database_takes_and_names_that_no_machine_has_are_malformed(lab: Lab, clock: Clock) -> None:
    run(lab, Collect)
    good = bundle.parse(transfer.export_inventory(lab.store, OWN, clock(), "m.mueller", os.urandom).data)
    new = "a-new-one.example.com"
    for bad in (
        _changed(_changed(good, "machines", name=new), "machines", name=new.upper()),
        *(
            _changed(good, "machines", name=name)
            for name in ("-oProxyCommand=x", "a b", "$(reboot)", "a;b", "a\nb", "")
        ),
        *(_changed(good, "machines", name=new, address=address) for address in ("-x", "`id`", "a\0b")),
        *(_changed(good, "machines", name=new, port=port) for port in (-1, 65536)),
    ):
        before = _rows(lab.store)
        with pytest.raises(MalformedError):
            transfer.import_bundle(lab.store, bad, clock(), "x", bundle.fingerprint(OWN))
        assert _rows(lab.store) == before
    made = transfer.import_bundle(
        lab.store, _changed(good, "machines", name=new.upper()), clock(), "x", bundle.fingerprint(OWN)
    )
    assert made.added["machines"] == 1


def _take_at_head_office(store: FleetStore, data: bytes, clock: Clock, **how: Any) -> transfer.Imported:
    return transfer.import_bundle(store, bundle.parse(data), clock(), "head", bundle.fingerprint(OTHER), **how)


def _count(store: FleetStore, table: Any) -> int:
    with store.read() as conn:
        return int(conn.execute(select(func.count()).select_from(table)).scalar_one())


def _rows(store: FleetStore) -> dict[str, int]:
    counts = {table.name: _count(store, table) for table in METADATA.sorted_tables}
    return {name: number for name, number in counts.items() if number}
