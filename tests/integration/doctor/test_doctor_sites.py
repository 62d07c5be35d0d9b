# SPDX-License-Identifier: Apache-2.0
"""Broken sites, one cause planted in each: ``volact doctor`` names that one, and a remedy."""

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support.bind import bind
from support.processes import serving, volact
from support.site import PRODUCT, Vendor, served
from volact.sealing import envelope
from volact.testing import Site
from volact.testing.issuers import SERVER_GROUP


@dataclass
class Patient:
    """A machine, and the site that it should be licensed by."""

    folder: Path
    vendor: Vendor
    number: int = 1

    def run(self, *words: object, **how: Any) -> Any:
        return volact("client", *words, "--dir", self.folder, machine=self.number, **how)

    def set_host(self, port: int, name: str = "127.0.0.1") -> None:
        assert self.run("set-host", f"{name}:{port}").code == 0

    def doctor(self, **how: Any) -> dict[str, Any]:
        done = volact("doctor", PRODUCT, "--dir", self.folder, "--json", machine=self.number, **how)
        (examined,) = done.json["products"]
        assert (done.code == 0) == (examined["cause"] is None)
        return dict(examined)

    def cause(self, **how: Any) -> str | None:
        cause = self.doctor(**how)["cause"]
        if cause is None:
            return None
        assert cause["message"]
        assert cause["remedy"]
        assert "{" not in cause["message"] + cause["remedy"]
        return str(cause["code"])


@pytest.fixture
def vendor(tmp_path: Path) -> Vendor:
    return Vendor.make(tmp_path)


@pytest.fixture
def patient(tmp_path: Path, vendor: Vendor) -> Patient:
    patient = Patient(tmp_path / "client", vendor)
    assert patient.run("add-product", vendor.file, "--root", vendor.root).code == 0
    assert patient.run("install-key", PRODUCT, "--generic", "--edition", "client").code == 0
    return patient


def a_host(vendor: Vendor, count: int = 30, **knobs: Any) -> Any:
    """A simulated KMS host of the vendor's site, that has counted ``count`` machines."""
    clock = vendor.publisher.clock
    site = Site(clock, vendor.publisher, vendor.definition, vendor.file.read_text())  # type: ignore[arg-type]
    host = site.kms_host(**knobs)
    host.fill(101, count)
    return host


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that is ours and at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_healthy_machine_has_nothing(patient: Patient, vendor: Vendor) -> None:
    with served(a_host(vendor)) as port:
        patient.set_host(port)
        assert patient.run("activate").code == 0
        assert patient.cause() is None


def test_nothing_in_the_way_means_that_nobody_asked_yet(patient: Patient, vendor: Vendor) -> None:
    with served(a_host(vendor)) as port:
        patient.set_host(port)
        assert patient.cause() == "cause-not-asked"


@pytest.mark.needs("bind")
def test_no_srv_record(patient: Patient) -> None:
    with bind(["example.test"]) as dns:
        patient.run("set-host", "--domain", "example.test", "--resolver", dns.address)
        patient.run("activate")
        assert patient.cause() == "cause-no-srv"


@pytest.mark.needs("bind")
def test_a_stale_srv_record(patient: Patient) -> None:
    with bind(["example.test"], ["_volact._tcp.example.test. SRV 0 0 1688 gone.invalid."]) as dns:
        patient.run("set-host", "--domain", "example.test", "--resolver", dns.address)
        patient.run("activate")
        assert patient.cause() == "cause-srv-stale"


def test_silent_name_servers(patient: Patient, dead_port: int) -> None:
    patient.run("set-host", "--domain", "example.test", "--resolver", f"127.0.0.1:{dead_port}")
    assert patient.cause() == "cause-dns"


def test_a_closed_port(patient: Patient, dead_port: int) -> None:
    patient.set_host(dead_port)
    patient.run("activate")
    assert patient.cause() == "cause-port-closed"


def test_a_host_name_that_does_not_exist(patient: Patient) -> None:
    patient.set_host(1688, "nowhere.invalid")
    assert patient.cause() == "cause-host-name"


def test_a_host_that_is_not_activated(
    patient: Patient, vendor: Vendor, tmp_path: Path, pick_port: Callable[[], int]
) -> None:
    from volact.host.application import open_store
    from volact.host.folder import HostFolder

    folder = HostFolder.create(tmp_path / "host")
    open_store(folder).close()
    folder.add_product(vendor.file.read_text(), vendor.root)
    folder.install_key(vendor.host_key(), envelope.X25519)
    with serving(tmp_path / "host", pick_port(), ready=503) as server:
        patient.set_host(server.port)
        patient.run("activate")
        assert patient.cause() == "cause-host-not-activated"


def test_a_host_with_the_wrong_product_group(patient: Patient, vendor: Vendor) -> None:
    with served(a_host(vendor, groups=[SERVER_GROUP])) as port:
        patient.set_host(port)
        patient.run("activate")
        assert patient.cause() == "cause-group"


def test_a_count_that_is_low(patient: Patient, vendor: Vendor) -> None:
    with served(a_host(vendor, 3)) as port:
        patient.set_host(port)
        patient.run("activate")
        examined = patient.doctor()
        assert examined["cause"]["code"] == "cause-count"
        assert examined["cause"]["fields"]["missing"] == 21


