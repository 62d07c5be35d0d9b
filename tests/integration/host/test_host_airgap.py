# SPDX-License-Identifier: Apache-2.0
"""A site without any network to its publisher: the host's request and the answer travel as files, both ways to the
production commands, and the running host takes the certificate up."""

from support.processes import Done, good, serving, volact, wait_for
from support.site import Machine, RealPublisher
from volact.core.exchange import RequestFile
from volact.host.folder import HostFolder


def host_command(folder, *words: object) -> Done:
    return good("host", *words, "--dir", folder, hostname="kms1.example.com")


def test_a_host_behind_an_air_gap_from_init_to_the_first_machine_and_its_renewal(tmp_path, pick_port):
    publisher = RealPublisher.make(tmp_path / "publisher")
    folder, stick = tmp_path / "host", tmp_path / "stick"
    stick.mkdir()
    host_command(folder, "init")
    host_command(folder, "add-product", publisher.file, "--root", publisher.root)
    host_command(folder, "install-key", publisher.host_key())

    # what the stick carries names nobody but the publisher
    host_command(folder, "activate", "--request", stick / "kms1.volreq")
    carried = RequestFile.from_bytes((stick / "kms1.volreq").read_bytes())
    assert (carried.root, carried.product) == (publisher.root, "acme-cad")
    for secret in (b"kms1.example.com", b"Contoso"):
        assert secret not in (stick / "kms1.volreq").read_bytes()

    with serving(folder, pick_port(), ready=503) as server:
        publisher.run("answer", stick / "kms1.volreq", "-o", stick / "kms1.volans")
        host_command(folder, "activate", "--answer", stick / "kms1.volans")
        wait_for(lambda: server.get("/readyz")[0] == 200)

        machine = _machine(tmp_path, publisher)
        row = machine.activate_at(server.port)
        assert row["error"] is None
        assert (row["reason"]["code"], row["count"]) == ("count-below-threshold", 1)

        # the yearly renewal is the same way; the host goes on with the same sealing key
        first = HostFolder(folder).host_keys()[0].certificates()[0]
        host_command(folder, "activate", "--request", stick / "again.volreq")
        publisher.run("answer", stick / "again.volreq", "-o", stick / "again.volans")
        host_command(folder, "activate", "--answer", stick / "again.volans")
        assert HostFolder(folder).host_keys()[0].certificates()[0] != first
        assert machine.activate_at(server.port)["error"] is None

    actors = {row["actor"] for row in publisher.run("ledger", "list").json if row["act"].startswith("host")}
    assert actors == {"answer-file"}
    codes = [event["code"] for event in volact("host", "events", "--dir", folder, "--json").json]
    assert codes.count("host-activated") == 2
    assert "certificate-renewal-failed" not in codes


def _machine(tmp_path, publisher: RealPublisher) -> Machine:
    machine = Machine(tmp_path / "machine", 3)
    good("client", "add-product", publisher.file, "--root", publisher.root, "--dir", machine.folder, machine=3)
    machine.good("install-key", machine.product, "--generic", "--edition", "professional")
    return machine
