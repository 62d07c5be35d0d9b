# SPDX-License-Identifier: Apache-2.0
"""Returns that a TPM's counter vouches for (docs/spec/returns.md §5), with real TPM software: swtpm and tpm2-pytss."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.client_machine import ClientMachine
from support.phone_desk import Online
from support.processes import good, volact
from support.tpm import Maker, running
from volact.client.activation import online, returns
from volact.client.activation.returns import NothingToReturnError
from volact.client.check import Check
from volact.client.discovery.resolver import DnsResolver
from volact.client.discovery.routes import Route
from volact.client.doctor.examination import Examination, Surroundings
from volact.client.doctor.walk import examine
from volact.client.products import installing
from volact.client.service.events import Log
from volact.client.service.rounds import run_round
from volact.core.counter import READING, Attested
from volact.core.errors import MalformedError, TrustError
from volact.core.licence import Licence
from volact.core.states import State
from volact.publisher.answering.vouching import Makers
from volact.sealing import attestation
from volact.sealing.attestation import CounterUnprovenError
from volact.sealing.returns import verify_return
from volact.sealing.tpm import TpmCounter, TpmError

pytestmark = pytest.mark.needs("swtpm", "tpm2-pytss")
PRODUCT, HOUR, DAY = "acme-cad", 3600, 86400
M, N = b"m" * 32, b"n" * 16


@pytest.fixture
def tpm(tmp_path: Path, pick_port: Callable[[], int]) -> Iterator[str]:
    port = pick_port()
    pick_port()
    with running(tmp_path / "tpm", port) as tcti:
        yield tcti


@pytest.fixture
def maker(site, tpm: str) -> Maker:
    """Endorsed the TPM, and is accepted by the publisher."""
    made = Maker()
    made.endorse(tpm)
    Makers(site.folder.path).add(made.certificate)
    return made


class Bound(ClientMachine):
    """A machine with a MAK and its key in a TPM, of a whole publisher's site."""

    site: Any  # the one of this folder's conftest.py

    def __init__(self, folder: Path, site, key: str, tcti: str, number: int = 1) -> None:
        super().__init__(folder, site, number, site.clock)
        self.key, self.tcti = key, tcti
        installing.add_product(
            self.store, site.publisher.store.version(PRODUCT, None).token, self.root, 0, self.clock()
        )
        self.store.bind_tpm(tcti)
        self.install()

    @property
    def root(self) -> str:
        return self.site.folder.fingerprint

    def install(self) -> None:
        installing.install_key(self.store, PRODUCT, self.key, "professional")

    def ask(self) -> Licence:
        route = Route(Online(self.site.service), "publisher", "given")
        found = online.activate(PRODUCT, self.store, [route], self.local, self.clock, self.random)
        assert found.evaluation.licensed
        return found.licence

    def give_back(self):
        given = returns.give_back(PRODUCT, self.store, self.clock)
        return returns.report(given, self.store, Online(self.site.service), self.clock).receipt

    def examine(self) -> Examination:
        """What the doctor says; no host is asked, for what is wrong is on the machine itself."""
        return examine(PRODUCT, self.store, Surroundings(self.local, DnsResolver(), self.clock, Random(1)))

    def round(self, because: str = "start"):
        def nobody(product: str):
            raise AssertionError("a permanent licence asks nobody")

        store = self.store
        return run_round(
            store, self.local, nobody, self.clock, Random(1), Log(self.folder, self.clock), because=because
        )

    @property
    def state(self) -> State:
        return self.evaluate().state

    def check(self, root: str | None = None, min_version: int = 0) -> Check:
        return super().check(self.root if root is None else root, min_version)


@pytest.fixture
def bound(site, tmp_path: Path, tpm: str) -> Callable[..., Bound]:
    def make(key: str, number: int = 1) -> Bound:
        return Bound(tmp_path / f"machine{number}", site, key, tpm, number)

    return make


