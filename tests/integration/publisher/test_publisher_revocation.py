# SPDX-License-Identifier: Apache-2.0
"""A host is revoked: what the publisher, the host and its machines do, as processes over TCP and by file."""

import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.processes import Done, Server, good, serving, volact, wait_for
from volact.host.folder import HostFolder
from volact.issuer.revocation import refresh_statuses

PRODUCT = "acme-cad"
TOML = """
product = "acme-cad"
name = "Acme CAD"
version = 2
[policy]
threshold = 1
[groups.servers]
number = 101
[groups.clients]
number = 102
parent = 101
[editions.professional]
name = "Acme CAD Professional"
group = "clients"
kind = "client"
[editions.render-server]
name = "Acme CAD Render Server"
group = "servers"
kind = "server"
"""


@pytest.fixture(scope="module")
def finished(finish):
    return finish(int(time.time()))


@pytest.fixture
def site(site):
    """With a policy under which one machine is enough."""
    site.clock.now = int(time.time())
    site.publisher.add_product(TOML.encode(), site.keys, site.clock(), "tester")
    return site


@pytest.fixture
def definition(site, tmp_path):
    path = tmp_path / "acme-cad.volproduct"
    path.write_text(site.publisher.store.version(PRODUCT, None).token)
    return path


@pytest.fixture
def make_host(site, definition, tmp_path):
    """An activated host in a folder, by files carried to and fro."""

    def make(name):
        folder, request, answer = tmp_path / name, tmp_path / f"{name}.volreq", tmp_path / f"{name}.volans"
        good("host", "init", "--dir", folder)
        good("host", "add-product", definition, "--root", site.folder.fingerprint, "--dir", folder)
        good("host", "install-key", site.key("servers"), "--dir", folder)
        good("host", "activate", "--request", request, "--dir", folder, hostname=f"{name}.example")
        good("publisher", "answer", request, "-o", answer, *publisher(site, tmp_path))
        good("host", "activate", "--answer", answer, "--dir", folder)
        return folder

    return make


def publisher(site, tmp_path):
    (tmp_path / "pass").write_text("a passphrase for tests\n")
    return ("--dir", site.folder.path, "--passphrase-file", tmp_path / "pass")


class Client:
    """What is typed on one machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, verb: str, *words: object) -> Done:
        return volact("client", verb, *words, "--dir", self.folder, "--json", machine=1)


@pytest.fixture
def client(site, definition, tmp_path):
    folder = tmp_path / "machine"
    good("client", "add-product", definition, "--root", site.folder.fingerprint, "--dir", folder, machine=1)
    good("client", "install-key", PRODUCT, "--generic", "--edition", "professional", "--dir", folder, machine=1)

    return Client(folder)


def state(client):
    return client("info", PRODUCT).json["state"]


def activate(client, host):
    """A day later: a host's descriptor is asked for anew."""
    (client.folder / "products" / PRODUCT / "issuer.json").unlink(missing_ok=True)
    return client("activate", PRODUCT, "--host", f"127.0.0.1:{host.port}").json["products"][0]


@contextmanager
def both(one, other, pick_port):
    with serving(one, pick_port()) as first, serving(other, pick_port()) as second:
        yield first, second


