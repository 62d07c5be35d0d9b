# SPDX-License-Identifier: Apache-2.0
"""An attacker between a machine and its host, over real sockets and the production client: nothing that he sends
changes the machine's licence, and each thing is named by its code.

The machine holds a good licence from the real host.  Then it asks again through the attacker, and its stored licence
must stay the same to the byte.
"""

import dataclasses
import functools
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from support.processes import ADDRESS, Server, serving, volact
from support.proxy import Attack, Call, attacked, ok, reply
from support.site import PRODUCT, Machine, Vendor, make_request, now, served
from volact.client.activation import online
from volact.client.discovery.routes import GIVEN, Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.core.encoding import b64decode, b64encode
from volact.core.errors import VolactError
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.core.refusal import HostNotActivatedError, Refusal
from volact.host.folder import HostFolder
from volact.sealing import envelope, jws, proof, sign, verify
from volact.sealing.certificates import Role
from volact.sealing.envelope import HYBRID, X25519
from volact.sealing.keys import LocalKey
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP, KmsHostSimulator, PublisherSimulator
from volact.testing.machines import machine_name, simulated_traits
from volact.wire.client import MAX_ANSWER, ServerError
from volact.wire.client import Server as HostAddress

DAY = 86400


@dataclasses.dataclass
class Past:
    """The publisher's clock: certificates can be made that are older than the test."""

    shift: int = 0

    def __call__(self) -> int:
        return now() + self.shift


@dataclasses.dataclass
class Wire:
    """The real host, its publisher, and a machine that it has licensed."""

    vendor: Vendor
    host: HostFolder
    server: Server
    machine: Machine

    def under(self, attack: Attack) -> dict[str, object]:
        """The machine asks through the attacker."""
        with attacked(self.server.port, attack) as port:
            return self.ask(port)

    def ask(self, port: int) -> dict[str, object]:
        """What ``volact client activate`` says, after a look that the licence has not changed."""
        before = self.machine.licence
        row = self.machine.activate_at(port)
        assert self.machine.licence == before, "the stored licence has changed"
        assert row["licensed"]
        assert self.machine.status()["state"] == "licensed"
        return row

    def code(self, port_or_attack: int | Attack) -> str:
        row = self.ask(port_or_attack) if isinstance(port_or_attack, int) else self.under(port_or_attack)
        error = row["error"]
        assert isinstance(error, dict), f"the attack went unnoticed: {row}"
        attempts = error["fields"]["attempts"]
        assert [attempt["code"] for attempt in attempts] == [error["code"]]
        assert self.machine.status()["last_attempt"]["code"] == error["code"]
        return str(error["code"])


@pytest.fixture(scope="module")
def site(tmp_path_factory, pick_port):
    folder = tmp_path_factory.mktemp("attacks")
    clock = Past(-30 * DAY)
    vendor = Vendor.make(folder, clock=clock, threshold=1)
    clock.shift = 0
    host = vendor.give_host(folder / "host")
    machine = Machine.make(folder / "machine", 1, vendor)
    with serving(host.path, pick_port()) as server:
        row = machine.activate_at(server.port)
        assert row["licensed"], row
        yield Wire(vendor, host, server, machine)


@pytest.fixture
def wire(site: Wire, tmp_path: Path) -> Wire:
    """The licensed machine, in a folder that this test may ruin."""
    shutil.copytree(site.machine.folder, tmp_path / "machine")
    return dataclasses.replace(site, machine=Machine(tmp_path / "machine", 1))


def instead(method: str, make: Callable[[Call], bytes | None]) -> Attack:
    """Interfere with one method only; the other reaches the real host."""
    return lambda call: make(call) if call.method == method else call.forward()


# ---- somebody else answers


def test_a_host_of_another_publisher_is_not_believed(wire):
    rogue = KmsHostSimulator(
        PublisherSimulator("Acme Software", wire.vendor.publisher.clock),
        wire.vendor.definition,
        frozenset({CLIENT_GROUP}),
        wire.vendor.publisher.clock,
    )
    with served(rogue) as port:
        assert wire.code(port) == "issuer-untrusted"
    assert rogue.requests == [], "the machine told an impostor nothing"