@pytest.mark.parametrize("kind", ["EK-ECC256", "EK-RSA2048"])
def test_only_the_tpm_with_both_keys_takes_the_secret_out(
    kind: str, tpm: str, tmp_path: Path, pick_port: Callable[[], int]
) -> None:
    maker, counter = Maker(), TpmCounter(tpm, 0x01A00001)
    maker.endorse(tpm, kind)
    counter.prepare()
    state = attestation.verify_attested(counter.certify(attestation.qualifying("x", M, N)), "x", M, N)
    endorsement = attestation.verify_endorsement(counter.endorsement() or b"", [maker.certificate], 1_800_000_000)
    secret = secrets.token_bytes(32)
    credential = attestation.make_credential(endorsement, state.key, secret, os.urandom(32))
    assert counter.take_out(credential) == secret
    with pytest.raises(TpmError):  # for another key than the one that certifies
        counter.take_out(attestation.make_credential(endorsement, bytes(34), secret, os.urandom(32)))
    port = pick_port()
    pick_port()
    with running(tmp_path / "other", port) as other:
        maker.endorse(other, kind)
        with pytest.raises(TpmError):
            TpmCounter(other, 0x01A00001).take_out(credential)


def test_a_statement_is_for_one_message_and_every_byte_of_it_counts(tpm: str) -> None:
    counter = TpmCounter(tpm, 0x01A00002)
    counter.prepare()
    good = counter.certify(attestation.qualifying("return", M, N))
    state = attestation.verify_attested(good, "return", M, N)
    assert state.value == 1
    for purpose, machine, nonce in (("activation", M, N), ("return", N * 2, N), ("return", M, bytes(16))):
        with pytest.raises(CounterUnprovenError):
            attestation.verify_attested(good, purpose, machine, nonce)
    random = Random(7)
    for name in ("key", "index", "statement", "signature"):
        area = getattr(good, name)
        for place in range(len(area)):
            changed = bytearray(area)
            changed[place] ^= 1 << random.randrange(8)
            for bad in (bytes(changed), area[:place], area + b"\0"):
                if name == "signature" and len(bad) != len(area):
                    continue  # refused before, by its size
                with suppress(TrustError, MalformedError):  # what goes through is another key, by its name
                    found = attestation.verify_attested(replace(good, **{name: bad}), "return", M, N)
                    assert name == "key"
                    assert found.key != state.key


def test_an_index_that_is_no_counter_and_a_key_that_signs_anything_prove_nothing(tpm: str) -> None:
    import tpm2_pytss as tss

    counter = TpmCounter(tpm, 0x01A00003)
    counter.prepare()
    good = counter.certify(attestation.qualifying("return", M, N))
    attributes = int.from_bytes(good.index[6:10])
    for wrong in (attributes & ~0xF0, attributes & ~(1 << 29), attributes | 1 << 26):
        index = good.index[:6] + wrong.to_bytes(4) + good.index[10:]
        with pytest.raises(CounterUnprovenError):
            attestation.verify_attested(replace(good, index=index), "return", M, N)
    with tss.ESAPI(tpm) as esapi:
        plain = "sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"
        template = tss.TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=plain)
        _, public, *_ = esapi.create_primary(tss.TPM2B_SENSITIVE_CREATE(), template, tss.ESYS_TR.OWNER)
        area = bytes(public.publicArea.marshal())
    with pytest.raises(CounterUnprovenError, match="signs more"):
        attestation.verify_attested(Attested(area, good.index, good.statement, good.signature), "return", M, N)


def test_a_return_that_the_counter_vouches_for_is_credited_without_a_cap(site, bound, maker) -> None:
    key = site.pool_key(1)
    machine = bound(key)
    for time in range(13):  # the cap of a key and year is 10
        machine.install()
        licence = machine.ask()
        assert licence.counter is not None
        assert licence.counter.value == 1 + time
        receipt = machine.give_back()
        assert (receipt.credited, receipt.remaining) == (True, 1)
        assert machine.state is State.UNLICENSED
    site.publisher.store.check_ledger()
    rows = [row for row in site.publisher.store.ledger() if row.act == "machine-returned"]
    assert len(rows) == 13
    assert all('"by":"tpm-counter"' in row.data for row in rows)


