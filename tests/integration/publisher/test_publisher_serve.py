# SPDX-License-Identifier: Apache-2.0
"""``volact publisher serve`` as a real process: activation over TCP, several workers, kill -9, restart."""

import base64
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509

from volact.core.errors import TransportError
from volact.core.product_key import Channel
from volact.core.refusal import SignedRefusal
from volact.publisher.folder.hardware import KeyMaker, load
from volact.publisher.folder.rotation import rotate
from volact.sealing.answers import verify_descriptor
from volact.sealing.verify import TrustedLicence
from volact.wire.client import Server, ServerError

PATIENCE = 30
PASSPHRASE = b"a passphrase for tests"


class Service:
    """The process; ``kill`` takes its workers with it, as a power cut would."""

    def __init__(self, path, port, workers):
        self.port = port
        passphrase = path.parent / "passphrase"
        passphrase.write_text("a passphrase for tests\n")
        command = [sys.executable, "-m", "volact.cli.main", "publisher", "serve", "--dir", str(path)]
        options = ["--listen", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
        self.process = subprocess.Popen(
            [*command, *options, "--passphrase-file", str(passphrase)],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._wait_until_ready()

    @property
    def server(self):
        return Server("127.0.0.1", self.port, timeout=PATIENCE)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.communicate(timeout=PATIENCE)[1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=PATIENCE)[1]

    def _wait_until_ready(self):
        assert self.process.stderr is not None
        self.first_line = self.process.stderr.readline()
        deadline = time.monotonic() + PATIENCE
        while not self._is_ready():
            assert time.monotonic() < deadline, "the service did not become ready"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
                raise AssertionError(self.first_line + self.process.communicate()[1])

    def _is_ready(self):
        try:
            with urllib.request.urlopen(self.url("readyz"), timeout=PATIENCE) as answer:
                return answer.read() == b"ok\n"
        except OSError:
            return False

    def url(self, page):
        return f"http://127.0.0.1:{self.port}/{page}"


@pytest.fixture
def start(site, pick_port):
    """Starts the service on the site's folder; the clock is the machine's own from then on."""
    site.clock.now = int(time.time())
    running = []

    def start(workers=1):
        running.append(Service(site.folder.path, pick_port(), workers))
        return running[-1]

    yield start
    for service in running:
        service.kill()


@pytest.fixture(scope="module")
def finished(finish):
    """This file's publisher is of today: the process has no other clock."""
    return finish(int(time.time()))


def ask(server, host, request):
    return host.read(request, server.activate(request.issuer, host.seal(request)))


def test_a_host_is_activated_over_the_network(site, start):
    service, host, nonce = start(), site.host(), secrets.token_bytes(16)
    token = service.server.get_issuer(site.folder.fingerprint, "acme-cad", 0, nonce)
    found = verify_descriptor(
        token, site.trust, Channel.KMS_HOST, now=0, nonce=nonce, suites=("x25519",), status_max_age=365 * 86400
    )
    assert found.descriptor.id == site.descriptor.id
    answer = ask(service.server, host, host.request(site.key()))
    assert isinstance(answer, TrustedLicence)
    assert service.first_line == f"volact: publisher Acme Software listens on http://127.0.0.1:{service.port}\n"
    assert service.stop() == "volact: stopped\n"
    assert service.process.returncode == 0


def test_refusals_arrive_signed_and_errors_by_their_name(site, start):
    service, host, key = start(), site.host(), site.key()
    site.publisher.block_key(site.publisher.find_key(key), "", site.clock(), "tester")
    answer = ask(service.server, host, host.request(key))
    assert isinstance(answer, SignedRefusal)
    assert answer.refusal.code == "key-blocked"
    with pytest.raises(ServerError, match="issuer-unknown"):
        service.server.get_issuer("sha256:" + "0" * 64, "acme-cad", 0, b"")
    with pytest.raises(ServerError, match="seal-broken"):
        service.server.activate(site.descriptor.id, bytes(100))


def test_a_key_issued_while_the_service_runs_works_at_once(site, start):
    service = start(workers=2)
    for _ in range(4):
        host = site.host()
        assert isinstance(ask(service.server, host, host.request(site.key())), TrustedLicence)


def test_fifty_hosts_at_two_workers_share_six_places(site, start):
    service, key = start(workers=2), site.key()
    requests = [(host, host.request(key)) for host in (site.host(f"kms{n}") for n in range(50))]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda pair: ask(service.server, *pair), requests))
    assert sum(isinstance(answer, TrustedLicence) for answer in answers) == 6
    assert {a.refusal.code for a in answers if isinstance(a, SignedRefusal)} == {"host-limit-reached"}
    site.publisher.store.check_ledger()