@pytest.mark.parametrize("role", [Role.VM_HOST, Role.PUBLISHER, Role.OEM, Role.DEFINITION, Role.REVOCATION])
def test_a_certificate_of_another_role_does_not_make_a_host(wire, role):
    rogue = _host_of(wire)
    rogue.issuer = wire.vendor.publisher.issuer(LocalKey.generate(), role, "Contoso", (CLIENT_GROUP,))
    with served(rogue) as port:
        assert wire.code(port) == "role-not-allowed"


def test_a_host_refuses_a_group_that_it_has_no_key_for_and_one_that_does_not_is_noticed(wire):
    with served(_host_of(wire, groups=(SERVER_GROUP,))) as port:
        assert wire.code(port) == "group-not-granted"

    class Overstepping(KmsHostSimulator):
        def activate(self, issuer: str, sealed: bytes) -> bytes:
            self.groups = frozenset({CLIENT_GROUP, SERVER_GROUP})  # of the rules; its certificate stays as it is
            return super().activate(issuer, sealed)

    with served(_host_of(wire, Overstepping, groups=(SERVER_GROUP,))) as port:
        assert wire.code(port) == "group-not-certified"


def test_a_licence_signed_by_the_definition_key_is_not_believed(wire):
    class Confused(KmsHostSimulator):
        def activate(self, issuer: str, sealed: bytes) -> bytes:
            self.issuer = self.publisher._definitions
            return super().activate(issuer, sealed)

    with served(_host_of(wire, Confused)) as port:
        assert wire.code(port) == "role-not-allowed"


def test_a_revoked_host_is_not_believed(wire):
    publisher = PublisherSimulator("Beta Tools", wire.vendor.publisher.clock)
    definition = publisher.definition("beta-tool", threshold=1)
    file = wire.machine.folder.parent / "beta.volproduct"
    file.write_text(publisher.sign_definition(definition))
    vendor = Vendor(publisher, definition, file)
    host = KmsHostSimulator(publisher, definition, frozenset({CLIENT_GROUP}), publisher.clock)
    machine = Machine.make(wire.machine.folder.parent / "other", 2, vendor)
    with served(host) as port:
        assert machine.activate_at(port)["licensed"]
        publisher.revoke(host.issuer)
        host.status = publisher.status_token()
        before = machine.licence
        row = machine.activate("--host", f"localhost:{port}")  # another name, so that it is asked for its descriptor
        assert row["error"]["code"] == "issuer-key-revoked"
        assert machine.licence == before


# ---- what was true once


def test_an_answer_that_was_given_before_is_not_taken_again(wire):
    taken: list[bytes] = []

    def record(call: Call) -> bytes:
        taken.append(call.forward())
        return taken[-1]

    with attacked(wire.server.port, instead("Activate", record)) as port:  # the first pass only listens
        assert wire.machine.activate_at(port)["error"] is None
    assert wire.code(instead("Activate", lambda _: taken[0])) == "seal-broken"


def test_a_descriptor_that_was_given_before_is_not_taken_again(wire):
    taken: list[bytes] = []

    def record(call: Call) -> bytes:
        taken.append(call.forward())
        return taken[-1]

    with attacked(wire.server.port, instead("GetIssuer", record)) as port:
        assert wire.machine.activate_at(port)["error"] is None
    assert wire.code(instead("GetIssuer", lambda _: taken[0])) == "nonce-mismatch"


def test_a_licence_sealed_again_for_a_new_request_is_still_of_the_old_one(wire):
    class Lazy(KmsHostSimulator):
        """A certified host that signs once and seals the same licence for everyone."""

        token = ""

        def activate(self, issuer: str, sealed: bytes) -> bytes:
            answer = super().activate(issuer, sealed)
            request = proof.verify_request(self.opening.open_request(sealed).decode()).request
            fresh = envelope.open_answer(request.response_key, request.nonce, answer).decode()
            self.token = self.token or fresh
            return envelope.seal_answer(request.response_key, request.nonce, self.token.encode())

    with served(_host_of(wire, Lazy)) as port:
        assert wire.machine.activate_at(port)["error"] is None
        assert wire.code(port) == "nonce-mismatch"


