# SPDX-License-Identifier: Apache-2.0
"""Machines by SSH: the administrator's own keys, agent, configuration and jump hosts, through asyncssh.

What is read of OpenSSH's configuration: Host, HostName, User, Port, IdentityFile, IdentitiesOnly, IdentityAgent,
ProxyJump, ProxyCommand, HostKeyAlias, ciphers and the like.  What is not taken from there: switching off the check of
host keys, forwarding of agents, terminals and remote commands.

A machine that is dead or slow holds up no other: addresses are resolved and connected to outside of the limit on
connections that are being set up, and a handshake counts against that limit for a few seconds only.  The limit is there
for sshd's MaxStartups, which drops at random what is over it; what was dropped is tried again.  Design: docs/adr/0027.
"""

import asyncio
import random
import re
import shlex
import socket
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from volact.fleet.folder import FleetFolder, Settings
from volact.fleet.reach import Output, Target
from volact.fleet.reach.errors import (
    ConnectionLostError,
    HostKeyChangedError,
    HostKeyUnknownError,
    MachineError,
    MachineUnreachableError,
    RemoteTooLongError,
    SshLoginRefusedError,
    SshProtocolError,
    SshSettingsError,
)
from volact.fleet.reach.hostkeys import SSH_PORT, HostKeys

MOST_OUTPUT = 1024 * 1024  # a machine's answer; 100 products take 80 KiB
MOST_ERRORS = 64 * 1024
CONNECT_SECONDS = 15.0
START_SECONDS = 5.0  # after which a handshake no longer counts as one that is being set up
KEEPALIVE_SECONDS, KEEPALIVES = 15, 3
TRIES = 4  # where sshd hung up before it said anything
CLOSE_SECONDS = 2.0
_BLOCK = 16 * 1024
# What they are made of, wherever they came from: a ProxyCommand's %h and %r become words of a command line.
_HOST = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:%-]*\Z")
_ACCOUNT = re.compile(r"[^\s\"'-][^\s\"']*\Z")


@dataclass(slots=True)
class _Seen:
    """The host key of one connection, where it is not a known one."""

    host: str = ""
    port: int = SSH_PORT
    key: asyncssh.SSHKey | None = None
    accepted: bool = False

    @property
    def fingerprint(self) -> str:
        return self.key.get_fingerprint() if self.key is not None else "revoked"


class _Client(asyncssh.SSHClient):
    def __init__(self, keys: HostKeys, seen: _Seen) -> None:
        self._keys, self._seen = keys, seen

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """Asked where the key is not among the known ones.  It is written down when the other side has proven it."""
        seen = self._seen
        seen.host, seen.port, seen.key = host, port, key
        seen.accepted = self._keys.accept_new and not self._keys.is_known(host, port)
        return seen.accepted


@dataclass(slots=True)
class SshSession:
    """One machine's connection."""

    target: Target
    account: str
    volact: Sequence[str]
    connection: asyncssh.SSHClientConnection = field(repr=False)

    async def run(self, words: Sequence[str], stdin: bytes = b"") -> Output:
        """Secrets go into ``stdin``, never into ``words``."""
        try:
            process = await self.connection.create_process(shlex.join(words), encoding=None)
            async with asyncio.TaskGroup() as group:
                group.create_task(_feed(process, stdin))
                out = group.create_task(_read(process.stdout, MOST_OUTPUT))
                err = group.create_task(_read(process.stderr, MOST_ERRORS))
            await process.wait_closed()
        except (asyncssh.Error, OSError) as exc:
            raise ConnectionLostError(machine=self.target.name, why=_why(exc)) from None
        if out.result() is None:
            raise RemoteTooLongError(machine=self.target.name, most=MOST_OUTPUT)
        if process.exit_status is None:
            raise ConnectionLostError(machine=self.target.name, why="the command ended without an exit code")
        return Output(process.exit_status, out.result() or b"", (err.result() or b"").decode("utf-8", "replace"))


