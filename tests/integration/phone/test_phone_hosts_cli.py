# SPDX-License-Identifier: Apache-2.0
"""A KMS host that nothing reaches but a telephone: from its digits to a machine that it licenses, all of it typed."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from support.processes import good, serving
from support.site import Machine, RealPublisher
from support.typist import Typist, slow, wrong
from volact.core.phone import ConfirmationId
from volact.core.phone_site import parse_installation_id
from volact.host.application import load_serving, open_store
from volact.host.folder import HostFolder
from volact.sealing import certificates, jws, verify


class Vault:
    """A publisher with its operator, and a host's administrator, who talk to each other."""

    def __init__(self, folder: Path, kind: str = "kms-host", command: str = "host") -> None:
        self.publisher = RealPublisher.make(folder / "publisher")
        if kind == "vm-host":
            self.allow_nested()  # the machines that run these tests are virtual ones themselves
        self.key = self.publisher.host_key() if kind == "kms-host" else self.issue(kind)
        now = lambda: int(time.time())  # noqa: E731
        passphrase = {"VOLACT_PUBLISHER_PASSPHRASE_FILE": str(self.publisher.folder / "passphrase")}
        self.desk = Typist(self.publisher.folder / "publisher", ("publisher",), now, variables=passphrase)
        self.host = Typist(folder / "host", (command,), now)
        self.host.good("init")
        self.host.good("add-product", self.publisher.file, "--root", self.publisher.root)
        self.host.good("install-key", self.key)

    def allow_nested(self) -> None:
        toml = self.publisher.folder / "product.toml"
        newer = toml.read_text().replace("version = 1", "version = 2", 1)
        toml.write_text(newer + "\n[policy.guests]\nnested = true\n")
        self.publisher.run("product", "add", toml)
        self.publisher.run("product", "export", self.publisher.product, "-o", self.publisher.file)

    def issue(self, kind: str) -> str:
        words = ("--organisation", "Contoso", "--kind", kind, "--product", self.publisher.product)
        return str(self.publisher.run("key", "issue", *words, "--group", "acme-servers").json["key"])

    def call(self) -> Any:
        shown = self.host.good("installation-id")
        answered = self.desk.good("phone", lines=f"{slow(shown.digits)}{self.key[-5:]}\nMs Jones, vault\n")
        return self.host.good("apply", lines=slow(answered.digits)), answered


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path)


def test_a_host_is_activated_by_telephone_and_licenses_machines(vault: Vault, tmp_path: Path, free_port: int) -> None:
    applied, answered = vault.call()
    for said in ("customer: Contoso", "for a KMS host: ", "0 of 6 KMS hosts in use", "activated, until "):
        assert said in answered.err
    assert "activated: product groups " in applied.err
    with serving(vault.host.folder, free_port) as server:
        machine = machine_of(vault, tmp_path, 3)
        row = machine.activate_at(server.port)
        assert row["error"] is None
        assert (row["reason"]["code"], row["count"]) == ("count-below-threshold", 1)
        # a second year by a second call, while it serves
        first = HostFolder(vault.host.folder).host_keys()[0].certificates()[0]
        vault.host.good("installation-id", "--new")
        vault.call()
        assert HostFolder(vault.host.folder).host_keys()[0].certificates()[0] != first
        assert machine.activate_at(server.port)["error"] is None
    assert vault.desk.good("ledger", "verify").code == 0
    acts = [row["act"] for row in vault.publisher.run("ledger", "list").json]
    assert (acts.count("host-activated"), acts.count("phone-confirmed")) == (1, 2)


def test_wrong_groups_are_named_while_they_are_typed_and_another_s_answer_at_the_first(vault: Vault) -> None:
    groups = vault.host.good("installation-id", "--json").json["groups"]
    lines = [*groups[:4], wrong(groups[4]), *groups[4:], vault.key[-5:], "why"]
    answered = vault.desk.good("phone", lines="\n".join(lines) + "\n")
    assert "mistake in group 5" in answered.err
    first = parse_installation_id(" ".join(groups))
    while True:  # one serial in ten thousand has the same four digits
        other = parse_installation_id(vault.host.good("installation-id", "--text", "--new").out)
        if other.reference != first.reference:
            break
    refused = vault.host.type("apply", lines=slow(answered.digits)[:8])
    assert refused.code == 1
    assert "this confirmation ID answers another installation ID" in refused.err
    assert not HostFolder(vault.host.folder).host_keys()[0].activated


