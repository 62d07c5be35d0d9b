# SPDX-License-Identifier: Apache-2.0
"""Running the VM host: guests' sockets, vsock, metrics, until stopped."""

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment, counted
from volact.cli.issuer.common import fingerprint_for, full_name
from volact.cli.options import add_verb, between
from volact.cli.vm.common import HOSTING
from volact.core.errors import ConfigError, VolactError
from volact.vm.application import VmHost, VmRun, is_virtual, load_serving
from volact.vm.messages import VSOCK_PORT

LICENCES_SECONDS = 30  # for which an answer about this computer's own licences is kept
DEFAULT_METRICS_PORT = 9688


class MetricsAddressError(ConfigError):
    code = "metrics-address-unusable"
    fmt = "cannot answer for metrics on {address}: {why}"
    remedy = "give another: --metrics-listen ADDRESS:PORT"


def build(group: Any) -> None:
    verb = add_verb(
        group,
        "serve",
        "license the guests of this computer until stopped (SIGINT, SIGTERM)",
        run,
        examples=[
            "volact vm serve --sockets /run/volact/guests                  # one socket a guest, QEMU's own options",
            "volact vm serve --sockets /var/lib/libvirt/qemu/channel/target    # libvirt's channels",
            "volact vm serve --vsock 1688 --metrics-listen 127.0.0.1:9688",
        ],
    )
    verb.add_argument(
        "--sockets", metavar="DIR", action="append", default=[], help="folder of guests' sockets; may be repeated"
    )
    verb.add_argument(
        "--vsock", metavar="PORT", type=between(1, 2**32 - 2), help=f"listen on vsock (guests try {VSOCK_PORT})"
    )
    verb.add_argument("--metrics-listen", metavar="ADDRESS:PORT", help="answer Prometheus there (default: nowhere)")
    verb.add_argument(
        "--client-dir", metavar="DIR", help="this computer's own client, for policies that demand its licence"
    )
    HOSTING.add_passphrase(verb)


def run(args: argparse.Namespace, env: Environment) -> int:
    folder, name = HOSTING.open_folder(args, env), full_name(env)
    host = VmHost(
        VmRun(
            folder=folder,
            name=name,
            virtual=is_virtual(),
            sockets=[Path(path) for path in args.sockets],
            clock=env.clock,
            licensed=OwnLicences(env, args.client_dir),
            fingerprint=lambda root: fingerprint_for(env, root),
            vsock=args.vsock,
        )
    )
    activated = len(load_serving(folder, name))

    def started() -> None:
        places = [*args.sockets, *([f"vsock port {args.vsock}"] if args.vsock is not None else [])]
        keys = counted(activated, "activated key")
        env.say(f"VM host {name} serves guests on {', '.join(places)}, with {keys}")
        if not activated:
            env.hint("it can license nobody yet: `volact vm activate`; it notices while it runs")
        env.stderr.flush()

    with folder.serving():
        stop_metrics = _metrics(args.metrics_listen, folder, host, env)
        try:
            asyncio.run(_until_stopped(host, started))
        finally:
            stop_metrics()
    return 0


async def _until_stopped(host: VmHost, started: Callable[[], None]) -> None:
    task = asyncio.ensure_future(host.run(started))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _metrics(listen: str | None, folder: Any, host: VmHost, env: Environment) -> Callable[[], None]:
    if listen is None:
        return lambda: None
    from volact.vm import metrics

    address, _, port = listen.rpartition(":")
    try:
        made = metrics.registry(folder, host.store, env.clock, lambda: len(host.channels.open))
        return metrics.listen(made, address.strip("[]") or "127.0.0.1", int(port or DEFAULT_METRICS_PORT))
    except (OSError, ValueError, OverflowError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        raise MetricsAddressError(address=listen, why=why) from None


class OwnLicences:
    """The editions of a product that this computer is licensed for, as its own client says."""

    def __init__(self, env: Environment, folder: str | None) -> None:
        self._env, self._folder = env, folder
        self._known: dict[tuple[str, str], tuple[int, frozenset[str]]] = {}

    def __call__(self, root: str, product: str) -> frozenset[str]:
        now = self._env.clock()
        at, editions = self._known.get((root, product), (None, frozenset()))
        if at is None or not 0 <= now - at < LICENCES_SECONDS:
            editions = self._look(root, product, now)
            self._known[root, product] = now, editions
        return editions

    def _look(self, root: str, product: str, now: int) -> frozenset[str]:
        from volact.client.folder.files import find_folder
        from volact.client.folder.store import ClientStore
        from volact.client.machine import LocalMachine
        from volact.client.products.loading import load_product

        try:
            loaded = load_product(ClientStore(find_folder(self._env.variables, self._folder)), product)
            if loaded.trust.fingerprint != root or loaded.edition is None:
                return frozenset()
            machine = LocalMachine(self._env.traits, self._env.hostname)
            evaluation = loaded.evaluate(machine.fingerprint(root), now)
        except VolactError:  # no client here, or one without the product: not licensed
            return frozenset()
        return frozenset({loaded.edition.id}) if evaluation.licensed else frozenset()
