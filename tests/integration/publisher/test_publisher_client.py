# SPDX-License-Identifier: Apache-2.0
"""From a key to a licensed machine and back: ``volact client`` against ``volact publisher serve``, over TCP."""

import json
import subprocess
import sys
import time

import pytest

from support.processes import Server, good, volact
from volact.client.folder.store import ClientStore
from volact.core.product_key import Channel

PRODUCT = "acme-cad"


@pytest.fixture(scope="module")
def finished(finish):
    """The processes have no clock but today's."""
    return finish(int(time.time()))


@pytest.fixture
def site(site):
    site.clock.now = int(time.time())
    return site


@pytest.fixture
def served(site, tmp_path, pick_port):
    (tmp_path / "pass").write_text("a passphrase for tests\n")
    port = pick_port()
    words = ["publisher", "serve", "--dir", site.folder.path, "--passphrase-file", tmp_path / "pass"]
    server = Server([*words, "--listen", "127.0.0.1", "--port", port], tmp_path / "publisher.log", port)
    try:
        yield server.wait_until("/readyz")
    finally:
        if server.process.poll() is None:
            server.kill()


@pytest.fixture
def client(site, tmp_path):
    """Types ``volact client`` as a machine with its own folder and hardware."""
    definition = tmp_path / "acme-cad.volproduct"
    definition.write_text(site.publisher.store.version(PRODUCT, None).token)

    class Client:
        def __init__(self, number):
            self.number, self.folder = number, tmp_path / f"machine{number}"
            self.good("add-product", definition, "--root", site.folder.fingerprint)

        def type(self, verb, *words):
            return volact("client", verb, *words, "--dir", self.folder, machine=self.number)

        def good(self, verb, *words):
            return good("client", verb, *words, "--dir", self.folder, machine=self.number)

        def json(self, verb, *words):
            return self.good(verb, *words, "--json").json

        def install(self, key):
            return self.good("install-key", PRODUCT, key)

        def state(self):
            return self.type("info", PRODUCT, "--json").json["state"]

    return Client


@pytest.mark.parametrize("channel", [Channel.MAK, Channel.RETAIL])
def test_a_key_becomes_a_permanent_licence(site, served, client, channel):
    machine = client(1)
    machine.install(site.pool_key(3, channel=channel))
    done = machine.good("activate", PRODUCT, "--publisher", served.url)
    assert "acme-cad: licensed" in done.out
    info = machine.json("info", PRODUCT)
    assert (info["state"], info["until"], info["channel"]) == ("licensed", None, str(channel))
    assert (info["next_attempt"], info["threshold"]) == (None, None)  # a permanent licence is not asked for again
    assert info["organisation"] == "Example Ltd"
    left = machine.json("remaining", PRODUCT, "--publisher", served.url)
    assert (left["activations"], left["used"], left["remaining"], left["blocked"]) == (3, 1, 2, False)
    # The publisher is needed no more.
    served.kill()
    assert machine.good("check", PRODUCT, "--root", site.folder.fingerprint).out == "acme-cad: licensed, count-only\n"
    gone = machine.good("remove-product", PRODUCT)
    assert "activation was not given back" in gone.err


def test_the_configured_publisher_is_asked_and_its_refusals_are_named(site, served, client):
    key = site.pool_key(1)
    one, two = client(1), client(2)
    for machine in (one, two):
        machine.install(key)
        machine.good("set-host", "--publisher", served.url)
    one.good("activate", PRODUCT)
    one.good("activate", PRODUCT)
    done = two.type("activate", PRODUCT, "--json")
    assert done.code == 1
    assert done.json["products"][0]["error"]["code"] == "activations-exhausted"
    assert two.state() == "initial-grace"
    site.publisher.block_key(site.issued(key), "leaked", site.clock(), "tester")
    assert one.type("activate", PRODUCT, "--json").json["products"][0]["error"]["code"] == "key-blocked"
    assert one.state() == "licensed"  # a refusal takes nothing away


def test_a_machine_as_a_process_of_its_own(site, served, client, tmp_path):
    machine = client(7)
    machine.install(site.pool_key(1))
    words = ["client", "activate", PRODUCT, "--publisher", served.url, "--dir", str(machine.folder), "--json"]
    command = [sys.executable, "-m", "volact.testing", "--machine", "7", "--", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout.splitlines()[-1])["products"][0]["state"] == "licensed"


def test_an_activation_is_given_back_online_and_the_next_machine_gets_it(site, served, client):
    key = site.pool_key(1)
    one, two = client(1), client(2)
    for machine in (one, two):
        machine.install(key)
    one.good("activate", PRODUCT, "--publisher", served.url)
    licence = one.good("licence", PRODUCT).out
    given = one.json("deactivate", PRODUCT, "--publisher", served.url)
    assert (given["confirmed"], given["credited"], given["remaining"], given["error"]) == (True, True, 1, None)
    assert one.state() == "unlicensed"
    two.good("activate", PRODUCT, "--publisher", served.url)
    # The old licence is a good signature and counts no more on that machine, whoever puts it back.
    one.install(key)
    answers = one.folder / "products" / PRODUCT / "answers"
    (answers / "mak.vollicence").write_text(licence)
    info = one.json("info", PRODUCT)
    assert info["state"] == "initial-grace"
    assert any("its activation was given back" in note for note in info["notes"])
    check = one.type("check", PRODUCT, "--root", site.folder.fingerprint, "--json")
    assert (check.code, check.json["licensed"]) == (1, False)
    done = one.type("deactivate", PRODUCT, "--publisher", served.url, "--json")
    assert done.json["error"]["code"] == "nothing-to-return"


