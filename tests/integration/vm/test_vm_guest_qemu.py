# SPDX-License-Identifier: Apache-2.0
"""One real guest under QEMU with a real kernel, the production client in it and no network: refused, licensed, moved.

The guest boots once and lives through the tests in their order; the hosts take turns at its socket.
"""

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.guest import EDITION, GROUP, OTHER_EDITION, PRODUCT, Publisher, VmHost, short_folder
from support.qemu import Guest, incoming
from volact.core.product_key import Channel
from volact.sealing import verify

pytestmark = pytest.mark.needs("qemu", "guest-image")

EVENTS = "/var/lib/volact/client/events.jsonl"
DEFINITION = "/tmp/acme-cad.volproduct"
MODEL = ["--manufacturer", "QEMU", "--product-name", "Standard PC (i440FX + PIIX, 1996)"]


@dataclass
class Stage:
    """The guest, the publishers and where things lie; ``guest`` changes when it is moved."""

    folder: Path
    acme: Publisher
    globex: Publisher
    guest: Guest

    @property
    def sockets(self) -> Path:
        return self.folder / "a"

    def activate(self) -> dict[str, Any]:
        (row,) = self.guest.volact("client", "activate", PRODUCT, "--json").json["products"]
        return dict(row)

    def use_edition(self, edition: str) -> None:
        done = self.guest.volact("client", "install-key", PRODUCT, "--guest", "--edition", edition)
        assert done.code == 0, done.err


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with short_folder() as folder:
        yield from _stage(folder)


def _stage(folder: Path) -> Iterator[Stage]:
    for name in "abc":
        (folder / name).mkdir()
    acme = Publisher.make(folder / "acme", "Acme")
    acme.make_marker(folder / "marker", *MODEL, "--group", "101")
    guest = Guest(folder / "qemu-a", folder / "a", "guest1", _firmware(folder))
    made: Stage | None = None
    try:
        globex = Publisher.make(folder / "globex", "Globex")  # while the guest boots
        made = Stage(folder, acme, globex, guest.wait_until_ready())
        guest.put(DEFINITION, acme.file.read_bytes())
        added = guest.volact("client", "add-product", DEFINITION, "--root", acme.root)
        assert added.code == 0, added.err
        yield made
    finally:
        (made.guest if made else guest).stop()


def _firmware(folder: Path) -> list[str]:
    return ["-acpitable", f"sig=VLCT,oem_id=ACMEPC,oem_table_id=MODEL-7,data={folder / 'marker'}"]


def test_the_makers_marker_in_the_guests_acpi_table_licenses_its_model(stage: Stage) -> None:
    (row,) = stage.guest.volact("client", "status", "--json").json["products"]
    assert (row["channel"], row["edition"], row["state"]) == ("oem", EDITION, "licensed")
    read = (
        "from volact.client.platform import firmware as f; "
        "print([m.oem_id for m in f.read_markers() if m.source == 'acpi'])"
    )
    assert stage.guest.run(f'python3 -c "{read}"').out.strip() == "['ACMEPC']"
    stage.use_edition(EDITION)  # from here on it is a guest of its host


def test_the_licensing_service_of_a_guest_without_a_network_finds_its_host_at_start_and_gets_a_licence(
    stage: Stage,
) -> None:
    assert stage.guest.run("ls /sys/class/net").out.split() == ["lo"]
    host = VmHost.make(stage.folder / "first", stage.acme)
    with host.serving(stage.sockets):
        stage.guest.run("volact client serve --no-api >/tmp/serve.log 2>&1 & echo $! >/tmp/serve.pid")
        _until(lambda: host.guests() != [], stage)
        _until(lambda: stage.guest.run(f"busybox grep -q activation-answered {EVENTS}").code == 0, stage)
        stage.guest.run("kill $(cat /tmp/serve.pid)")
    token = stage.guest.volact("client", "licence", PRODUCT).out.strip()
    definition = verify.verify_definition(stage.acme.file.read_text().strip(), stage.acme.root)
    licence = verify.verify_licence(token, definition.trust).licence
    assert (licence.channel, licence.edition, licence.organisation) == (Channel.VM, EDITION, "Contoso")
    assert licence.count is None
    (guest,) = host.guests()
    assert guest["machine"] == licence.machine.hex()
    assert guest["claimed"] == {"name": "guest1", "os": "Volact test guest", "state": "initial-grace"}
    assert host.codes()[-3:] == ["vm-host-started", "guest-licensed", "vm-host-stopped"]


