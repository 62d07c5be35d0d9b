# SPDX-License-Identifier: Apache-2.0
"""200 guests of one VM host at once, over real sockets: activations a second, p50 and p99, and what a flood changes.

The host is `volact vm serve` as a process with its production limits; this program plays QEMU and the guests, whose
requests are made beforehand.  Calm and flooded rounds alternate, so that both meet the same machine.  One guest floods:
with requests, then with bytes that are none.

    python benchmarks/vm_channels.py [--guests 200] [--rounds 6] [--json]
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volact.core.fingerprint import Fingerprint
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.sealing import envelope, proof, sign
from volact.sealing.answers import verify_descriptor
from volact.sealing.certificates import Role
from volact.sealing.keys import LocalKey
from volact.testing import simulated_traits
from volact.testing.issuers import CLIENT_GROUP, SERVER_GROUP, PublisherSimulator
from volact.vm.application import VmFolder, open_store
from volact.vm.frames import ANSWERS, MOST_ANSWER, FrameReader
from volact.vm.messages import Activate, Activated, Answer, GetIssuer, Issuer, Request, read_answer

PRODUCT, EDITION = "acme-cad", "client"
MOST_LOSS = 1 / 3  # of the others' rate while one guest floods


def now() -> int:
    return int(time.time())


@dataclass
class Guest:
    """One guest's end of a channel, with the requests that it will send."""

    number: int
    listener: socket.socket
    signer: sign.MachineSigner = field(default_factory=lambda: sign.MachineSigner(LocalKey.generate()))
    requests: list[bytes] = field(default_factory=list)
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None
    frames: FrameReader = field(default_factory=lambda: FrameReader(ANSWERS, MOST_ANSWER))

    async def accept(self) -> None:
        connection, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        self.reader, self.writer = await asyncio.open_unix_connection(sock=connection)

    async def ask(self, request: Request) -> Answer:
        assert self.writer is not None
        assert self.reader is not None
        self.writer.write(request.to_frame().to_bytes())
        while True:
            for frame in self.frames.receive(await self.reader.read(65536)):
                answer = read_answer(frame)
                if answer.id == request.id:
                    return answer

    async def activate(self, issuer: str, number: int) -> float:
        """Seconds from the request to its licence."""
        request = Activate(os.urandom(8).hex(), issuer, self.requests[number], "Benchmark OS")
        began = time.perf_counter()
        answer = await self.ask(request)
        assert isinstance(answer, Activated), answer
        return time.perf_counter() - began


def make_host(folder: Path, publisher: PublisherSimulator) -> None:
    """An activated host's folder."""
    host = VmFolder.create(folder)
    open_store(host).close()
    host.add_product(publisher.sign_definition(publisher.definition(PRODUCT)), publisher.fingerprint)
    key = ProductKey.new(Channel.VM_HOST, publisher_tag(publisher.fingerprint), SERVER_GROUP, os.urandom(7))
    installed = host.install_key(str(key), envelope.X25519)
    groups = (CLIENT_GROUP, SERVER_GROUP)
    issuer = publisher.issuer(installed.signing_key(host.passphrase()), Role.VM_HOST, "Contoso", groups)
    installed.store_activation(list(issuer.chain), "", publisher.status_token())


@contextlib.contextmanager
def serving(folder: Path, sockets: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "volact.cli.main", "vm", "serve", "--dir", folder, "--sockets", sockets]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def make_requests(guest: Guest, root: str, descriptor: Any, number: int) -> None:
    salt = bytes.fromhex(root.removeprefix("sha256:"))
    for _ in range(number):
        request = ActivationRequest(
            issuer=descriptor.id,
            product=PRODUCT,
            version=1,
            edition=EDITION,
            channel=Channel.VM,
            nonce=os.urandom(16),
            response_key=os.urandom(32),
            at=now(),
            state=State.INITIAL_GRACE,
            fingerprint=Fingerprint.of(simulated_traits(guest.number), salt),
            name=f"guest-{guest.number}",
        )
        signed = guest.signer.request(request).encode()
        guest.requests.append(envelope.seal_request(descriptor.suite, descriptor.public_key, signed))


async def a_round(guests: list[Guest], issuer: str, number: int) -> tuple[float, list[float]]:
    """All at once: activations a second, and each one's seconds."""
    began = time.perf_counter()
    latencies = await asyncio.gather(*(guest.activate(issuer, number) for guest in guests))
    return len(guests) / (time.perf_counter() - began), list(latencies)


async def flood(guest: Guest, data: bytes) -> None:
    """As fast as the channel takes it; answers are thrown away."""
    assert guest.writer is not None
    assert guest.reader is not None
    swallow = asyncio.ensure_future(_swallow(guest.reader))
    try:
        while True:
            guest.writer.write(data)
            await guest.writer.drain()
            await asyncio.sleep(0)
    finally:
        swallow.cancel()