def test_a_machine_that_gave_back_can_be_activated_anew(site, served, client):
    key, one = site.pool_key(2), client(1)
    for _ in range(2):
        one.install(key)
        one.good("activate", PRODUCT, "--publisher", served.url)
        assert one.state() == "licensed"
        one.good("deactivate", PRODUCT, "--publisher", served.url)
    assert site.issued(key).used == 0
    site.publisher.store.check_ledger()


def test_without_a_network_the_proof_is_carried_and_taken_once(site, served, client, tmp_path):
    one, key = client(1), site.pool_key(1)
    one.install(key)
    one.good("activate", PRODUCT, "--publisher", served.url)
    file = tmp_path / "machine1.volreturn"
    assert "no longer activated" in one.good("deactivate", PRODUCT, "--file", file).err
    assert one.state() == "unlicensed"
    words = ("publisher", "return", file, "--dir", site.folder.path, "--passphrase-file", tmp_path / "pass")
    taken = good(*words, "--json").json
    assert (taken["credited"], taken["used"], taken["remaining"]) == (True, 0, 1)
    again = volact(*words, "--json")
    assert (again.code, again.json["error"]["code"]) == (1, "activation-returned")
    # The machine does not know that it arrived; asked once more, it hears so.
    assert one.json("deactivate", PRODUCT, "--publisher", served.url)["confirmed"]
    site.publisher.store.check_ledger()


def test_a_publisher_out_of_reach_leaves_the_proof_for_the_next_try(site, served, client, tmp_path):
    one, key = client(1), site.pool_key(1)
    one.install(key)
    one.good("activate", PRODUCT, "--publisher", served.url)
    done = one.type("deactivate", PRODUCT, "--publisher", "http://127.0.0.1:9", "--json")
    assert (done.code, done.json["confirmed"], done.json["error"]["code"]) == (1, False, "host-unreachable")
    assert one.state() == "unlicensed"
    assert site.issued(key).used == 1
    assert one.json("deactivate", PRODUCT, "--publisher", served.url)["confirmed"]
    assert site.issued(key).used == 0


def test_a_restored_snapshot_is_licensed_and_that_is_what_the_cap_bounds(site, served, client):
    """The attack of docs/spec/returns.md §4 with the real client: the folder is copied before the return."""
    import shutil

    one, key = client(1), site.pool_key(1)
    one.install(key)
    one.good("activate", PRODUCT, "--publisher", served.url)
    shutil.copytree(one.folder, one.folder.with_name("snapshot"))
    assert one.json("deactivate", PRODUCT, "--publisher", served.url)["credited"]
    shutil.rmtree(one.folder)
    one.folder.with_name("snapshot").rename(one.folder)
    assert one.state() == "licensed"
    # It cannot give the same back again, so each activation can be gained once.
    done = one.type("deactivate", PRODUCT, "--publisher", served.url, "--json")
    assert done.json["confirmed"]
    assert done.json["credited"] is None
    assert site.issued(key).used == 0


def test_the_ledger_is_held_against_the_licence_that_a_machine_has(site, served, client, tmp_path):
    one, key = client(1), site.pool_key(2)
    one.install(key)
    one.good("activate", PRODUCT, "--publisher", served.url)
    receipt = tmp_path / "acme-cad.vollicence"
    receipt.write_text(one.good("licence", PRODUCT).out)
    two = client(2)
    two.install(key)
    two.good("activate", PRODUCT, "--publisher", served.url)
    words = ("publisher", "ledger", "verify", "--dir", site.folder.path)
    found = good(*words, "--against", receipt, "--json").json
    assert found["compared"] == 1
    # Somebody cuts the ledger off before that row, and everything else with it: whole in itself, and found out.
    used = site.publisher.store.ledger()
    site.tamper(f"DELETE FROM ledger WHERE seq > {len(used) - 2}")
    for table in ("activation_trait", "activation_request", "activation"):
        site.tamper(f"DELETE FROM {table}")
    site.tamper("UPDATE product_key SET used = 0")
    assert good(*words, "--json").json["rows"] == len(used) - 2
    done = volact(*words, "--against", receipt, "--json")
    assert (done.code, done.json["error"]["code"]) == (1, "ledger-broken")
    assert "signed over" in done.json["error"]["message"]


def test_the_client_s_folder_keeps_the_proofs(site, served, client):
    one = client(1)
    one.install(site.pool_key(2))
    one.good("activate", PRODUCT, "--publisher", served.url)
    one.good("deactivate", PRODUCT, "--publisher", served.url)
    (kept,) = ClientStore(one.folder).returned(PRODUCT)
    assert kept.confirmed
    assert kept.proof.count(".") == 2
