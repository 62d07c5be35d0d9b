# SPDX-License-Identifier: Apache-2.0
"""How many machines a second the publisher activates online, on SQLite and PostgreSQL, beside a KMS host.

Each activation: its own TCP connection, an HPKE-sealed request signed by a machine of its own, its place in a MAK's
pool and its ledger row committed before the answer (SQLite with synchronous=FULL, PostgreSQL with its own defaults), an
ES256 licence with a checkpoint of the ledger.  Measured side by side, in turn, in one run:

  floor        HPKE open + request verification + ES256 signature, one thread, nothing else
  host         `volact host serve`, one worker, SQLite (benchmarks/host_storm.py has more of it)
  sqlite       `volact publisher serve`, one worker
  postgresql   the same on a PostgreSQL server of this machine, which shares its cores

``cpu_us`` is the server's own CPU time for an activation, without the load generator's and PostgreSQL's, which share
the machine.  Run it on an otherwise idle machine.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1] / "tests"))

import host_storm
from loadgen import Result, post_all

from support import postgresql
from volact.core.fingerprint import Fingerprint
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.core.request import ActivationRequest
from volact.core.states import State
from volact.publisher.administration.publisher import Publisher
from volact.publisher.folder.making import init
from volact.sealing import envelope, jws, sign, verify
from volact.sealing.keys import LocalKey
from volact.testing.machines import simulated_traits
from volact.wire.gen.volact.v1.activation_pb import ActivateRequest, ActivateResponse
from volact.wire.serve import free_port
from volact.wire.server import ACTIVATE

PASSPHRASE = b"a passphrase for a benchmark"
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "acme-cad.toml"


class Bench:
    """A publisher with a MAK that is large enough, and requests of machines that never asked before."""

    def __init__(self, folder: Path, database: str | None) -> None:
        self.folder = folder
        init(folder, "Bench", None, envelope.X25519, PASSPHRASE, int(time.time()), "bench", database)
        (folder / "pass.txt").write_bytes(PASSPHRASE + b"\n")
        with Publisher.open(folder) as publisher:
            keys, now = publisher.folder.open_keys(PASSPHRASE), int(time.time())
            publisher.add_product(EXAMPLE.read_bytes(), keys, now, "bench")
            publisher.add_organisation("Bench", now, "bench")
            (new,) = publisher.issue_pool_keys(
                "Bench", "acme-cad", "clients", now, "bench", channel=Channel.MAK, keys=keys, activations=1_000_000
            )
            self.key, self.sealing, self.root = str(new.key), keys.sealing, publisher.folder.fingerprint
        self.made = 0

    def requests(self, number: int) -> list[tuple[ActivationRequest, bytes]]:
        salt, made = bytes.fromhex(self.root.removeprefix("sha256:")), []
        for _ in range(number):
            self.made += 1
            signer = sign.MachineSigner(LocalKey.generate())
            request = ActivationRequest(
                issuer=self.sealing.id,
                product="acme-cad",
                version=1,
                edition="professional",
                channel=Channel.MAK,
                nonce=os.urandom(16),
                response_key=os.urandom(32),
                at=int(time.time()),
                state=State.INITIAL_GRACE,
                fingerprint=Fingerprint.of(simulated_traits(self.made), salt),
                name=f"machine-{self.made:06d}",
                key=self.key,
            )
            sealed = envelope.seal_request(self.sealing.suite, self.sealing.public, signer.request(request).encode())
            made.append((request, ActivateRequest(issuer=self.sealing.id, sealed=sealed).to_binary()))
        return made

    def check(self, requests: list[tuple[ActivationRequest, bytes]], result: Result) -> None:
        """Every answer is a licence, each of its own moment of the ledger or of its batch's."""
        for (request, _), body in zip(requests, result.bodies, strict=True):
            sealed = ActivateResponse.from_binary(body).sealed
            token = envelope.open_answer(request.response_key, request.nonce, sealed).decode()
            licence = Licence.from_claim(jws.parse(token, verify.LICENCE).claims())
            if licence.ledger is None or licence.expires_at is not None:
                raise SystemExit("an answer is not what a MAK is answered with")

    def check_ledger(self) -> None:
        with Publisher.open(self.folder) as publisher:
            last = publisher.store.check_ledger()
            used = publisher.find_key(self.key).used
        if used != self.made:
            raise SystemExit(f"{self.made} machines were activated, the pool has lost {used}")
        print(f"ledger of {last.seq if last else 0} rows whole, {used} activations", file=sys.stderr)