class SshReach:
    """The fleet folder's way to machines.  ``async with`` it; its jump hosts' connections end with it."""

    def __init__(
        self, folder: FleetFolder, *, accept_new: bool = False, passphrase: str | None = None, **changes: Any
    ) -> None:
        """``changes``: settings for this time.  ``passphrase``: of the identity files.

        Raises :class:`SshSettingsError`, before any machine is asked.
        """
        self.settings = settings = _settings(folder.settings, changes)
        self._hostkeys = HostKeys(settings.known_hosts, folder.known_hosts, accept_new=accept_new)
        self._identities = [_read_identity(path, passphrase) for path in settings.identities]
        self._config = _config_files(settings.ssh_config)
        self._starts = asyncio.Semaphore(settings.starts)
        self._pool = ThreadPoolExecutor(settings.parallel, thread_name_prefix="resolver")
        self._jumps: dict[str, asyncio.Task[asyncssh.SSHClientConnection]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for jump in reversed(self._jumps.values()):
            with suppress(Exception, asyncio.CancelledError):
                await _close(await jump)
        self._pool.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def session(self, target: Target) -> AsyncIterator[SshSession]:
        connection = await self._connect(target)
        account = str(connection.get_extra_info("username"))
        try:
            yield SshSession(target, account, volact_words(self.settings, account), connection)
        finally:
            await _close(connection)

    async def _connect(self, target: Target) -> asyncssh.SSHClientConnection:
        """Tried again where sshd hung up before the handshake: that is how it sheds load."""
        for left in reversed(range(TRIES)):
            try:
                return await self._connect_once(target)
            except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError) as exc:
                if not left:
                    raise MachineUnreachableError(machine=target.name, why=_why(exc), address=target.host) from None
            await asyncio.sleep(0.2 * 2 ** (TRIES - left) * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
        raise AssertionError("the last try raises")

    async def _connect_once(self, target: Target) -> asyncssh.SSHClientConnection:
        if not _HOST.match(target.host) or not _ACCOUNT.match(target.account or "x"):
            raise SshProtocolError(machine=target.name, why="its address or account is none")
        seen = _Seen()
        options = self._options(target, seen)
        account = str(options.username)
        try:
            way = await self._way(target, options)
            async with _start(self._starts, way.get("sock")):
                connection = await asyncssh.connect(target.host, **self._arguments(target, seen), **way)
        except asyncssh.HostKeyNotVerifiable:
            raise self._host_key_error(target, seen) from None
        except asyncssh.PermissionDenied as exc:
            raise SshLoginRefusedError(machine=target.name, account=account, why=_why(exc)) from None
        except (asyncssh.ConnectionLost, ConnectionResetError, BrokenPipeError):
            raise
        except (TimeoutError, OSError, asyncssh.ChannelOpenError) as exc:
            raise MachineUnreachableError(machine=target.name, why=_why(exc), address=options.host) from None
        except (asyncssh.Error, ValueError) as exc:
            raise SshProtocolError(machine=target.name, why=_why(exc)) from None
        if seen.accepted and seen.key is not None:
            self._hostkeys.accept(seen.host, seen.port, seen.key)
        return connection

    def _options(self, target: Target, seen: _Seen) -> asyncssh.SSHClientConnectionOptions:
        try:
            return asyncssh.SSHClientConnectionOptions(host=target.host, **self._arguments(target, seen))
        except (ValueError, OSError) as exc:
            raise SshSettingsError(path=", ".join(map(str, self._config or [])) or "the keys", why=str(exc)) from None

    def _arguments(self, target: Target, seen: _Seen) -> dict[str, Any]:
        settings = self.settings
        seconds = min(CONNECT_SECONDS, settings.timeout)
        return {
            "config": self._config,
            "port": target.port or settings.port or (),
            "username": target.account or settings.account or (),
            "client_factory": lambda: _Client(self._hostkeys, seen),
            "client_keys": self._identities or (),
            "known_hosts": self._hostkeys.match,
            "connect_timeout": seconds,
            "login_timeout": seconds,
            "keepalive_interval": KEEPALIVE_SECONDS,
            "keepalive_count_max": KEEPALIVES,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "request_pty": False,
            "gss_kex": False,
            "gss_auth": settings.gssapi,
            # asyncssh looks for a ticket even where it may not be used, and meanwhile nothing else happens: without a
            # DNS that answers at once, one look takes seconds.
            "gss_host": () if settings.gssapi else None,
            "password_auth": False,
            "kbdint_auth": False,
        }

    async def _way(self, target: Target, options: asyncssh.SSHClientConnectionOptions) -> dict[str, Any]:
        """Over a jump host, a proxy command, or a TCP connection that stands already."""
        if isinstance(options.tunnel, str) and options.tunnel.lower() != "none":
            return {"tunnel": await self._jump(options.tunnel, target)}
        if options.proxy_command:
            return {"tunnel": None}
        return {"tunnel": None, "sock": await self._dial(options.host, options.port)}

    async def _jump(self, spec: str, target: Target) -> asyncssh.SSHClientConnection:
        """One connection for all machines behind a jump host; a chain of them is a jump through a jump."""
        task = self._jumps.get(spec)
        if task is None or (task.done() and _is_over(task)):
            task = self._jumps[spec] = asyncio.ensure_future(self._open_jump(spec))
        try:
            return await asyncio.shield(task)
        except MachineError as exc:
            why = f"jump host {spec}: {exc}"
            raise MachineUnreachableError(machine=target.name, why=why, address=target.host) from None

    async def _open_jump(self, spec: str) -> asyncssh.SSHClientConnection:
        before, _, last = spec.rpartition(",")
        jump = _jump_target(last.strip())
        if not before:
            return await self._connect(jump)
        seen = _Seen()
        try:
            return await asyncssh.connect(
                jump.host, **self._arguments(jump, seen), tunnel=await self._jump(before, jump)
            )
        except asyncssh.HostKeyNotVerifiable:
            raise self._host_key_error(jump, seen) from None
        except (asyncssh.Error, OSError) as exc:
            raise MachineUnreachableError(machine=jump.name, why=_why(exc), address=jump.host) from None

    async def _dial(self, host: str, port: int) -> socket.socket:
        """A TCP connection to the first address that takes one."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(min(CONNECT_SECONDS, self.settings.timeout)):
            found = await loop.run_in_executor(self._pool, _resolve, host, port)
            error: OSError = OSError("no address")
            for family, address in found:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                try:
                    await loop.sock_connect(sock, address)
                except OSError as exc:
                    sock.close()
                    error = exc
                except BaseException:
                    sock.close()
                    raise
                else:
                    return sock
            raise error

    def _host_key_error(self, target: Target, seen: _Seen) -> MachineError:
        unknown = seen.key is not None and not self._hostkeys.is_known(seen.host, seen.port)
        kind = HostKeyUnknownError if unknown else HostKeyChangedError
        return kind(machine=target.name, fingerprint=seen.fingerprint)


def volact_words(settings: Settings, account: str) -> Sequence[str]:
    """How volact is run there: through sudo, in English for its errors, unless the account is root already."""
    if settings.sudo == "never" or (settings.sudo == "auto" and account == "root"):
        return (settings.command,)
    return ("env", "LC_ALL=C", "sudo", "-n", settings.command)


def _settings(settings: Settings, changes: dict[str, Any]) -> Settings:
    from dataclasses import replace

    return replace(settings, **{name: value for name, value in changes.items() if value is not None}).check()


def _config_files(named: Sequence[str]) -> list[str]:
    """The administrator's configuration, OpenSSH's own where none is named; asyncssh does not read the system's."""
    for file in named:
        if not Path(file).expanduser().is_file():
            raise SshSettingsError(path=file, why="it is not a file")
    places = named or ("~/.ssh/config", "/etc/ssh/ssh_config")
    return [str(path) for file in places if (path := Path(file).expanduser()).is_file()]


def _read_identity(file: str, passphrase: str | None) -> asyncssh.SSHKey:
    path = Path(file).expanduser()
    try:
        return asyncssh.read_private_key(path, passphrase)
    except asyncssh.KeyEncryptionError:
        why = "it is encrypted, and the passphrase does not fit"
    except asyncssh.KeyImportError as exc:
        why = f"{exc}; load an encrypted key into an agent, or give --identity-passphrase-file"
    except OSError as exc:
        why = exc.strerror or str(exc)
    raise SshSettingsError(path=str(path), why=why)


def _jump_target(spec: str) -> Target:
    account, at, place = spec.removeprefix("ssh://").rpartition("@")
    host, port = place, None
    if place.startswith("["):
        host, _, rest = place[1:].partition("]")
        port = int(rest[1:]) if rest[1:].isdecimal() else None
    elif place.count(":") == 1 and place.rpartition(":")[2].isdecimal():
        host, port = place.rpartition(":")[0], int(place.rpartition(":")[2])
    return Target(host, port=port, account=account if at else None)


def _is_over(task: "asyncio.Task[asyncssh.SSHClientConnection]") -> bool:
    return task.cancelled() or task.exception() is not None or task.result().is_closed()


def _resolve(host: str, port: int) -> list[tuple[int, Any]]:
    return [(found[0], found[4]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@asynccontextmanager
async def _start(limit: asyncio.Semaphore, sock: socket.socket | None) -> AsyncIterator[None]:
    """A place among the connections that are being set up, given back early where the other side takes its time.

    Whoever gives up in the queue closes their ``sock``; later it is the connection's own.
    """
    try:
        await limit.acquire()
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    given_back = False

    def give_back() -> None:
        nonlocal given_back
        if not given_back:
            given_back = True
            limit.release()

    timer = asyncio.get_running_loop().call_later(START_SECONDS, give_back)
    try:
        yield
    finally:
        timer.cancel()
        give_back()


async def _feed(process: "asyncssh.SSHClientProcess[bytes]", stdin: bytes) -> None:
    """A command that ends before it has read everything is no error here: its exit code says what was wrong."""
    with suppress(BrokenPipeError, ConnectionResetError, asyncssh.Error):
        process.stdin.write(stdin)
        await process.stdin.drain()
        process.stdin.write_eof()


async def _read(stream: "asyncssh.SSHReader[bytes]", most: int) -> bytes | None:
    """Everything, or nothing where it is more than ``most``; what is over is read and dropped, so that it ends."""
    data, over = bytearray(), False
    while block := await stream.read(_BLOCK):
        over = over or len(data) + len(block) > most
        if not over:
            data += block
        elif len(data) > most // 2:
            data.clear()
    return None if over else bytes(data)


async def _close(connection: asyncssh.SSHClientConnection) -> None:
    connection.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.wait_closed()
    except (TimeoutError, asyncssh.Error, OSError):
        connection.abort()


def _why(exc: BaseException) -> str:
    """One line of what a library said."""
    if isinstance(exc, TimeoutError) and not str(exc):
        return "no answer in time"
    text = getattr(exc, "reason", "") or (exc.strerror if isinstance(exc, OSError) else "") or str(exc)
    text = str(text).strip() or type(exc).__name__
    return text.splitlines()[0][:200]
