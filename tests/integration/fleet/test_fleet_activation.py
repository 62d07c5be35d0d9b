# SPDX-License-Identifier: Apache-2.0
"""Keys and activations of a fleet's machines: production client, production publisher, production jobs."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.clock import Clock
from support.fleet_folders import EDITION, Lab, Online, issue, used
from support.site import RealPublisher
from volact.core.errors import VolactError
from volact.core.product_key import ProductKey
from volact.fleet.activation import confirmations
from volact.fleet.activation.acting import Activate, InstallKeys
from volact.fleet.activation.backups import Keep, NoBackupError, Restore
from volact.fleet.activation.proxy import Apply, Collect
from volact.fleet.jobs.acts import Act
from volact.fleet.jobs.records import Job, TaskState
from volact.fleet.keys import keys
from volact.fleet.keys.keys import KeyRow
from volact.fleet.keys.publisher import definition_of
from volact.fleet.reach.errors import ConnectionLostError

START = 1_800_000_000
DAY = 86400


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock(START)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> RealPublisher:
    return RealPublisher.make(tmp_path_factory.mktemp("site") / "acme", clock=clock)


@pytest.fixture
def lab(tmp_path: Path, clock: Clock, site: RealPublisher, databases: Callable[[], str | None]) -> Iterator[Lab]:
    made = Lab.make(tmp_path / "lab", clock, site, databases())
    yield made
    made.close()


def run(lab: Lab, act: type[Any], names: list[str] | None = None, **arguments: Any) -> Job:
    made: Act = act(lab.context)
    job = asyncio.run(lab.job(made, names, **arguments))
    print([(task.machine, task.error, task.error_text, task.result) for task in lab.tasks(job)])
    return job


def add_key(lab: Lab, text: str) -> KeyRow:
    assert lab.opened is not None
    with lab.store.write() as conn:
        return keys.add(conn, lab.opened, [(ProductKey.parse(text), "")], lab.clock(), "tester")[0][0]


def errors(lab: Lab, job: Job) -> dict[str, str | None]:
    return {task.machine: task.error for task in lab.tasks(job)}


def test_the_recommended_key_of_the_vault_is_installed_and_no_list_shows_it(lab: Lab, site: RealPublisher) -> None:
    mak = issue(site)
    add_key(lab, mak)
    lab.add("ws1", 1)
    job = run(lab, InstallKeys, product="acme-cad", prefer="mak", edition=EDITION)
    assert job.well
    (row,) = lab.reach.computers["ws1"].good("status", "--json").json["products"]
    assert (row["channel"], row["partial_key"]) == ("mak", mak[-5:])
    assert mak not in str(lab.reach.said)
    with lab.store.read() as conn:
        everything = str([task.to_json() for task in lab.tasks(job)]) + str(lab.store.audit()) + str(job.to_json())
        assert keys.find(conn, mak[-5:]).key_id in {row.key_id for row in keys.listed(conn)}
    assert mak not in everything
    assert mak[:17] not in everything


def test_a_machine_without_the_product_gets_its_definition_and_the_generic_key(lab: Lab) -> None:
    computer = lab.add("ws1", 1, product=False)
    assert errors(lab, run(lab, InstallKeys, product="acme-cad")) == {"ws1": "fleet-product-not-there"}
    assert run(lab, InstallKeys, product="acme-cad", add=True, edition=EDITION).well
    (row,) = computer.good("status", "--json").json["products"]
    assert (row["channel"], row["edition"]) == ("volume", EDITION)


def test_installing_the_same_key_again_is_skipped(lab: Lab, site: RealPublisher) -> None:
    row = add_key(lab, issue(site))
    lab.add("ws1", 1)
    assert run(lab, InstallKeys, key_id=row.key_id, edition=EDITION).counts == {"done": 1}
    assert run(lab, InstallKeys, key_id=row.key_id).counts == {"skipped": 1}


def test_a_key_of_another_group_fails_on_its_machine_and_the_others_go_on(lab: Lab, site: RealPublisher) -> None:
    row = add_key(lab, issue(site))
    one, two = lab.add("ws1", 1), lab.add("ws2", 2)
    two.good("install-key", "acme-cad", "--generic", "--edition", "render-server")
    job = run(lab, InstallKeys, key_id=row.key_id, edition=EDITION)
    assert errors(lab, job) == {"ws1": None, "ws2": "fleet-key-unfit"}
    assert one.good("status", "--json").json["products"][0]["channel"] == "mak"


def test_a_dry_run_says_what_it_would_do_and_changes_nothing(lab: Lab, site: RealPublisher) -> None:
    add_key(lab, issue(site))
    computer = lab.add("ws1", 1)
    job = run(lab, InstallKeys, dry_run=True, prefer="mak")
    assert [task.result for task in lab.tasks(job)] == [
        {"products": [{"product": "acme-cad", "would_install": lab_key(lab).partial}]}
    ]
    assert computer.state == "unlicensed"


def lab_key(lab: Lab) -> KeyRow:
    with lab.store.read() as conn:
        return keys.listed(conn)[0]


@pytest.fixture
def ready(lab: Lab, site: RealPublisher) -> str:
    """Three machines with a MAK."""
    mak = issue(site)
    row = add_key(lab, mak)
    for number in (1, 2, 3):
        lab.add(f"ws{number}", number)
    assert run(lab, InstallKeys, key_id=row.key_id, edition=EDITION).well
    return mak


def test_machines_that_reach_no_publisher_are_activated_by_proxy(lab: Lab, ready: str, site: RealPublisher) -> None:
    job = run(lab, Activate, mak="proxy")
    assert job.well
    assert {computer.state for computer in lab.reach.computers.values()} == {"licensed"}
    assert used(site, ready) == 3
    with lab.store.read() as conn:
        kept = confirmations.listed(conn)
    assert {(one.machine, one.state) for one in kept} == {("ws1", "applied"), ("ws2", "applied"), ("ws3", "applied")}
    assert run(lab, Activate, mak="proxy").counts == {"skipped": 3}
    assert used(site, ready) == 3


def test_a_refusal_is_read_by_the_machine_and_shown_in_its_row_and_asked_again_later(
    lab: Lab, site: RealPublisher
) -> None:
    mak = issue(site, activations=1)
    row = add_key(lab, mak)
    lab.add("ws1", 1)
    lab.add("ws2", 2)
    run(lab, InstallKeys, key_id=row.key_id, edition=EDITION)
    job = run(lab, Activate, mak="proxy")
    assert sorted(map(str, errors(lab, job).values())) == ["None", "activations-exhausted"]
    site.run("key", "raise", mak, "--activations", 2)
    assert run(lab, Activate, mak="proxy").counts == {"done": 1, "skipped": 1}
    assert used(site, mak) == 2


def test_a_tool_that_dies_anywhere_uses_nothing_twice_and_loses_nothing(
    lab: Lab, ready: str, site: RealPublisher
) -> None:
    """The connection breaks before each command in turn, as it does when the tool is killed there."""
    for number in range(1, 12):
        calls = 0

        def breaks(computer: Any, _words: Any, number: int = number) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                raise ConnectionLostError(machine=computer.name, why="the test ended it")

        lab.reach.before = breaks
        run(lab, Activate, mak="proxy")
        lab.reach.before = lambda _computer, _words: None
    assert run(lab, Activate, mak="proxy").well
    assert {computer.state for computer in lab.reach.computers.values()} == {"licensed"}
    assert used(site, ready) == 3


def test_an_answer_that_was_lost_between_publisher_and_database_costs_nothing(
    lab: Lab, ready: str, site: RealPublisher
) -> None:
    class Losing:
        def get_issuer(self, *words: Any) -> str:
            return site.get_issuer(*words)

        def activate(self, issuer: str, sealed: bytes) -> bytes:
            site.activate(issuer, sealed)
            raise ConnectionLostError(machine="the publisher", why="the answer was lost")

    context = lab.context
    context.service = lambda _known, _url: Losing()
    job = asyncio.run(lab.job(Activate(context), None, mak="proxy"))
    assert job.counts == {"failed": 3}
    assert used(site, ready) == 3
    assert run(lab, Activate, mak="proxy").well
    assert used(site, ready) == 3


def test_machines_of_every_kind_are_activated_in_one_job_each_by_its_own_way(
    lab: Lab, ready: str, site: RealPublisher
) -> None:
    retail = add_key(lab, issue(site, kind="retail", activations=1))
    lab.add("shop", 20)
    run(lab, InstallKeys, ["shop"], key_id=retail.key_id, edition=EDITION)
    volume, empty = lab.add("office", 21), lab.add("empty", 22)
    volume.good("install-key", "acme-cad", "--generic", "--edition", EDITION)
    volume.good("set-host", "127.0.0.1:9")
    job = run(lab, Activate, mak="proxy")
    by_way = {t.machine: (t.result or {}).get("products", [{}])[0].get("way") for t in lab.tasks(job)}
    assert by_way == {**dict.fromkeys(["ws1", "ws2", "ws3", "shop"], "proxy"), "office": "volume", "empty": "none"}
    assert errors(lab, job)["office"] == "host-unreachable"
    assert errors(lab, job)["shop"] is None
    assert empty.state == "unlicensed"


def test_a_machine_is_told_which_hosts_to_ask(lab: Lab) -> None:
    computer = lab.add("ws1", 1)
    computer.good("install-key", "acme-cad", "--generic", "--edition", EDITION)
    computer.good("set-host", "old.example.test")
    run(lab, Activate, kms="host", kms_name="127.0.0.1:9")
    assert computer.good("info", "acme-cad", "--json").json["configured_host"] == "127.0.0.1:9"
    run(lab, Activate, kms="domain", kms_name="example.test")
    shown = computer.good("info", "acme-cad", "--json").json
    assert (shown["configured_host"], shown["configured_domain"]) == (None, "example.test")
    assert ("ws1", "volact client set-host --domain example.test --json") in lab.reach.said


def test_a_reimaged_machine_is_licensed_again_from_its_backup_without_the_publisher(
    lab: Lab, ready: str, site: RealPublisher, tmp_path: Path
) -> None:
    assert run(lab, Activate, mak="proxy", keep=True).well
    computer = lab.reach.computers["ws1"]
    computer.reimage(tmp_path / "reimaged")
    lab.publisher = None  # nobody can be asked
    assert run(lab, Restore, ["ws1"]).well
    assert computer.state == "licensed"
    assert used(site, ready) == 3


def test_activate_itself_puts_a_backup_back_before_it_asks_for_anything(
    lab: Lab, ready: str, site: RealPublisher, tmp_path: Path
) -> None:
    run(lab, Activate, mak="proxy")
    assert run(lab, Keep).well
    computer = lab.reach.computers["ws2"]
    computer.reimage(tmp_path / "reimaged")
    lab.publisher = None
    job = run(lab, Activate, ["ws2"], mak="proxy")
    assert job.well
    assert [one["way"] for one in (lab.tasks(job)[0].result or {})["products"]] == ["restore", "none"]
    assert used(site, ready) == 3


def test_on_other_hardware_a_backup_is_refused_and_the_machine_activated_as_a_new_one(
    lab: Lab, ready: str, site: RealPublisher, tmp_path: Path
) -> None:
    run(lab, Activate, mak="proxy", keep=True)
    computer = lab.reach.computers["ws3"]
    computer.reimage(tmp_path / "other")
    computer.number = 99
    assert errors(lab, run(lab, Restore, ["ws3"])) == {"ws3": "restore-other-hardware"}
    assert computer.state == "unlicensed"
    run(lab, InstallKeys, ["ws3"], key_id=lab_key(lab).key_id, edition=EDITION)
    assert run(lab, Activate, ["ws3"], mak="proxy").well
    assert used(site, ready) == 4


def test_a_machine_without_a_backup_or_an_answer_says_so(lab: Lab, ready: str) -> None:
    assert errors(lab, run(lab, Restore, ["ws1"])) == {"ws1": "fleet-no-backup"}
    assert errors(lab, run(lab, Apply, ["ws1"])) == {"ws1": "fleet-no-answer"}


def test_collecting_twice_gives_one_request_a_machine(lab: Lab, ready: str) -> None:
    assert run(lab, Collect).well
    assert run(lab, Collect).well
    with lab.store.read() as conn:
        assert len(confirmations.waiting(conn, lab.clock())) == 3


def test_what_is_left_of_a_key_is_asked_of_the_publisher(lab: Lab, ready: str, site: RealPublisher) -> None:
    run(lab, Activate, ["ws1"], mak="proxy")
    assert lab.opened is not None
    with lab.store.read() as conn:
        rows = keys.listed(conn)
        assert definition_of(conn, ProductKey.parse(ready)).product == "acme-cad"
    (asked,) = keys.refresh(lab.store, lab.opened, rows, lab.clock, "tester", service=lambda _known, _url: Online(site))
    assert (asked.key.remaining, asked.key.activations) == (9, 10)
    site.run("key", "block", ready)
    (asked,) = keys.refresh(lab.store, lab.opened, rows, lab.clock, "tester", service=lambda _known, _url: Online(site))
    assert asked.key.blocked_at is not None
    with lab.store.read() as conn:
        assert keys.recommended(keys.listed(conn), site.root, 101) is None


def test_every_act_says_what_it_would_do(lab: Lab, ready: str) -> None:
    run(lab, Activate, ["ws1"], mak="proxy", keep=True)
    run(lab, Collect, ["ws2"])
    for act in (InstallKeys, Activate, Collect, Apply, Keep, Restore):
        job = run(lab, act, ["ws1"], dry_run=True, mak="proxy", key_id=lab_key(lab).key_id)
        assert job.counts in ({"skipped": 1}, {"failed": 1}), act
    assert errors(lab, run(lab, Apply, ["ws1"], dry_run=True)) in ({"ws1": None}, {"ws1": "fleet-no-answer"})


def test_a_job_of_a_wrong_kind_of_option_is_named(lab: Lab, ready: str) -> None:
    options: tuple[dict[str, Any], ...] = ({"mak": "guess"}, {"kms": "somewhere"}, {"kms_name": "x"})
    for wrong in options:
        assert set(errors(lab, run(lab, Activate, **wrong)).values()) == {"fleet-activate-option"}
    assert set(errors(lab, run(lab, Activate, kms="host")).values()) == {"fleet-kms-unfit"}
    assert issubclass(NoBackupError, VolactError)
    assert str(TaskState.DONE) == "done"
