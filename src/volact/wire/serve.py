# SPDX-License-Identifier: Apache-2.0
"""Run an ASGI application on granian: worker processes on one port, graceful stop, and limits against idle clients."""

import gc
import multiprocessing
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from granian.constants import Interfaces, Loops
from granian.http import HTTP1Settings
from granian.server.mp import MPServer

from volact.core.errors import ConfigError
from volact.wire.idle import IdleCutter
from volact.wire.orphan import watch_parent

HEADER_MILLISECONDS = 10_000  # a client that has not sent its headers by then is cut off
BACKLOG = 4096  # half-open connections cost the kernel little, refused machines cost them two hours
READY_SECONDS = 0.05  # between looks whether a worker listens by now
ANSWER_SECONDS = 5.0  # for a look at this machine's own port, which the kernel answers at once
RESTART_SECONDS = 1.0  # before a server that died is started again
COLLECT_AFTER = 20_000  # more objects made than gone; Python's own 700 come together in a batch of some fifty requests
DESCRIPTORS = 65_536  # a service starts with 1,024, which is as many connections as one attacker opens in a second


class AddressError(ConfigError):
    code = "address-in-use"
    fmt = "cannot listen on {address}, port {port}: {why}"
    remedy = "stop the other server, or choose another port: `volact host set-port`, or --port"


class TlsFilesError(ConfigError):
    code = "tls-files-unusable"
    fmt = "cannot speak TLS with {certificate} and {key}: {why}"
    remedy = "give the certificate's chain and its own unencrypted key, both in PEM and readable for whoever serves"


@dataclass(frozen=True, slots=True)
class Listener:
    """``address`` ``::`` is every IPv6 and IPv4 address of the machine, where it has IPv6.  With a ``certificate``
    (PEM, the chain) and its ``key`` it speaks TLS: web pages do, activations are sealed by themselves."""

    address: str
    port: int
    workers: int = 1
    certificate: Path | None = None
    key: Path | None = None


def serve(
    load: Callable[[], Any],
    listener: Listener,
    *,
    on_start: Callable[[], None],
    on_stop: Callable[[], None],
    on_ready: Callable[[], None] | None = None,
    beside: Sequence[Listener] = (),
    log_level: str = "warning",
) -> None:
    """Serve until SIGINT or SIGTERM.  ``load`` makes the application inside each worker and must be picklable (a
    ``functools.partial`` of a module's function); the hooks run in the parent.  ``on_ready``: once a worker listens,
    and one of each server ``beside`` this."""
    address = _checked(listener)
    _allow_descriptors()
    # Workers start from a clean interpreter: the parent has threads (DNS, housekeeping), which do not survive a fork.
    multiprocessing.set_start_method("spawn", force=True)
    server = MPServer(
        "volact",
        address=address,
        port=listener.port,
        interface=Interfaces.ASGI,
        workers=listener.workers,
        loop=Loops.auto,
        backlog=BACKLOG,
        websockets=False,
        log_level=_LOG_LEVELS[log_level],
        log_dictconfig=_LOGGING,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_MILLISECONDS, max_buffer_size=128 * 1024),
        respawn_failed_workers=True,
        respawn_interval=0.5,
        workers_kill_timeout=10,
        ssl_cert=listener.certificate,
        ssl_key=listener.key,
    )
    server.on_startup(on_start)
    if on_ready is not None:
        server.on_startup(_Waiter([listener, *beside], on_ready).start)
    server.on_shutdown(on_stop)
    server.serve(target_loader=_Guarded(load, listener.port), wrap_loader=False)


class Beside:
    """A second server beside this process's own, on another listener and in processes of its own: what is slow there
    slows nothing here.  It is started again where it dies, and ends with this process."""

    def __init__(self, load: Callable[[], Any], listener: Listener) -> None:
        self._load, self.listener = load, listener
        self._ending = threading.Event()
        self._process: BaseProcess | None = None
        self._watcher = threading.Thread(target=self._keep, name="volact-beside", daemon=True)

    def __enter__(self) -> Self:
        _checked(self.listener)
        self._start()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        if self._process is not None:
            self._process.terminate()
        self._watcher.join()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=_serve_beside, args=(self._load, self.listener), name="volact-web")
        self._process.start()

    def _keep(self) -> None:
        while self._process is not None:
            self._process.join()
            if self._ending.wait(RESTART_SECONDS):
                return
            self._start()


