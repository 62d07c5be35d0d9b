# SPDX-License-Identifier: Apache-2.0
"""The wizard sets a KMS host up on another machine: every act goes there by SSH, and so do the files."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.console import Console
from support.processes import ADDRESS
from support.site import RealPublisher
from volact.cli.demo.reach import MachineDoor
from volact.fleet.api import Fleet
from volact.fleet.inventory.machines import Found
from volact.host.folder import HostFolder


class FarMachine(MachineDoor):
    """One machine that runs ``volact host`` on a folder of its own."""

    ran: list[str]

    def _words(self, account: str, command: str) -> Sequence[str] | None:
        self.ran = [*getattr(self, "ran", []), command]
        words = command.split()
        if account != "root" or words[:2] != ["volact", "host"]:
            return None
        return [sys.executable, "-m", "volact.cli.main", *words[1:], "--dir", str(self._folder / "far-host")]


@pytest.fixture
def publisher(tmp_path: Path) -> RealPublisher:
    return RealPublisher.make(tmp_path / "acme")


def test_a_host_on_another_machine_is_made_activated_by_file_and_configured(
    publisher: RealPublisher, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    with FarMachine(folder, 1) as far, Fleet.init(folder / "fleet", who="a test") as fleet:
        ways = {"identities": (str(far.identity),), "known_hosts": (str(far.known_hosts),)}
        fleet.folder.change(ways)
        fleet.discover(found=[Found("kms1.example.com", "test", ADDRESS, far.port, "root")])
        with Console(folder).client("admin") as admin:
            page = admin.send(admin.get("/setup/method"), "/setup/method", method="kms-host")
            unknown = admin.send(page, "/setup/target", where="there", machine="kms9.example.com")
            assert "setup-machine-unknown" in unknown.text
            page = admin.send(page, "/setup/target", where="there", machine="kms1.example.com")
            definition = {"definition": ("acme.volproduct", publisher.file.read_bytes())}
            page = admin.send(page, "/setup/product", files=definition, root=publisher.root)
            key = publisher.host_key()
            page = admin.send(page, "/setup/key", key=key)
            page = admin.get("/setup/activate?way=file")
            request = admin.send(page, "/setup/activate/request")
            (tmp_path / "host.volreq").write_bytes(request.content)
            publisher.run("answer", tmp_path / "host.volreq", "-o", tmp_path / "host.volans")
            answer = {"answer": ("host.volans", (tmp_path / "host.volans").read_bytes())}
            page = admin.send(page, "/setup/activate/answer", files=answer)
            assert "ssh " not in page.text or "Contoso" in page.text
            page = admin.send(page, "/setup/configure", port="1700", address="::", intervals="policy", publishing="yes")
            assert "Prove it" in page.text
            assert "ssh 127.0.0.1 volact host serve" in page.text
    made = HostFolder(folder / "far-host").check()
    assert [one.activated for one in made.host_keys()] == [True]
    assert any("set-port 1700" in line for line in far.ran)
    assert not any(key in line for line in far.ran), "a key is no argument"
    assert not (folder / "host").exists()