async def _swallow(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def measure(guests: list[Guest], publisher: PublisherSimulator, rounds: int) -> dict[str, Any]:
    await asyncio.gather(*(guest.accept() for guest in guests))
    nonce = os.urandom(16)
    asked = await guests[1].ask(GetIssuer(os.urandom(8).hex(), publisher.fingerprint, PRODUCT, CLIENT_GROUP, nonce))
    assert isinstance(asked, Issuer), asked
    descriptor = verify_descriptor(
        asked.descriptor, publisher.trust, Channel.VM, now=now(), nonce=nonce, suites=(envelope.X25519,),
        status_max_age=86400,
    ).descriptor  # fmt: skip
    flooder, others = guests[0], guests[1:]
    for guest in guests:
        make_requests(guest, publisher.fingerprint, descriptor, 3 * rounds + 1)
    numbers = iter(range(1000))
    await a_round(others, descriptor.id, next(numbers))  # warm
    results: dict[str, list[tuple[float, list[float]]]] = {"calm": [], "requests": [], "junk": []}
    good = Activate(os.urandom(8).hex(), descriptor.id, flooder.requests[0]).to_frame().to_bytes()
    floods = {"requests": good * 10, "junk": os.urandom(64 * 1024)}
    for _ in range(rounds):
        results["calm"].append(await a_round(others, descriptor.id, next(numbers)))
        for kind, data in floods.items():
            task = asyncio.ensure_future(flood(flooder, data))
            await asyncio.sleep(0.1)
            results[kind].append(await a_round(others, descriptor.id, next(numbers)))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return {kind: _summary(rounds_of) for kind, rounds_of in results.items()}


def _summary(rounds: list[tuple[float, list[float]]]) -> dict[str, float]:
    latencies = sorted(latency for _, of_round in rounds for latency in of_round)
    return {
        "activations_per_second": round(statistics.median(rate for rate, _ in rounds), 1),
        "p50_ms": round(1000 * statistics.median(latencies), 1),
        "p99_ms": round(1000 * latencies[int(len(latencies) * 0.99)], 1),
    }


def floor_per_second(guest: Guest, publisher: PublisherSimulator, seconds: float = 1.0) -> float:
    """The cryptography of an activation in one thread: open, prove, sign, seal."""
    opening = envelope.OpeningKey.generate()
    make_requests(guest, publisher.fingerprint, _Descriptor(opening), 1)
    sealed, key = guest.requests.pop(), LocalKey.generate()
    done, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        request = proof.verify_request(opening.open_request(sealed).decode()).request
        envelope.seal_answer(request.response_key, request.nonce, key.sign(b"a licence's bytes" * 60))
        done += 1
    return done / seconds


class _Descriptor:
    def __init__(self, opening: envelope.OpeningKey) -> None:
        self.id, self.suite, self.public_key = opening.id, opening.suite, opening.public


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args()
    publisher = PublisherSimulator("Acme Software", now)
    with tempfile.TemporaryDirectory(prefix="volact-vm-") as name:
        folder, sockets = Path(name) / "host", Path(name) / "s"
        sockets.mkdir()
        make_host(folder, publisher)
        guests = [Guest(number, _listener(sockets / f"guest{number}.sock")) for number in range(args.guests + 1)]
        floor = floor_per_second(guests[0], publisher)
        with serving(folder, sockets):
            results = asyncio.run(measure(guests, publisher, args.rounds))
        for guest in guests:
            guest.listener.close()
    calm = results["calm"]["activations_per_second"]
    losses = {kind: round(1 - results[kind]["activations_per_second"] / calm, 3) for kind in ("requests", "junk")}
    report = {
        "guests": args.guests,
        **results,
        "floor_per_second": round(floor, 1),
        "ratio_to_floor": round(calm / floor, 3),
        "loss_under_flood": losses,
        "within_a_third": max(losses.values()) <= MOST_LOSS,
    }
    print(json.dumps(report) if args.json else _text(report))
    return 0 if report["within_a_third"] else 1


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.setblocking(False)
    return listener


def _text(report: dict[str, Any]) -> str:
    lines = [f"{report['guests']} guests at once, durable, one process"]
    for kind, label in (("calm", "nobody floods"), ("requests", "one floods with requests"), ("junk", "one with junk")):
        row = report[kind]
        rate, p50, p99 = row["activations_per_second"], row["p50_ms"], row["p99_ms"]
        lines.append(f"{label:<26} {rate:>8.0f}/s   p50 {p50:>6.1f} ms   p99 {p99:>6.1f} ms")
    lines.append(f"cryptographic floor        {report['floor_per_second']:>8.0f}/s   ratio {report['ratio_to_floor']}")
    lines.append(f"loss under flood: {report['loss_under_flood']}, within a third: {report['within_a_third']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