def publisher_server(bench: Bench) -> host_storm.Server:
    port = free_port()
    words = ["publisher", "serve", "--dir", str(bench.folder), "--passphrase-file", str(bench.folder / "pass.txt")]
    command = [sys.executable, "-m", "volact.cli.main", *words, "--listen", "127.0.0.1", "--port", str(port)]
    return port, host_storm.server(command, port)


def storm(bench: Bench, port: int, cpu: host_storm.Usage, number: int, concurrency: int) -> dict[str, float]:
    post_all(("127.0.0.1", port), ACTIVATE, [body for _, body in bench.requests(200)], concurrency)
    requests = bench.requests(number)
    before = cpu()
    result = post_all(("127.0.0.1", port), ACTIVATE, [body for _, body in requests], concurrency)
    used = cpu() - before
    if result.failures:
        raise SystemExit(f"{len(result.failures)} requests failed, the first: {result.failures[0]}")
    bench.check(requests, result)
    return {
        "rate": result.rate,
        "cpu_us": used / number * 1e6,
        "p50_ms": result.percentile(0.50) * 1e3,
        "p99_ms": result.percentile(0.99) * 1e3,
    }


def run(args: argparse.Namespace) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="volact-bench-"))
    samples: dict[str, list[dict[str, float]]] = {"host": [], "sqlite": [], "postgresql": []}
    floors: list[float] = []
    try:
        with ExitStack() as stack:
            host = host_storm.Bench(folder / "host")
            benches = {"sqlite": Bench(folder / "sqlite", None)}
            if postgresql.is_present():
                address = stack.enter_context(postgresql.server(free_port(), durable=True))
                postgresql.execute(address, "CREATE DATABASE bench")
                benches["postgresql"] = Bench(folder / "postgresql", f"{address}bench")
            for _ in range(args.rounds):
                floors.append(host.floor(args.floor_seconds))
                port, running = host_storm.host_server(host, 1)
                with running as cpu:
                    samples["host"].append(
                        host_storm.storm(host, port, cpu, args.machines, args.concurrency, check=True)
                    )
                for name, bench in benches.items():
                    port, running = publisher_server(bench)
                    with running as cpu:
                        samples[name].append(storm(bench, port, cpu, args.machines, args.concurrency))
            for bench in benches.values():
                bench.check_ledger()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    floor = statistics.median(floors)
    medians = {
        name: {key: round(statistics.median(sample[key] for sample in taken), 1) for key in taken[0]}
        for name, taken in samples.items()
        if taken
    }
    for figures in medians.values():
        figures["ratio_to_floor"] = round(1e6 / figures["cpu_us"] / floor, 3)
    return {
        "machines": args.machines,
        "concurrency": args.concurrency,
        "rounds": args.rounds,
        "floor_rate": round(floor),
        **medians,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=2000, help="activations a storm (default: %(default)s)")
    parser.add_argument("--concurrency", type=int, default=64, help="connections at a time (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are shown (default: %(default)s)")
    parser.add_argument("--floor-seconds", type=float, default=1.0, help="CPU seconds of each floor measurement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    figures = run(args)
    if args.json:
        print(json.dumps(figures))
        return
    print(f"floor       {figures['floor_rate']:>7} activations/s a core")
    for name in ("host", "sqlite", "postgresql"):
        one = figures.get(name)
        if isinstance(one, dict):
            print(
                f"{name:<11} {one['rate']:>7.0f}/s   {one['cpu_us']:.0f} µs of server CPU each"
                f"   p50 {one['p50_ms']:.1f} ms   p99 {one['p99_ms']:.1f} ms   {one['ratio_to_floor']} of the floor"
            )


if __name__ == "__main__":
    main()