def test_what_a_counter_vouched_for_uses_up_nothing_of_the_cap(site, bound, maker) -> None:
    key = site.pool_key(2)
    machine = bound(key)
    for _ in range(10):
        machine.install()
        machine.ask()
        assert machine.give_back().credited
    other = site.machine(2)
    assert other.give_back(other.ask(key).licence).credited


def test_a_restored_snapshot_gains_nothing_where_a_counter_vouched(site, bound, maker, tmp_path: Path) -> None:
    """The attack of docs/spec/returns.md §4 on a machine with a TPM."""
    machine = bound(site.pool_key(1))
    machine.ask()
    shutil.copytree(machine.folder, tmp_path / "snapshot")
    assert machine.give_back().credited
    shutil.rmtree(machine.folder)
    (tmp_path / "snapshot").rename(machine.folder)
    assert machine.check().licensed  # nobody who may use the TPM has looked yet
    machine.round()
    assert not machine.check().licensed
    assert machine.state is State.INITIAL_GRACE
    # Nor is there anything to give back a second time.
    again = returns.give_back(PRODUCT, machine.store, machine.clock)
    proven = verify_return(again.returned.proof)
    (outcome,) = site.service.answer_proven([proven])
    assert outcome.refusal.code == "activation-returned"


def test_a_restored_snapshot_that_nobody_looks_at_is_bounded_by_the_age_of_its_reading(
    site, bound, maker, tmp_path: Path
) -> None:
    machine = bound(site.pool_key(1))
    machine.ask()
    site.clock.now += 3 * DAY
    machine.round("due")
    shutil.copytree(machine.folder, tmp_path / "snapshot")
    machine.give_back()
    shutil.rmtree(machine.folder)
    (tmp_path / "snapshot").rename(machine.folder)
    site.clock.now += READING - HOUR
    assert machine.check().licensed
    site.clock.now += 2 * HOUR
    found = machine.check()
    assert found.state is State.OUT_OF_TOLERANCE_GRACE
    assert found.reason.code == "tpm-counter-unread"
    walked = machine.examine()
    assert walked.cause is not None
    assert walked.cause.code == "tpm-counter-unread"
    assert [step.ok for step in walked.steps if step.what == "TPM counter"] == [False]
    site.clock.now += 31 * DAY
    assert machine.check().state is State.NOTIFICATION


def test_a_machine_in_use_stays_licensed_for_good_by_the_rounds_of_its_service(site, bound, maker) -> None:
    machine = bound(site.pool_key(1))
    machine.ask()
    for _ in range(60):
        site.clock.now += 25 * DAY
        assert machine.round("due").licensed == 1
    assert machine.check().licensed


def test_a_virtual_tpm_that_is_copied_gains_what_its_maker_is_trusted_for(
    site, tmp_path: Path, pick_port: Callable[[], int]
) -> None:
    """The bound of docs/spec/returns.md §5: whose TPM state can be copied must not be an accepted maker."""
    key, maker = site.pool_key(1), Maker("A hypervisor")
    port = pick_port()
    pick_port()
    with running(tmp_path / "tpm", port) as tcti:
        maker.endorse(tcti)
        machine = Bound(tmp_path / "machine", site, key, tcti)
        assert machine.ask().counter is None  # not accepted: licensed as any other, and returned within the cap
        assert machine.give_back().credited
        Makers(site.folder.path).add(maker.certificate)
        machine.install()
        assert machine.ask().counter is not None
    for what in ("machine", "tpm"):
        shutil.copytree(tmp_path / what, tmp_path / f"{what}-snapshot")
    with running(tmp_path / "tpm", port):
        assert machine.give_back().credited
    for what in ("machine", "tpm"):
        shutil.rmtree(tmp_path / what)
        (tmp_path / f"{what}-snapshot").rename(tmp_path / what)
    with running(tmp_path / "tpm", port):
        machine.round()
        assert machine.check().licensed  # one more than was bought, each time that it is done