def test_clones(patient: Patient, vendor: Vendor, tmp_path: Path) -> None:
    with served(a_host(vendor, 3)) as port:
        patient.set_host(port)
        patient.run("activate")
        shutil.copytree(patient.folder, tmp_path / "clone")
        clone = Patient(tmp_path / "clone", vendor, number=2)
        clone.run("activate")
        assert clone.cause() == "cause-clone"
        clone.run("generalize")
        clone.run("activate")
        assert clone.cause() == "cause-count"


@pytest.mark.parametrize("hours", [5, -5])
def test_a_clock_that_is_off_by_five_hours(patient: Patient, vendor: Vendor, hours: int) -> None:
    def wrong() -> int:
        return int(time.time()) + hours * 3600

    with served(a_host(vendor)) as port:
        patient.set_host(port)
        patient.run("activate", clock=wrong)
        examined = patient.doctor(clock=wrong)
        assert examined["cause"]["code"] == "cause-clock"
        assert examined["cause"]["fields"]["direction"] == ("ahead of" if hours > 0 else "behind")


def test_a_rogue_host(patient: Patient, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    rogue = Vendor.make(tmp_path / "other", "Somebody Else")
    with served(a_host(rogue)) as port:
        patient.set_host(port)
        patient.run("activate")
        assert patient.cause() == "cause-host-rogue"


def test_a_key_of_the_wrong_channel(patient: Patient, vendor: Vendor) -> None:
    with served(a_host(vendor)) as port:
        patient.set_host(port)
        patient.run("install-key", PRODUCT, "--guest", "--edition", "client")
        assert patient.cause() == "cause-key-channel"


def test_a_revoked_host(patient: Patient, vendor: Vendor) -> None:
    host = a_host(vendor)
    with served(host) as port:
        patient.set_host(port)
        vendor.publisher.revoke(host.issuer)
        host.status = vendor.publisher.status_token()
        patient.run("activate")
        assert patient.cause() == "cause-revoked"


def test_a_licensed_machine_whose_host_was_revoked(patient: Patient, vendor: Vendor) -> None:
    host = a_host(vendor)
    with served(host) as port:
        patient.set_host(port)
        assert patient.run("activate").code == 0
        vendor.publisher.revoke(host.issuer)
        host.status = vendor.publisher.status_token()
        patient.run("activate")
        assert patient.cause() == "cause-revoked"


def test_another_server_behind_the_hosts_name(patient: Patient) -> None:
    class Web(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(404)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Web) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        patient.set_host(server.server_address[1])
        assert patient.cause() == "cause-other-server"
        server.shutdown()
        thread.join()


def test_a_makers_marker_that_the_policy_demands_and_the_firmware_lacks(tmp_path: Path) -> None:
    (tmp_path / "marked").mkdir()
    vendor = Vendor.make(tmp_path / "marked", requires_marker=True)
    patient = Patient(tmp_path / "marked" / "client", vendor)
    assert patient.run("add-product", vendor.file, "--root", vendor.root).code == 0
    assert patient.run("install-key", PRODUCT, "--generic", "--edition", "client").code == 0
    with served(a_host(vendor)) as port:
        patient.set_host(port)
        patient.run("activate")
        examined = patient.doctor()
    assert examined["cause"]["code"] == "firmware-marker-missing"
    assert any(step["step"] == "firmware" and step["ok"] is False for step in examined["steps"])


def test_no_key(patient: Patient) -> None:
    patient.run("remove-key", PRODUCT)
    assert patient.cause() == "key-missing"


def test_a_damaged_definition(patient: Patient) -> None:
    for path in (patient.folder / "products" / PRODUCT).glob("definition.volproduct*"):
        path.write_text("damaged")
    assert patient.cause() == "definition-damaged"


def test_a_product_that_is_not_here(patient: Patient) -> None:
    done = volact("doctor", "acme-cam", "--dir", patient.folder, "--json")
    assert done.json["products"][0]["cause"]["code"] == "product-not-added"


def test_an_empty_folder_says_what_comes_first(tmp_path: Path) -> None:
    done = volact("doctor", "--dir", tmp_path / "none", "--json")
    assert done.json["error"]["code"] == "doctor-no-product"


@pytest.mark.needs("bind")
def test_one_stale_record_beside_a_good_host_is_no_cause_but_a_step(patient: Patient, vendor: Vendor) -> None:
    with served(a_host(vendor)) as port:
        records = [
            "_volact._tcp.example.test. SRV 0 0 1688 gone.invalid.",
            f"_volact._tcp.example.test. SRV 10 0 {port} localhost.",
        ]
        with bind(["example.test"], records) as dns:
            patient.run("set-host", "--domain", "example.test", "--resolver", dns.address)
            assert patient.run("activate").code == 0
            examined = patient.doctor()
    assert examined["cause"] is None
    assert any(step["ok"] is False and "gone.invalid" in step["detail"] for step in examined["steps"])


def test_the_doctor_changes_nothing(patient: Patient, vendor: Vendor) -> None:
    with served(a_host(vendor)) as port:
        patient.set_host(port)
        before = {path: path.read_bytes() for path in patient.folder.rglob("*") if path.is_file()}
        patient.cause()
        assert {path: path.read_bytes() for path in patient.folder.rglob("*") if path.is_file()} == before


def test_people_read_the_walk_the_cause_and_the_remedy(patient: Patient, dead_port: int) -> None:
    patient.set_host(dead_port)
    done = volact("doctor", "--dir", patient.folder)
    assert done.code == 1
    assert "  !!  reachable: " in done.out
    assert "  cause: cause-port-closed: " in done.out
    assert done.out.splitlines()[-1].startswith("  remedy: ")
