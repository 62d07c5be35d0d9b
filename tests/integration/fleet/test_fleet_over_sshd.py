# SPDX-License-Identifier: Apache-2.0
"""Keys, KMS and proxy activation across a real sshd, with the production client, host and publisher as processes."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fleet import Far, Kind, far_side
from support.fleet_folders import EDITION, issue, used
from support.processes import ADDRESS, Done, Server, good, serving, volact
from support.site import RealPublisher
from volact.fleet.api import Fleet
from volact.fleet.inventory.machines import Found
from volact.fleet.jobs.records import JobState

pytestmark = pytest.mark.needs("sshd")

OFFICE = [f"office{number}" for number in range(1, 6)]  # as many as the server editions' threshold
PLANT = [f"plant{number}" for number in range(1, 5)]  # reach no publisher
KILLS = 6
PATIENCE = 60.0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> RealPublisher:
    return RealPublisher.make(tmp_path_factory.mktemp("site") / "acme")


@pytest.fixture
def online(site: RealPublisher, tmp_path: Path, pick_port: Callable[[], int]) -> Iterator[Server]:
    """The publisher's service as a process of its own."""
    port = pick_port()
    words = ["publisher", "serve", "--dir", site.folder / "publisher", "--passphrase-file", site.folder / "passphrase"]
    server = Server([*words, "--listen", ADDRESS, "--port", port], tmp_path / "publisher.log", port)
    try:
        yield server.wait_until("/readyz")
    finally:
        if server.process.poll() is None:
            server.kill()


class Office:
    """A fleet folder and its ``volact fleet``, beside the sshd that its machines are behind."""

    def __init__(self, path: Path, site: RealPublisher, far: Far, names: list[str]) -> None:
        self.path, self.site, self.machines = path, site, dict(zip(names, far.machines, strict=True))
        with Fleet.init(path) as fleet:
            fleet.folder.change(far.settings())
            places = [(name, one.address, one.port) for name, one in self.machines.items()]
            fleet.discover(found=[Found(name, "test", address, port) for name, address, port in places])
            fleet.definition_add(site.file.read_text().strip(), site.root)

    def run(self, *words: object, **how: Any) -> Done:
        return volact("fleet", *words, "--dir", self.path, "--json", **how)

    def good(self, *words: object, **how: Any) -> Any:
        return good("fleet", *words, "--dir", self.path, "--json", **how).json

    def job(self, *words: object) -> Any:
        done = self.run(*words, "--parallel", "4")
        assert "tasks" in done.json, (done.out, done.err)
        return done.json

    def until_well(self, job: int) -> bool:
        """Retried, as an administrator would: on a busy computer one may run out of time, or meet what a dead tool
        began there."""
        end = time.monotonic() + PATIENCE
        with Fleet.open(self.path) as fleet:
            found = fleet.job(job)
            if found.state in (JobState.QUEUED, JobState.RUNNING):
                found = fleet.run_job(job)
            while not found.well and time.monotonic() < end:
                found = fleet.job_retry(job)
        return found.well

    def states(self) -> dict[str, str]:
        return {name: str(one.client("status")["products"][0]["state"]) for name, one in self.machines.items()}


@pytest.fixture
def office(
    tmp_path: Path, site: RealPublisher, pick_port: Callable[[], int], request: pytest.FixtureRequest
) -> Iterator[Office]:
    with far_side(tmp_path / "far", [Kind.GOOD] * len(request.param), pick_port) as far:
        yield Office(tmp_path / "fleet", site, far, request.param)