def _serve_beside(load: Callable[[], Any], listener: Listener) -> None:
    watch_parent()
    serve(load, listener, on_start=_nothing, on_stop=_nothing)


def _nothing() -> None:
    pass


class _Waiter(threading.Thread):
    """Calls ``then`` once each port takes connections: a worker listens by itself, when it has loaded its application,
    so that the parent cannot know."""

    def __init__(self, listeners: Sequence[Listener], then: Callable[[], None]) -> None:
        super().__init__(name="volact-ready", daemon=True)
        self._places = [_own_place(listener) for listener in listeners]
        self._then = then

    def run(self) -> None:
        for place in self._places:
            while not _is_listened_at(place):
                time.sleep(READY_SECONDS)
        self._then()


@dataclass(frozen=True, slots=True)
class _Guarded:
    """Loads the application in a worker, with what watches over its connections and its parent."""

    load: Callable[[], Any]
    port: int

    def __call__(self) -> Any:
        watch_parent()
        IdleCutter(self.port).start()
        application = self.load()
        _relieve_collector()
        return application


def _relieve_collector() -> None:
    """What was loaded stays, and what requests make goes by its reference counts: only rare errors leave cycles, so the
    collector need not look through the requests under way with every batch."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def _checked(listener: Listener) -> str:
    """The address to bind, tried with the files of TLS before any worker starts, so that the error is one sentence and
    not a trace."""
    _check_tls(listener)
    address = _address(listener)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, listener.port))
    except OSError as exc:
        raise AddressError(address=address, port=listener.port, why=exc.strerror or str(exc)) from None
    return address


def _check_tls(listener: Listener) -> None:
    if listener.certificate is None or listener.key is None:
        return
    try:
        for file in (listener.certificate, listener.key):
            file.read_bytes()  # OpenSSL's own words do not say which of them it was
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listener.certificate, listener.key, password="")
    except OSError as exc:
        why = _tls_fault(exc)
        raise TlsFilesError(certificate=str(listener.certificate), key=str(listener.key), why=why) from None


def _tls_fault(exc: OSError) -> str:
    if not isinstance(exc, ssl.SSLError):
        return f"{exc.filename}: {exc.strerror}"
    reason = (exc.reason or "").replace("_", " ").lower()
    return reason or "the key is encrypted, or one of them is no PEM"


def _address(listener: Listener) -> str:
    no_ipv6 = listener.address == "::" and not _has_ipv6()
    return "0.0.0.0" if no_ipv6 else listener.address  # noqa: S104 - the administrator asked for every address


def _own_place(listener: Listener) -> tuple[str, int]:
    """Where this machine itself reaches it."""
    address = _address(listener)
    return _OWN.get(address, address), listener.port


def _is_listened_at(place: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(place, ANSWER_SECONDS):
            return True
    except OSError:
        return False


def _allow_descriptors() -> None:
    """Raises the soft limit of this process and its workers as far as the system allows."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _levels() -> dict[str, Any]:
    from granian.log import LogLevels

    return {str(level.value): level for level in LogLevels}


_OWN = {"::": "::1", "0.0.0.0": "127.0.0.1"}  # noqa: S104 - where what listens on every address is reached
_LOG_LEVELS = _levels()
# The server's own words go where ours do: to stderr, in our manner.  Updates granian's configuration, key by key.
_LOGGING: dict[str, Any] = {
    "formatters": {"ours": {"format": "volact: %(levelname)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "ours", "stream": "ext://sys.stderr"}},
    "loggers": {"_granian": {"handlers": ["console"], "level": "WARNING", "propagate": False}},
}
