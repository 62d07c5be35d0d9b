# SPDX-License-Identifier: Apache-2.0
"""How many machines a second one KMS host activates, against what their cryptography alone would take.

Each activation: its own TCP connection, an HPKE-sealed request signed by a machine of its own, one row committed with
synchronous=FULL before the answer, an ES256 licence.  Measured side by side, in turn, in one run:

  floor   HPKE open + request verification + ES256 signature, one thread, nothing else
  no-op   the same RPC stack (granian, ASGI, Connect) with an answer made of nothing
  host    `volact host serve` with one worker, and with one worker a core

``ratio_to_floor`` is activations per second of the *server's* CPU time over the floor's: the load generator shares the
machine, so wall-clock rates depend on it and CPU time does not.  Run it on an otherwise idle machine.
"""

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from loadgen import Result, post_all

from volact.core.fingerprint import Fingerprint
from volact.core.licence import Licence
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.host.application import open_store
from volact.host.folder import HostFolder
from volact.sealing import envelope, jws, proof, sign, verify
from volact.sealing.certificates import Role
from volact.sealing.keys import LocalKey
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP, PublisherSimulator
from volact.testing.machines import simulated_traits
from volact.wire.gen.volact.v1.activation_pb import ActivateRequest, ActivateResponse
from volact.wire.serve import Listener, free_port, serve
from volact.wire.server import ACTIVATE, IssuerApplication, Page

TICKS = os.sysconf("SC_CLK_TCK")


class Bench:
    """A publisher in memory, an activated host in a folder, and requests of machines that never asked before."""

    def __init__(self, folder: Path) -> None:
        now = int(time.time())
        self.publisher = PublisherSimulator("Bench", lambda: int(time.time()))
        self.definition = self.publisher.definition()
        self.host = HostFolder.create(folder)
        open_store(self.host).close()
        self.host.add_product(self.publisher.sign_definition(self.definition), self.publisher.fingerprint)
        key = ProductKey.new(Channel.KMS_HOST, publisher_tag(self.publisher.fingerprint), SERVER_GROUP, os.urandom(7))
        installed = self.host.install_key(str(key), envelope.X25519)
        self.signing = installed.signing_key(self.host.passphrase())
        self.opening = installed.opening_key(self.host.passphrase())
        self.issuer = self.publisher.issuer(self.signing, Role.KMS_HOST, "Bench", (CLIENT_GROUP, SERVER_GROUP))
        installed.store_activation(list(self.issuer.chain), "", self.publisher.status_token())
        self.edition = next(e for e in self.definition.editions if e.group == CLIENT_GROUP)
        self.made, self.now = 0, now

    def requests(self, number: int) -> list[tuple[ActivationRequest, bytes]]:
        """New machines' requests with the bodies to send."""
        made = []
        salt = bytes.fromhex(self.publisher.fingerprint.removeprefix("sha256:"))
        for _ in range(number):
            self.made += 1
            signer = sign.MachineSigner(LocalKey.generate())
            request = ActivationRequest(
                issuer=self.opening.id,
                product=self.definition.product,
                version=1,
                edition=self.edition.id,
                channel=Channel.VOLUME,
                nonce=os.urandom(16),
                response_key=os.urandom(32),
                at=int(time.time()),
                state=State.INITIAL_GRACE,
                fingerprint=Fingerprint.of(simulated_traits(self.made), salt),
                name=f"machine-{self.made:06d}",
                threshold=25,
            )
            sealed = envelope.seal_request(self.opening.suite, self.opening.public, signer.request(request).encode())
            made.append((request, ActivateRequest(issuer=self.opening.id, sealed=sealed).to_binary()))
        return made

    def floor(self, seconds: float) -> float:
        """Activations a second that their three public-key operations allow, one thread."""
        (_, body), *_ = self.requests(1)
        sealed = ActivateRequest.from_binary(body).sealed
        parsed = jws.parse(self.opening.open_request(sealed).decode(), proof.REQUEST)
        key = LocalKey.generate()
        machine = proof.verify_request(self.opening.open_request(sealed).decode()).key
        message = parsed.signing_input
        done, began = 0, time.process_time()
        while (spent := time.process_time() - began) < seconds:
            for _ in range(50):
                self.opening.open_request(sealed)
                jws.verify_raw(machine, parsed.signature, message, "request")
                key.sign(message)
            done += 50
        return done / spent


class _NoOp:
    async def descriptor(self, *_asked: object) -> str:
        return ""

    async def activate(self, _issuer: str, sealed: bytes) -> bytes:
        return sealed


def load_noop() -> IssuerApplication:
    async def ready() -> Page:
        return Page(200, "text/plain", b"ready\n")

    return IssuerApplication(_NoOp(), {"/readyz": ready})


