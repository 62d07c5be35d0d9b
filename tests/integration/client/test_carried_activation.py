# SPDX-License-Identifier: Apache-2.0
"""Activation by a request that somebody carries, and the backup that brings it back: the production client against the
production publisher."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.clock import Clock
from support.processes import good, volact
from support.site import RealPublisher
from volact.core.exchange import AnswerFile, RequestFile
from volact.sealing.recipient import RecipientKey

DAY = 86400
START = 1_800_000_000


class Computer:
    """A client's folder on the hardware of simulated machine ``number``, which reaches nobody."""

    def __init__(self, folder: Path, number: int, publisher: RealPublisher, clock: Clock) -> None:
        self.folder, self.number, self.publisher, self.clock = folder, number, publisher, clock
        self.good("add-product", publisher.file, "--root", publisher.root)

    def good(self, *words: object, **how: Any) -> Any:
        return good("client", *words, "--dir", self.folder, machine=self.number, clock=self.clock, **how)

    def run(self, *words: object, **how: Any) -> Any:
        return volact("client", *words, "--dir", self.folder, machine=self.number, clock=self.clock, **how)

    def install(self, key: str) -> None:
        self.good("install-key", "acme-cad", "-", "--edition", "professional", stdin=f"{key}\n")

    def request(self, *words: object) -> RequestFile:
        made = self.good("request", "acme-cad", "--json", *words).json
        return RequestFile.from_bytes(made["request"].encode())

    def answered(self, request: RequestFile) -> bytes:
        return AnswerFile(request.issuer, self.publisher.activate(request.issuer, request.sealed)).to_bytes()

    def activate(self) -> Any:
        return self.good("apply", "acme-cad", "--answer", "-", "--json", stdin=self.answered(self.request()).decode())

    @property
    def state(self) -> str:
        return str(self.good("status", "--json").json["products"][0]["state"])


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(START)