def test_a_licence_without_a_counter_among_them_puts_the_return_under_the_cap(
    site, bound, maker, tmp_path: Path
) -> None:
    """Else an unbound licence could be kept in a snapshot while the TPM vouches for a bound one."""
    key = site.pool_key(1)
    machine = bound(key)
    (path,) = (site.folder.path / "tpm-makers").iterdir()
    path.rename(tmp_path / path.name)
    assert machine.ask().counter is None
    (tmp_path / path.name).rename(path)
    os.utime(path.parent, ns=(1, 1))
    assert machine.ask().counter is not None
    machine.give_back()
    (row,) = [row for row in site.publisher.store.ledger() if row.act == "machine-returned"]
    assert "tpm-counter" not in row.data


def test_a_proof_shows_its_own_secret_and_a_counter_that_moved(site, bound, maker) -> None:
    machine = bound(site.pool_key(1))
    licence = machine.ask()
    given = returns.give_back(PRODUCT, machine.store, machine.clock)
    proven = verify_return(given.returned.proof)
    shown = proven.value.counter
    assert shown is not None
    vouching = site.service._vouching
    (held,) = site.publisher.store.activations(licence.key_id)
    assert vouching.vouches(proven, held.counter)
    for wrong in (replace(shown, secret=bytes(32)), replace(shown, since=0), replace(shown, since=2)):
        assert not vouching.vouches(replace(proven, value=replace(proven.value, counter=wrong)), held.counter)
    assert not vouching.vouches(replace(proven, machine=bytes(32)), held.counter)
    assert not vouching.vouches(replace(proven, value=replace(proven.value, activation=bytes(16))), held.counter)
    assert not vouching.vouches(proven, None)
    assert not vouching.vouches(proven, bytes(32))


def test_power_that_goes_between_counting_and_keeping_the_proof_costs_nothing(site, bound, maker, monkeypatch) -> None:
    machine = bound(site.pool_key(1))
    machine.ask()
    with monkeypatch.context() as patched:
        patched.setattr(
            "volact.client.folder.store.ClientStore.save_returned", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            returns.give_back(PRODUCT, machine.store, machine.clock)
    assert not machine.check().licensed
    assert machine.give_back().credited
    with pytest.raises(NothingToReturnError):
        returns.give_back(PRODUCT, machine.store, machine.clock)


def test_a_tpm_without_a_certificate_and_one_that_is_gone_still_activate(site, bound, tmp_path: Path) -> None:
    machine = bound(site.pool_key(1))
    assert machine.ask().counter is None
    assert machine.give_back().credited


def test_makers_are_added_listed_and_removed_and_the_ledger_knows(site, tmp_path: Path) -> None:
    from volact.sealing import certificates

    file = tmp_path / "maker.pem"
    file.write_bytes(certificates.pem(Maker().certificate))
    words = ("publisher", "tpm-maker")
    where = ("--dir", site.folder.path, "--json")
    name = good(*words, "add", file, *where).json["fingerprint"]
    assert good(*words, "list", *where).json["makers"] == [{"fingerprint": name, "subject": "CN=Example TPM maker"}]
    good(*words, "remove", name, *where)
    assert good(*words, "list", *where).json["makers"] == []
    assert volact(*words, "remove", name, *where).json["error"]["code"] == "tpm-maker-unknown"
    assert volact(*words, "remove", "../keys/issuing", *where).json["error"]["code"] == "tpm-maker-unknown"
    (tmp_path / "not.pem").write_text("no")
    assert volact(*words, "add", tmp_path / "not.pem", *where).json["error"]["code"] == "tpm-maker-file"
    assert site.acts()[-2:] == ["tpm-maker-added", "tpm-maker-removed"]


def test_a_carried_request_offers_the_counter_too(site, bound, maker) -> None:
    from volact.client.activation import carried

    machine = bound(site.pool_key(1))
    file, _ = carried.write_request(machine.store, PRODUCT, machine.local, machine.clock(), secrets.token_bytes)
    answer, _ = site.service.answer_file(file)
    done = carried.apply(machine.store, PRODUCT, answer, machine.local, machine.clock(), Random(1))
    assert done.licence.counter is not None
    assert machine.give_back().credited
    (row,) = [row for row in site.publisher.store.ledger() if row.act == "machine-returned"]
    assert '"by":"tpm-counter"' in row.data