class Usage:
    """Call it for the CPU seconds that a server process has used so far, its workers included."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __call__(self) -> float:
        return _cpu(self.pid)


# Its port, and what starts it.
Server = tuple[int, AbstractContextManager[Usage]]


@contextmanager
def server(words: list[str], port: int) -> Iterator[Usage]:
    """A server process; gives its :class:`Usage`."""
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        _wait_ready(process, port)
        yield Usage(process.pid)
    finally:
        process.terminate()
        process.wait(20)


def noop_server(workers: int) -> Server:
    port = free_port()
    return port, server([sys.executable, __file__, "--serve-noop", str(port), str(workers)], port)


def host_server(bench: Bench, workers: int) -> Server:
    port = free_port()
    words = ["host", "serve", "--dir", str(bench.host.path), "--listen", "127.0.0.1", "--port", str(port)]
    return port, server([sys.executable, "-m", "volact.cli.main", *words, "--workers", str(workers)], port)


def storm(bench: Bench, port: int, cpu: Usage, number: int, concurrency: int, *, check: bool) -> dict[str, float]:
    """One counted storm, after a small one that warms the server up."""
    post_all(("127.0.0.1", port), ACTIVATE, [body for _, body in bench.requests(200)], concurrency)
    requests = bench.requests(number)
    before = cpu()
    result = post_all(("127.0.0.1", port), ACTIVATE, [body for _, body in requests], concurrency)
    used = cpu() - before
    if result.failures:
        raise SystemExit(f"{len(result.failures)} requests failed, the first: {result.failures[0]}")
    if check:
        _check(requests, result)
    return {
        "rate": result.rate,
        "cpu_us": used / number * 1e6,
        "p50_ms": result.percentile(0.50) * 1e3,
        "p99_ms": result.percentile(0.99) * 1e3,
    }


def _check(requests: list[tuple[ActivationRequest, bytes]], result: Result) -> None:
    """Every answer is a licence of its own machine, and the counts are all different."""
    counts = set()
    for (request, _), body in zip(requests, result.bodies, strict=True):
        sealed = ActivateResponse.from_binary(body).sealed
        token = envelope.open_answer(request.response_key, request.nonce, sealed).decode()
        counts.add(Licence.from_claim(jws.parse(token, verify.LICENCE).claims()).count)
    if len(counts) != len(requests):
        raise SystemExit(f"{len(requests)} new machines got {len(counts)} different counts")


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the server did not start")


def _cpu(pid: int) -> float:
    """CPU seconds of a process and its living descendants."""
    total = 0.0
    for one in [pid, *_children(pid)]:
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def _children(pid: int) -> list[int]:
    direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return direct + [grandchild for child in direct for grandchild in _children(child)]


def run(args: argparse.Namespace) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="volact-bench-"))
    samples: dict[str, list[dict[str, float]]] = {"noop": [], "one_worker": [], "all_cores": []}
    floors: list[float] = []
    cores = os.cpu_count() or 1
    try:
        bench = Bench(folder / "host")
        for _ in range(args.rounds):
            floors.append(bench.floor(args.floor_seconds))
            for name, (port, running) in (
                ("noop", noop_server(1)),
                ("one_worker", host_server(bench, 1)),
                ("all_cores", host_server(bench, cores)),
            ):
                with running as cpu:
                    check = name != "noop"
                    samples[name].append(storm(bench, port, cpu, args.machines, args.concurrency, check=check))
            floors.append(bench.floor(args.floor_seconds))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    floor = statistics.median(floors)
    medians = {
        name: {key: statistics.median(sample[key] for sample in taken) for key in taken[0]}
        for name, taken in samples.items()
    }
    return {
        "cores": cores,
        "machines": args.machines,
        "concurrency": args.concurrency,
        "rounds": args.rounds,
        "floor_rate": round(floor),
        "floor_us": round(1e6 / floor, 1),
        **{name: {key: round(value, 1) for key, value in figures.items()} for name, figures in medians.items()},
        "ratio_to_floor": round(1e6 / medians["one_worker"]["cpu_us"] / floor, 3),
        "ratio_to_floor_all_cores": round(1e6 / medians["all_cores"]["cpu_us"] / floor, 3),
        "ratio_to_noop": round(medians["noop"]["cpu_us"] / medians["one_worker"]["cpu_us"], 3),
    }


def main() -> None:
    if sys.argv[1:2] == ["--serve-noop"]:
        listener = Listener("127.0.0.1", int(sys.argv[2]), int(sys.argv[3]))
        serve(functools.partial(load_noop), listener, on_start=lambda: None, on_stop=lambda: None)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=4000, help="activations a storm (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=128, help="connections at a time (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are shown (default: %(default)s)")
    parser.add_argument("--floor-seconds", type=float, default=1.0, help="CPU seconds of each floor measurement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    figures = run(args)
    if args.json:
        print(json.dumps(figures))
        return
    print(f"floor       {figures['floor_rate']:>7} activations/s a core   {figures['floor_us']} µs")
    for name in ("noop", "one_worker", "all_cores"):
        one = figures[name]
        print(
            f"{name:<11} {one['rate']:>7.0f}/s   {one['cpu_us']:.0f} µs of server CPU each"
            f"   p50 {one['p50_ms']:.1f} ms   p99 {one['p99_ms']:.1f} ms"
        )
    all_cores = figures["ratio_to_floor_all_cores"]
    print(f"ratio to the floor, per core: {figures['ratio_to_floor']} (all cores: {all_cores})")
    print(f"ratio to a no-op call of the same stack: {figures['ratio_to_noop']}")


if __name__ == "__main__":
    main()