def test_a_confirmation_id_of_another_host_activates_nothing(vault: Vault, tmp_path: Path) -> None:
    mine = parse_installation_id(vault.host.good("installation-id", "--text").out)
    options = ("--installation-id", str(mine), "--key", vault.key, "--reason", "why", "--text")
    confirmation = ConfirmationId.parse(vault.desk.good("phone", *options).out)
    other = Typist(tmp_path / "other", ("host",), vault.host.clock)
    other.good("init")
    other.good("add-product", vault.publisher.file, "--root", vault.publisher.root)
    other.good("install-key", vault.key)
    shown = parse_installation_id(other.good("installation-id", "--text").out)
    forged = ConfirmationId(shown.reference, confirmation.signature)
    refused = other.type("apply", str(forged), terminal=False)
    assert (refused.code, refused.out) == (1, "")
    assert "confirmation ID was not made for this installation ID" in refused.err
    assert not HostFolder(tmp_path / "other").host_keys()[0].activated
    codes = [row["code"] for row in other.good("events", "--json").json]
    assert "host-activation-failed" in codes


def test_the_seventh_host_is_refused_at_the_desk(vault: Vault, tmp_path: Path) -> None:
    limited = vault.publisher.run(
        "key", "issue", "--organisation", "Contoso", "--kind", "kms-host", "--product", vault.publisher.product,
        "--group", "acme-servers", "--hosts", 1,
    ).json["key"]  # fmt: skip
    codes = []
    for number in range(2):
        host = Typist(tmp_path / f"host{number}", ("host",), vault.host.clock)
        host.good("init")
        host.good("add-product", vault.publisher.file, "--root", vault.publisher.root)
        host.good("install-key", limited)
        text = host.good("installation-id", "--text").out.strip()
        done = vault.desk.type(
            "phone", "--installation-id", text, "--key", limited, "--reason", "why", "--json", terminal=False
        )
        codes.append(done.json.get("error", {}).get("code"))
    assert codes == [None, "host-limit-reached"]


def test_a_vm_host_is_activated_by_telephone(tmp_path: Path) -> None:
    vault = Vault(tmp_path, "vm-host", "vm")
    applied, answered = vault.call()
    assert "for a VM host: " in answered.err
    assert "activated: product groups " in applied.err


def test_a_client_without_the_phone_extra_refuses_such_a_host_by_name(
    vault: Vault, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.call()
    with serving(vault.host.folder, free_port) as server:
        machine = machine_of(vault, tmp_path, 4)
        from volact.sealing import phone_certificates

        phone_certificates._check_signature.cache_clear()
        monkeypatch.setitem(sys.modules, "pyblst", None)
        row = machine.activate_at(server.port)
        assert row["error"]["code"] == "phone-part-missing"


def test_a_revoked_host_is_refused_once_the_status_is_known(vault: Vault, tmp_path: Path, free_port: int) -> None:
    _, _ = vault.call()
    activated = next(r for r in vault.publisher.run("ledger", "list").json if r["act"] == "host-activated")
    vault.publisher.run("revoke", "host", activated["data"]["machine"][:28], "--reason", "stolen")
    status = tmp_path / "acme.volstatus"
    vault.publisher.run("status", "export", "-o", status)
    applied = vault.host.good("status-update", status, "--json")
    assert applied.json[0]["revoked_keys"] == [vault.key[-5:]]
    with serving(vault.host.folder, free_port) as server:
        assert machine_of(vault, tmp_path, 5).activate_at(server.port)["error"]["code"] == "issuer-key-revoked"


def test_a_host_serves_no_definition_whose_key_turns_out_to_be_revoked(vault: Vault, tmp_path: Path) -> None:
    vault.call()
    folder = HostFolder(vault.host.folder)
    store = open_store(folder)
    assert len(load_serving(folder, store, "vault")[0].definitions) == 1
    token = vault.publisher.file.read_text().strip()
    signer = certificates.load_der(jws.parse(token, verify.DEFINITION).x5c[0])
    thumbprint = certificates.key_thumbprint(certificates.public_key_of(signer)).hex()
    vault.publisher.run("revoke", "issuer", thumbprint, "--since", "2026-01-01", "--reason", "stolen")
    status = tmp_path / "acme.volstatus"
    vault.publisher.run("status", "export", "-o", status)
    vault.host.good("status-update", status)
    with pytest.raises(verify.RevokedError):
        load_serving(folder, store, "vault")
    refused = vault.host.type("add-product", vault.publisher.file, terminal=False)
    assert "has revoked the key that signed the product definition" in refused.err
    store.close()


def machine_of(vault: Vault, folder: Path, number: int) -> Machine:
    machine = Machine(folder / f"machine{number}", number)
    words = (vault.publisher.file, "--root", vault.publisher.root, "--dir", machine.folder)
    good("client", "add-product", *words, machine=number)
    machine.good("install-key", machine.product, "--generic", "--edition", "professional")
    return machine