def test_killed_in_the_middle_it_keeps_every_answer_it_gave_and_no_more_than_the_limit(site, start):
    key = site.key(hosts=40)
    requests = [(host, host.request(key)) for host in (site.host(f"kms{n}") for n in range(60))]
    service = start(workers=2)
    answered = []

    def attempt(pair):
        with contextlib.suppress(TransportError):
            answer = ask(service.server, *pair)
            answered.append((pair[0].signer.machine, answer))
            if len(answered) == 15:
                service.kill()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, requests))
    acknowledged = {machine for machine, answer in answered if isinstance(answer, TrustedLicence)}
    kept = {act.machine for act in site.publisher.store.host_activations()}
    assert len(acknowledged) >= 15
    assert acknowledged <= kept
    site.publisher.store.check_ledger()
    # Started again, the same requests are answered again: what had a place has it still, and is not counted twice.
    service = start(workers=2)
    answers = [(host, ask(service.server, host, request)) for host, request in requests]
    granted = {host.signer.machine for host, answer in answers if isinstance(answer, TrustedLicence)}
    assert kept <= granted
    assert len(granted) == 40
    assert len(site.publisher.store.host_activations()) == 40
    site.publisher.store.check_ledger()


def test_keys_that_are_rotated_while_it_runs_are_taken_without_a_restart_and_no_request_is_lost(site, start):
    service, key, before = start(), site.pool_key(1000), site.keys.issuing.certificate.serial_number
    answers: list[TrustedLicence] = []
    ended = threading.Event()

    def keep_asking():
        while not ended.is_set():
            machine = site.machine(len(answers))
            answers.append(ask(service.server, machine, machine.request(key)))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        assert authority_of(site, service) == before
        maker = KeyMaker(PASSPHRASE)
        made = rotate(site.folder, load(site.folder.root_key, PASSPHRASE), maker, site.clock(), "tester")
        wait_until(lambda: authority_of(site, service) == made.serial_number)
        asked = len(answers)
        wait_until(lambda: len(answers) > asked)
    finally:
        ended.set()
        asking.join()
    assert all(isinstance(answer, TrustedLicence) for answer in answers)
    host = site.host()
    licence = ask(service.server, host, host.request(site.key())).licence
    assert x509.load_der_x509_certificate(base64.b64decode(licence.certificates[1])) == made
    assert service.stop() == "volact: stopped\n"


def authority_of(site, service):
    """The issuing CA over the key that signs answers now."""
    token = service.server.get_issuer(site.folder.fingerprint, "acme-cad", 0, b"")
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    return x509.load_der_x509_certificate(base64.b64decode(header["x5c"][1])).serial_number


def wait_until(is_so):
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.needs("curl")
def test_curl_asks_for_the_issuer(site, start, find_command):
    service = start()
    body = json.dumps({"root": site.folder.fingerprint, "product": "acme-cad"})
    url = service.url("volact.v1.ActivationService/GetIssuer")
    command = [find_command("curl"), "-sS", "-H", "Content-Type: application/json", "-d", body, url]
    answer = subprocess.run(command, capture_output=True, check=True, text=True, timeout=PATIENCE).stdout
    assert json.loads(answer)["descriptor"].count(".") == 2


def test_of_500_machines_at_once_exactly_100_get_what_a_mak_has_left_with_a_kill_in_between(site, start):
    key, other = site.pool_key(101), site.machine(10_000)
    service = start(workers=3)
    assert isinstance(ask(service.server, other, other.request(key)), TrustedLicence)  # 100 are left
    requests = [(machine, machine.request(key)) for machine in (site.machine(n) for n in range(500))]
    answered, turn = {}, threading.Lock()

    def attempt(pair):
        with contextlib.suppress(TransportError):
            answer = ask(service.server, *pair)
            with turn:
                answered[pair[0].signer.machine] = answer
                if len(answered) == 40:
                    service.kill()

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(attempt, requests))
    acknowledged = {machine for machine, answer in answered.items() if isinstance(answer, TrustedLicence)}
    key_id = site.issued(key).key_id
    kept = {held.machine for held in site.publisher.store.activations(key_id)}
    assert len(acknowledged) >= 40
    assert acknowledged <= kept
    site.publisher.store.check_ledger()
    # Started again, all 500 ask again with the requests that they made: 100 in all succeed, and none is counted twice.
    service = start(workers=3)
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda pair: (pair[0].signer.machine, ask(service.server, *pair)), requests))
    licensed = {machine for machine, answer in answers if isinstance(answer, TrustedLicence)}
    assert len(licensed) == 100
    assert acknowledged <= licensed
    assert {a.refusal.code for _, a in answers if isinstance(a, SignedRefusal)} == {"activations-exhausted"}
    assert site.issued(key).used == 101
    assert len(site.publisher.store.activations(key_id)) == 101
    site.publisher.store.check_ledger()