def test_a_revoked_host_ends_its_machines_leases_at_their_next_renewal(site, make_host, client, tmp_path, pick_port):
    kms1, kms2, file = make_host("kms1"), make_host("kms2"), tmp_path / "acme.volstatus"
    with both(kms1, kms2, pick_port) as (first, second):
        assert activate(client, first)["error"] is None
        assert state(client) == "licensed"
        revoked = good(
            "publisher", "revoke", "host", "kms1.example", "--reason", "stolen", "--since", "2020-01-01",
            *publisher(site, tmp_path), "--json",
        ).json  # fmt: skip
        assert revoked["epoch"] == 2
        good("publisher", "status", "export", "-o", file, *publisher(site, tmp_path))
        # Nobody has told the host: it goes on, and so does the machine.
        assert activate(client, first)["error"] is None
        taken = good("host", "status-update", file, "--dir", kms1, "--json").json
        assert (taken[0]["epoch"], taken[0]["keys"]) == (2, taken[0]["revoked_keys"])
        # The running host hands the news on by itself; the machine takes no licence of it any more.
        refused = wait_for(lambda: activate(client, first)["error"])
        assert refused["code"] == "issuer-key-revoked"
        info = client("info", PRODUCT).json
        assert (info["state"], info["reason"]["code"], info["status_epoch"]) == (
            "non-genuine-grace",
            "issuer-revoked",
            2,
        )
        # The other host has not heard of it yet, and a machine that has takes its old status no more.
        assert activate(client, second)["error"]["code"] == "status-outdated"
        good("host", "status-update", file, "--dir", kms2)
        wait_for(lambda: activate(client, second)["error"] is None)
        assert state(client) == "licensed"


def test_a_host_takes_no_status_that_is_older_or_another_publisher_s(site, make_host, tmp_path):
    kms1, old, new = make_host("kms1"), tmp_path / "old.volstatus", tmp_path / "new.volstatus"
    good("publisher", "status", "export", "-o", old, *publisher(site, tmp_path))
    good("publisher", "revoke", "issuer", "ab" * 32, *publisher(site, tmp_path))
    good("publisher", "status", "export", "-o", new, *publisher(site, tmp_path))
    assert good("host", "status-update", new, "--dir", kms1, "--json").json[0]["revoked_keys"] == []
    assert good("host", "status-update", new, "--dir", kms1, "--json").json[0]["epoch"] == 2
    done = volact("host", "status-update", old, "--dir", kms1, "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "status-outdated")
    (tmp_path / "rubbish").write_text("a.b.c")
    done = volact("host", "status-update", tmp_path / "rubbish", "--dir", kms1, "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "malformed")


def test_a_revoked_organisation_s_host_gets_no_new_certificate(site, make_host, tmp_path):
    kms1, request, answer = make_host("kms1"), tmp_path / "again.volreq", tmp_path / "again.volans"
    good("publisher", "revoke", "organisation", "Example Ltd", *publisher(site, tmp_path))
    good("host", "activate", "--request", request, "--dir", kms1)
    assert good("publisher", "answer", request, "-o", answer, *publisher(site, tmp_path), "--json").json["outcome"] == (
        "refused"
    )
    done = volact("host", "activate", "--answer", answer, "--dir", kms1, "--json")
    assert done.json["error"]["code"] == "key-blocked"
    shown = good("publisher", "status", "show", *publisher(site, tmp_path), "--json").json
    assert (shown["epoch"], len(shown["revoked"])) == (2, 1)


def test_a_host_that_reaches_its_publisher_fetches_the_status_by_itself(site, make_host, tmp_path, pick_port):
    kms1, port = make_host("kms1"), pick_port()
    words = ["publisher", "serve", "--listen", "127.0.0.1", "--port", port, *publisher(site, tmp_path)]
    server = Server(words, tmp_path / "publisher.log", port)
    try:
        server.wait_until("/readyz")
        good("publisher", "revoke", "issuer", "cd" * 32, *publisher(site, tmp_path))
        folder = HostFolder(kms1)
        given = {site.folder.fingerprint: server.url}
        assert list(refresh_statuses(folder, given, site.clock())) == []  # it has one of today
        (updated,) = refresh_statuses(folder, given, site.clock() + 2 * 86400)
        assert updated.status.epoch == 2
        assert volact("host", "status-update", "--publisher", server.url, "--dir", kms1).code == 0
    finally:
        server.kill()
    # Behind an air gap nobody answers, and nothing is complained of.
    assert list(refresh_statuses(folder, given, site.clock() + 2 * 86400)) == []