@pytest.mark.parametrize("office", [OFFICE + PLANT], indirect=True)
def test_machines_are_keyed_and_activated_by_kms_and_by_proxy_in_one_go(
    office: Office, site: RealPublisher, online: Server, tmp_path: Path, pick_port: Callable[[], int]
) -> None:
    mak = issue(site)
    office.good("keys", "add", "-", stdin=f"{mak},for the plant\n")
    generic = office.job("install-key", "--product", "acme-cad", "--add", "--edition", "render-server", *OFFICE)
    assert generic["tasks"]["done"] == len(OFFICE), generic
    chosen = ("--key", mak[-5:], "--product", "acme-cad", "--add", "--edition", EDITION)
    assert office.job("install-key", *chosen, *PLANT)["tasks"]["done"] == len(PLANT)

    host, port = tmp_path / "host", pick_port()
    good("host", "init", "--dir", host)
    good("host", "add-product", site.file, "--root", site.root, "--dir", host)
    good("host", "install-key", site.host_key(), "--dir", host)
    good("host", "activate", "--publisher", online.url, "--dir", host)
    with serving(host, port):
        words = ("activate", "--all", "--kms", f"{ADDRESS}:{port}", "--mak", "proxy", "--publisher", online.url)
        done = office.job(*words, "--keep")
        # who asked before the host had counted enough was asked once more by the same job
        again = [one for one in done["machines"] if one["attempt"] > 1]
        assert {one["machine"] for one in again} < {*OFFICE}
        assert again
        assert office.until_well(done["id"]), done["machines"]
    assert set(office.states().values()) == {"licensed"}
    assert used(site, mak) == len(PLANT)
    told = office.good("keys", "refresh", "--publisher", online.url)["keys"]
    assert [(one["remaining"], one["activations"]) for one in told] == [(6, 10)]
    assert {one["state"] for one in office.good("proxy", "list")["requests"]} == {"applied"}
    assert mak not in _everything(office)


def _everything(office: Office) -> str:
    """Whatever an administrator or a log can see of the fleet."""
    with Fleet.open(office.path) as fleet:
        jobs = [(job.to_json(), [task.to_json() for task in fleet.job_tasks(job.id)]) for job in fleet.jobs()]
        return str(jobs) + str(fleet.audit(1000)) + str([row.to_json() for row in fleet.keys_list()])


@pytest.mark.parametrize("office", [PLANT], indirect=True)
def test_the_tool_is_killed_at_random_points_and_no_activation_is_used_twice_or_lost(
    office: Office, site: RealPublisher, online: Server
) -> None:
    mak = issue(site)
    office.good("keys", "add", "-", stdin=f"{mak}\n")
    chosen = ("--key", mak[-5:], "--product", "acme-cad", "--add", "--edition", EDITION)
    assert office.job("install-key", *chosen, "--all")["tasks"]["done"] == len(PLANT)
    with Fleet.open(office.path) as fleet:
        job = fleet.activate(all=True, mak="proxy", publisher=online.url, wait=False).id
    program = f"from volact.fleet.api import Fleet; f = Fleet.open({str(office.path)!r}); f.run_job({job})"
    dice = random.Random(7)
    for _ in range(KILLS):
        tool = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
        try:
            tool.wait(dice.uniform(0.8, 3.0))
        except subprocess.TimeoutExpired:
            tool.send_signal(signal.SIGKILL)
        tool.wait()
    assert office.until_well(job), _everything(office)
    assert set(office.states().values()) == {"licensed"}
    assert used(site, mak) == len(PLANT)


@pytest.mark.parametrize("office", [PLANT], indirect=True)
def test_an_isolated_lab_by_its_commands(office: Office, site: RealPublisher, online: Server, tmp_path: Path) -> None:
    mak = issue(site)
    office.good("keys", "add", "-", stdin=f"{mak}\n")
    office.job("install-key", "--key", mak[-5:], "--product", "acme-cad", "--add", "--edition", EDITION, "--all")
    assert office.job("proxy", "collect")["tasks"]["done"] == len(PLANT)
    requests, answers = tmp_path / "lab.volbundle", tmp_path / "answers.volbundle"
    assert office.good("export", "-o", requests)["rows"] == len(PLANT)
    # a computer with the internet and no fleet at all
    nowhere = ("--dir", tmp_path / "nothing here", "--json")
    assert good("fleet", "bundle", "show", requests, *nowhere).json["kind"] == "requests"
    unnamed = volact("fleet", "proxy", "confirm", requests, "-o", answers, *nowhere)
    assert (unnamed.code, unnamed.json["problems"]) == (1, {"fleet-no-publisher": len(PLANT)})
    confirmed = good("fleet", "proxy", "confirm", requests, "-o", answers, "--publisher", online.url, *nowhere).json
    assert confirmed["answered"] == len(PLANT)
    # and back
    assert office.good("import", answers)["added"] == {"answers": len(PLANT)}
    assert office.until_well(office.job("proxy", "apply")["id"])
    assert set(office.states().values()) == {"licensed"}
    assert used(site, mak) == len(PLANT)
