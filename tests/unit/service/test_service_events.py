# SPDX-License-Identifier: Apache-2.0
"""Events: documented, kept within bounds, in the journal's own protocol, and never in anybody's way."""

import socket
from pathlib import Path

from volact.client.service.events import MOST_BYTES, Event, Log, table

ROOT = Path(__file__).resolve().parents[3]


def test_the_reference_holds_the_table_of_the_code() -> None:
    assert table() in (ROOT / "docs" / "reference" / "events.md").read_text()


def test_no_two_events_share_a_number() -> None:
    assert len({event.number for event in Event}) == len(list(Event))
    assert all(len(event.message_id) == 32 for event in Event)


def test_what_is_written_is_read_in_order(tmp_path: Path) -> None:
    log = Log(tmp_path, lambda: 7, journal=None)
    log.write(Event.SERVICE_STARTED, products=2)
    log.write(Event.STATE_CHANGED, product="acme-cad", before="licensed", state="notification")
    rows = list(log.read())
    assert [row["id"] for row in rows] == [4001, 4020]
    assert rows[1]["message"] == "acme-cad was licensed and is notification"
    assert rows[1]["at"] == 7


def test_the_file_stays_small_and_keeps_the_newest(tmp_path: Path) -> None:
    log = Log(tmp_path, journal=None)
    for number in range(4000):
        log.write(Event.SERVICE_STARTED, products=number)
    assert log.path.stat().st_size <= MOST_BYTES + 1000
    rows = list(log.read())
    assert rows[-1]["products"] == 3999
    assert len(rows) > 500


def test_lines_that_were_cut_off_are_left_out(tmp_path: Path) -> None:
    log = Log(tmp_path, journal=None)
    log.write(Event.SERVICE_STOPPED)
    with log.path.open("ab") as file:
        file.write(b'{"at": 1, "mess\n[]\n\xff\n')
    log.write(Event.SERVICE_STOPPED)
    assert len(list(log.read())) == 2


def test_no_folder_and_no_journal_keep_nobody_from_working(tmp_path: Path) -> None:
    log = Log(tmp_path / "not there", journal=str(tmp_path / "no socket"))
    assert log.write(Event.SERVICE_STOPPED)["id"] == 4002
    assert list(log.read()) == []


def test_the_journal_gets_fields_in_its_native_protocol(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        Log(tmp_path, journal=path).write(
            Event.ACTIVATION_FAILED, product="acme-cad", code="host-unreachable", message="two\nlines"
        )
        data = journal.recv(65536)
    assert b"VOLACT_EVENT=activation-failed\n" in data
    assert b"VOLACT_PRODUCT=acme-cad\n" in data
    assert b"PRIORITY=4\n" in data
    message = b"no issuer answered for acme-cad: host-unreachable: two\nlines"
    assert b"MESSAGE\n" + len(message).to_bytes(8, "little") + message + b"\n" in data