def _until(condition: Callable[[], bool], stage: Stage) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end, stage.guest.run("cat /tmp/serve.log").out
        time.sleep(0.2)


def test_a_guest_whose_host_runs_no_service_says_so_in_the_time_it_was_given(stage: Stage) -> None:
    ask = (
        "from volact.vm.guest import GuestChannel as G\n"
        "try: G(seconds=1).get_issuer('sha256:0', 'acme-cad', 101, bytes(16))\n"
        "except Exception as exc: print(exc.code)\n"
    )
    stage.guest.put("/tmp/ask.py", ask.encode())
    assert stage.guest.run("python3 /tmp/ask.py").out.strip() == "vm-channel-failed"


def test_a_guest_hears_that_its_host_is_not_activated(stage: Stage) -> None:
    stage.use_edition(OTHER_EDITION)
    host = VmHost.make(stage.folder / "idle")
    with host.serving(stage.sockets):
        row = stage.activate()
    assert row["state"] == "initial-grace"
    assert row["error"]["code"] == "vm-host-not-activated"
    assert "vm-host-not-activated" in host.codes()


def test_a_guest_whose_edition_the_hosts_key_does_not_cover_is_refused_by_name(stage: Stage) -> None:
    host = VmHost.make(stage.folder / "narrow", stage.acme, GROUP)
    with host.serving(stage.sockets):
        row = stage.activate()
    assert row["error"]["code"] == "group-not-granted"
    assert row["error"]["fields"]["group"] == 102
    (refused,) = [event for event in host.events() if event["code"] == "group-not-granted"]
    assert refused["channel"] == "guest1"
    assert refused["data"]["edition"] == OTHER_EDITION
    (guest,) = host.guests()
    assert (guest["last_answer"], guest["licensed_until"]) == ("group-not-granted", None)


def test_a_host_of_another_publisher_is_refused_by_name(stage: Stage) -> None:
    host = VmHost.make(stage.folder / "foreign", stage.globex)
    with host.serving(stage.sockets):
        row = stage.activate()
    assert row["error"]["code"] == "vm-host-other-publisher"
    assert stage.acme.root in row["error"]["message"]
    assert "vm-host-other-publisher" in host.codes()


def test_the_guest_has_noted_what_its_hosts_said(stage: Stage) -> None:
    noted = stage.guest.run(f"cat {EVENTS}").out
    for code in ("activation-answered", "vm-host-not-activated", "group-not-granted", "vm-host-other-publisher"):
        assert f'"{code}"' in noted, noted


def test_a_guest_that_is_moved_renews_at_its_new_host_and_keeps_its_lease_where_the_host_is_not_activated(
    stage: Stage,
) -> None:
    stage.use_edition(EDITION)
    before = stage.guest.volact("client", "licence", PRODUCT).out.strip()
    second = VmHost.make(stage.folder / "second", stage.acme)
    with second.serving(stage.folder / "b"):
        _move(stage, "b")
        row = stage.activate()
    assert (row["state"], row["error"]) == ("licensed", None)
    after = stage.guest.volact("client", "licence", PRODUCT).out.strip()
    assert after != before
    (guest,) = second.guests()
    assert guest["machine"] == VmHost(stage.folder / "first").guests()[0]["machine"] == _claims(after)["sub"]
    assert guest["claimed"]["state"] == "licensed"  # one history: it came with the licence of its first host
    idle = VmHost(stage.folder / "idle")
    with idle.serving(stage.folder / "c"):
        _move(stage, "c")
        row = stage.activate()
    assert row["error"]["code"] == "vm-host-not-activated"
    assert (row["state"], row["licensed"]) == ("licensed", True)
    assert stage.guest.volact("client", "licence", PRODUCT).out.strip() == after


def _move(stage: Stage, name: str) -> None:
    """To a new QEMU process, whose socket another host watches."""
    through = stage.folder / f"move-{name}.sock"
    how = [*_firmware(stage.folder), *incoming(through)]
    to = Guest(stage.folder / f"qemu-{name}", stage.folder / name, "guest1", how)
    try:
        stage.guest.migrate(to, through)
    except BaseException:
        to.stop()
        raise
    stage.guest = to


def _claims(token: str) -> dict[str, object]:
    body = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))))