def test_an_answer_from_a_host_whose_clock_is_wrong_is_stale(wire):
    """An honest host refuses; this one has a definition of its own that tolerates a day."""
    tolerant = wire.vendor.publisher.definition(clock_tolerance_minutes=1440)
    rogue = _old_host_of(wire)
    rogue.definition, rogue.clock = tolerant, lambda: now() - 5 * 3600
    with served(rogue) as port:
        assert wire.code(port) == "answer-stale"


def test_a_host_whose_clock_is_wrong_says_so_and_the_licence_stays(wire):
    rogue = _old_host_of(wire)
    rogue.clock = lambda: now() - 5 * 3600
    with served(rogue) as port:
        assert wire.code(port) == "clock-skew"


# ---- weaker seals


def test_a_host_with_a_weaker_suite_than_the_policy_asks_for_is_refused(tmp_path, pick_port):
    vendor = Vendor.make(tmp_path, threshold=1, suites=(HYBRID,))
    strong = vendor.give_host(tmp_path / "strong", suite=HYBRID)
    weak = vendor.give_host(tmp_path / "weak", suite=X25519)
    machine = Machine.make(tmp_path / "machine", 1, vendor)
    with serving(strong.path, pick_port()) as server, serving(weak.path, pick_port()) as downgraded:
        assert machine.activate_at(server.port)["licensed"]
        wire = Wire(vendor, strong, server, machine)
        assert wire.code(downgraded.port) == "suite-not-allowed"

        def downgrade(call: Call) -> bytes:
            """The weak host's genuine descriptor, for this very nonce, in the strong host's place."""
            return dataclasses.replace(call, port=downgraded.port).forward()

        assert wire.code(instead("GetIssuer", downgrade)) == "suite-not-allowed"


def test_a_descriptor_with_another_suite_or_key_written_into_it_is_not_believed(wire):
    def rewrite(call: Call) -> bytes:
        header, claims, signature = call.forward_json()["descriptor"].split(".")
        value = json.loads(b64decode(claims, "claims"))
        value["volact"]["suite"] = HYBRID
        text = b64encode(json.dumps(value, separators=(",", ":")).encode())
        return ok({"descriptor": ".".join((header, text, signature))})

    assert wire.code(instead("GetIssuer", rewrite)) == "signature-invalid"


def test_a_descriptor_signed_by_the_attacker_under_the_hosts_certificate_is_not_believed(wire):
    def resign(call: Call) -> bytes:
        header, claims, _ = call.forward_json()["descriptor"].split(".")
        signature = jws.raw_signature(LocalKey.generate().private, f"{header}.{claims}".encode())
        return ok({"descriptor": f"{header}.{claims}.{b64encode(signature)}"})

    assert wire.code(instead("GetIssuer", resign)) == "signature-invalid"