@pytest.fixture(scope="module")
def publisher(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> RealPublisher:
    return RealPublisher.make(tmp_path_factory.mktemp("site") / "acme", clock=clock)


@pytest.fixture
def mak(publisher: RealPublisher) -> str:
    which = ("--organisation", "Contoso", "--kind", "mak", "--product", "acme-cad", "--group", "101")
    return str(publisher.run("key", "issue", *which, "--activations", "5").json["key"])


@pytest.fixture
def computer(tmp_path: Path, publisher: RealPublisher, clock: Clock, mak: str) -> Computer:
    clock.now = START
    made = Computer(tmp_path / "client", 7, publisher, clock)
    made.install(mak)
    return made


def used(publisher: RealPublisher, key: str) -> int:
    return int(publisher.run("key", "show", key).json["used"])


def test_a_machine_is_activated_by_a_request_that_was_carried_for_days(
    computer: Computer, publisher: RealPublisher, mak: str, clock: Clock
) -> None:
    request = computer.request()
    clock.now += 20 * DAY
    answer = computer.answered(request)
    clock.now += 20 * DAY
    done = computer.good("apply", "acme-cad", "--answer", "-", "--json", stdin=answer.decode())
    assert done.json["state"] == "licensed"
    assert computer.state == "licensed"
    assert used(publisher, mak) == 1


def test_the_same_request_is_given_again_and_answered_again_for_nothing(
    computer: Computer, publisher: RealPublisher, mak: str
) -> None:
    first = computer.request()
    computer.answered(first)
    assert computer.request() == first
    computer.activate()
    computer.activate()
    assert used(publisher, mak) == 1


def test_another_key_makes_another_request(computer: Computer, publisher: RealPublisher, mak: str) -> None:
    first = computer.request()
    assert computer.request("--new") != first
    which = ("--organisation", "Contoso", "--kind", "retail", "--product", "acme-cad", "--group", "101")
    computer.install(str(publisher.run("key", "issue", *which).json["key"]))
    assert computer.activate().json["channel"] == "retail"


def test_an_answer_to_another_request_changes_nothing(computer: Computer) -> None:
    answer = computer.answered(computer.request())
    computer.request("--new")
    done = computer.run("apply", "acme-cad", "--answer", "-", "--json", stdin=answer.decode())
    assert done.code == 1
    assert done.json["error"]["code"] == "carried-answer-other"
    assert computer.state == "initial-grace"


def test_what_was_given_back_is_not_licensed_by_its_old_answer(computer: Computer, tmp_path: Path) -> None:
    answer = computer.answered(computer.request())
    computer.good("apply", "acme-cad", "--answer", "-", stdin=answer.decode())
    computer.good("deactivate", "acme-cad", "--file", tmp_path / "proof.volreturn")
    done = computer.run("apply", "acme-cad", "--answer", "-", "--json", stdin=answer.decode())
    assert done.json["error"]["code"] == "no-carried-request"


def test_a_volume_key_needs_no_request_to_the_publisher(computer: Computer) -> None:
    computer.good("install-key", "acme-cad", "--generic", "--edition", "professional")
    assert computer.run("request", "acme-cad", "--json").json["error"]["code"] == "carried-channel"


def test_a_reimaged_machine_is_licensed_again_from_its_backup_and_nobody_is_asked(
    computer: Computer, publisher: RealPublisher, mak: str, tmp_path: Path, clock: Clock
) -> None:
    computer.activate()
    vault = RecipientKey.generate()
    opened = _open(vault, computer.good("backup", "--to", vault.text, "--json").json)
    reimaged = Computer(tmp_path / "reimaged", 7, publisher, clock)
    assert reimaged.good("restore", "-", "--json", stdin=opened).json["products"][0]["state"] == "licensed"
    assert reimaged.state == "licensed"
    assert reimaged.good("restore", "-", stdin=opened).code == 0
    assert used(publisher, mak) == 1
    reimaged.activate()  # and to the publisher it is the same machine
    assert used(publisher, mak) == 1


def test_other_hardware_cannot_be_restored_to_and_is_left_as_it_was(
    computer: Computer, publisher: RealPublisher, tmp_path: Path, clock: Clock
) -> None:
    computer.activate()
    vault = RecipientKey.generate()
    opened = _open(vault, computer.good("backup", "--to", vault.text, "--json").json)
    other = Computer(tmp_path / "other", 8, publisher, clock)
    done = other.run("restore", "-", "--json", stdin=opened)
    assert done.json["error"]["code"] == "restore-other-hardware"
    assert other.state == "unlicensed"
    # whoever forces the folder itself on it gains nothing
    (row,) = good("client", "status", "--json", "--dir", computer.folder, machine=8, clock=clock).json["products"]
    assert row["state"] == "out-of-tolerance-grace"


def test_restoring_takes_no_activation_away_that_the_machine_has_by_itself(
    computer: Computer, publisher: RealPublisher, mak: str, tmp_path: Path, clock: Clock
) -> None:
    computer.activate()
    vault = RecipientKey.generate()
    opened = _open(vault, computer.good("backup", "--to", vault.text, "--json").json)
    again = Computer(tmp_path / "again", 7, publisher, clock)
    again.install(mak)
    again.activate()
    assert again.run("restore", "-", "--json", stdin=opened).json["error"]["code"] == "restore-machine-in-use"


def test_a_backup_needs_something_to_keep_and_a_vault(computer: Computer) -> None:
    vault = RecipientKey.generate()
    assert computer.run("backup", "--to", vault.text, "--json").json["error"]["code"] == "backup-empty"
    computer.activate()
    for wrong in ("x25519:", "x25519:AAAA", "nobody", "x25519:" + "A" * 43):
        assert computer.run("backup", "--to", wrong, "--json").json["error"]["code"] == "recipient-invalid"


def test_nothing_secret_is_in_what_leaves_the_machine(computer: Computer, mak: str) -> None:
    computer.activate()
    said = [computer.good("request", "acme-cad", "--json").out, computer.good("backup", "--to", _ANY, "--json").out]
    for text in said:
        assert mak not in text
        assert "PRIVATE KEY" not in text


_ANY = RecipientKey.generate().text


def _open(vault: RecipientKey, made: dict[str, Any]) -> str:
    from volact.client.deployment.backup import PURPOSE
    from volact.core.encoding import b64decode

    opened = vault.open(b64decode(made["sealed"]), PURPOSE).decode()
    assert json.loads(opened)["format"] == "volact-machine-backup"
    return opened