# ---- refusals and noise


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply(400, b'{"code":"failed_precondition","message":"host-not-activated: no key"}'), "server-error"),
        (reply(500, b'{"code":"internal","message":"internal: see the log"}'), "server-error"),
        (reply(503, b"<html>unavailable</html>", "text/html"), "not-a-volact-server"),
        (reply(302, b"", "text/plain"), "not-a-volact-server"),
        (reply(200, b"<html>captive portal</html>", "text/html"), "not-a-volact-server"),
        (reply(200, b'{"sealed": 5}'), "not-a-volact-server"),
        (reply(200, b'{"sealed": "not base64!"}'), "not-a-volact-server"),
        (reply(200, b'{"sealed": "AAAA"}'), "malformed"),
        (reply(200, b'{"sealed": "' + b"A" * 64 + b'"}'), "seal-broken"),
        (reply(200, b'{"sealed": "' + b"A" * 400_000 + b'"}'), "not-a-volact-server"),
        (reply(200, b"{}")[:-1] + b"\xff\xfe" * 1000, "not-a-volact-server"),
        (b"\x16\x03\x01 this is no HTTP\r\n\r\n", "not-a-volact-server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n", "not-a-volact-server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", "not-a-volact-server"),
        (None, "not-a-volact-server"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_unsigned_refusal_or_noise_is_only_a_hint_about_the_network(wire, answer, code):
    assert wire.code(instead("Activate", lambda _: answer)) == code


def _always(answer: bytes, _: Call) -> bytes:
    return answer


def test_noise_in_the_place_of_a_descriptor_is_named_too(wire):
    for answer, code in (
        (reply(404, b"not found\n", "text/plain"), "not-a-volact-server"),
        (ok({"descriptor": "a.b.c"}), "malformed"),
        (ok({"sealed": "AAAA"}), "not-a-volact-server"),
        (ok({"descriptor": "A" * (MAX_ANSWER + 1)}), "not-a-volact-server"),
    ):
        assert wire.code(instead("GetIssuer", functools.partial(_always, answer))) == code


def test_an_answer_cut_anywhere_is_noticed(wire):
    random = Random(20)

    def cut(call: Call) -> bytes:
        whole = call.forward_json()
        text = whole["sealed"]
        return ok({"sealed": text[: random.randrange(44, len(text)) // 4 * 4]})

    for _ in range(5):
        assert wire.code(instead("Activate", cut)) == "seal-broken"


def test_an_answer_changed_in_one_byte_is_noticed(wire):
    def flip(call: Call) -> bytes:
        text = call.forward_json()["sealed"]
        return ok({"sealed": text[:100] + ("A" if text[100] != "A" else "B") + text[101:]})

    assert wire.code(instead("Activate", flip)) == "seal-broken"


def test_a_request_changed_on_its_way_is_refused_by_the_host_and_counts_nobody(wire):
    def flip(call: Call) -> bytes:
        text = call.json["sealed"]
        return call.forward(json.dumps({**call.json, "sealed": text[:100] + "AAAA" + text[104:]}).encode())

    before = _count(wire)
    row = wire.under(instead("Activate", flip))
    assert row["error"]["code"] == "server-error"
    assert "seal-broken" in row["error"]["message"]
    assert _count(wire) == before


def test_a_signed_refusal_is_believed_and_takes_nothing_away(wire):
    rogue = _host_of(wire)
    rogue.refuse = Refusal.of(HostNotActivatedError, product=PRODUCT)
    with served(rogue) as port:
        assert wire.code(port) == "host-not-activated"


def test_a_server_that_never_ends_its_answer_or_dribbles_it_holds_nobody_up(wire):
    """The same client room with less patience, so that the test need not have the production's thirty seconds."""
    released = threading.Event()

    def dribble(call: Call) -> None:
        call.client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
        while not released.wait(0.05):
            call.client.sendall(b"A")

    def silent(call: Call) -> None:
        released.wait(20)

    for attack in (dribble, silent):
        released.clear()
        before = wire.machine.licence
        with attacked(wire.server.port, instead("Activate", attack)) as port:
            with pytest.raises(VolactError) as caught:
                _activate(wire.machine, port, timeout=0.4)
            released.set()
        assert caught.value.code == "host-unreachable"
        assert wire.machine.licence == before


# ---- speaking for others


def test_nobody_can_speak_for_another_machine(wire):
    """A request in a victim's name, signed by the attacker: unproven, and the victim's row stays as it is."""
    victim = LocalKey.generate()
    opening = wire.host.host_keys()[0].opening_key(wire.host.passphrase())
    honest = make_request(wire.vendor, opening, 7, key=victim, name="victim")
    host = HostAddress(ADDRESS, wire.server.port)
    host.activate(opening.id, honest.sealed)
    before, row = _count(wire), _row(wire, honest.machine)
    assert row["name"] == "victim"

    forged = sign.MachineSigner(LocalKey.generate())
    forged._header = sign.MachineSigner(victim)._header  # the victim's key in the header, another's signature
    request = dataclasses.replace(honest.request, name="attacker", nonce=bytes(16))
    sealed = envelope.seal_request(opening.suite, opening.public, forged.request(request).encode())
    with pytest.raises(ServerError) as caught:
        host.activate(opening.id, sealed)
    assert "request-unproven" in str(caught.value)
    assert _count(wire) == before
    assert _row(wire, honest.machine) == row
    events = volact("host", "events", "--dir", wire.host.path, "--code", "request-unproven", "--json").json
    assert events
    assert events[-1]["machine"] is None, "nobody is named for what somebody else has sent"


def test_a_licence_for_another_machine_is_not_taken(wire):
    class Mixed(KmsHostSimulator):
        def _license(self, proven, accepted, now):
            return super()._license(dataclasses.replace(proven, machine=bytes(32)), accepted, now)

    with served(_host_of(wire, Mixed)) as port:
        assert wire.code(port) == "machine-mismatch"


def test_a_licence_for_another_edition_or_longer_than_the_policy_is_not_taken(wire):
    class Generous(KmsHostSimulator):
        def activate(self, issuer: str, sealed: bytes) -> bytes:
            self.definition = self.publisher.definition(lease_days=366)
            return super().activate(issuer, sealed)

    class Mistaken(KmsHostSimulator):
        def _license(self, proven, accepted, now):
            request = dataclasses.replace(proven.request, edition="server")
            return super()._license(dataclasses.replace(proven, request=request), accepted, now)

    for kind, code in ((Generous, "lease-too-long"), (Mistaken, "licence-mismatch")):
        with served(_host_of(wire, kind)) as port:
            assert wire.code(port) == code


def test_the_attackers_own_licence_put_into_a_machines_folder_is_worth_nothing(wire):
    publisher = PublisherSimulator("Acme Software", wire.vendor.publisher.clock)
    issuer = publisher.issuer(LocalKey.generate(), Role.KMS_HOST, "Contoso", (CLIENT_GROUP,))
    genuine = Licence.from_claim(jws.parse(wire.machine.licence.decode().strip(), verify.LICENCE).claims())
    path = wire.machine.folder / "products" / PRODUCT / "answers" / f"{Channel.VOLUME}.vollicence"
    for other in path.parent.iterdir():
        other.unlink()
    path.write_text(issuer.licence(genuine))
    assert wire.machine.status()["licensed"] is False


def _host_of(wire: Wire, kind: type[KmsHostSimulator] = KmsHostSimulator, groups=(CLIENT_GROUP, SERVER_GROUP)):
    """A host that the machine's own publisher has certified."""
    publisher = wire.vendor.publisher
    return kind(publisher, wire.vendor.definition, frozenset(groups), publisher.clock)


def _old_host_of(wire: Wire) -> KmsHostSimulator:
    """Certified a day ago, so that it can answer with yesterday's clock."""
    clock = wire.vendor.publisher.clock
    assert isinstance(clock, Past)
    clock.shift = -DAY
    try:
        return _host_of(wire)
    finally:
        clock.shift = 0


def _activate(machine: Machine, port: int, timeout: float) -> online.Outcome:
    local = LocalMachine(lambda: simulated_traits(machine.number), lambda: machine_name(machine.number))
    route = Route(HostAddress(ADDRESS, port, timeout=timeout), f"{ADDRESS}:{port}", GIVEN)
    return online.activate(PRODUCT, ClientStore(machine.folder), [route], local, now, Random(1))


def _count(wire: Wire) -> int:
    groups = volact("host", "status", "--dir", wire.host.path, "--json").json["groups"]
    return int(next(group["count"] for group in groups if group["group"] == CLIENT_GROUP))


def _row(wire: Wire, machine: bytes) -> dict[str, object]:
    rows = volact("host", "machines", "--dir", wire.host.path, "--json").json
    return dict(next(row for row in rows if row["machine"] == machine.hex()))
