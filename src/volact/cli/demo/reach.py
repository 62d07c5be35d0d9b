# SPDX-License-Identifier: Apache-2.0
"""The demo's machines by SSH: one small server on the loopback address, an account for each machine.

What logs in as ``machine-007`` and runs ``volact client …`` runs it as that machine, on its folder; nothing else can be
run.  So the fleet tool and the console reach the demo's machines the way they reach any.
"""

import asyncio
import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import asyncssh

LOOPBACK = "127.0.0.1"
NAME = "machine-{:03d}"  # as the simulated machines call themselves
AT_A_TIME = 2  # commands that run at once, for the demo leaves the computer some air
GROUPS = ("client", "doctor")
COMMAND = "volact"
START_SECONDS = 20.0
REFUSED = 126


class MachineDoor:
    """A context manager.  ``identity`` is the key that is let in, ``known_hosts`` the server's; both are new each time.
    ``port``: the one that an inventory knows already."""

    def __init__(self, folder: Path, machines: int, port: int = 0) -> None:
        self._folder, self._machines = folder, machines
        self.identity, self.known_hosts = folder / "ssh" / "id_ed25519", folder / "ssh" / "known_hosts"
        self.port = port
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="ssh", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(START_SECONDS)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(START_SECONDS)

    async def _serve(self) -> None:
        own, mine = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self.identity.parent.mkdir(mode=0o700, exist_ok=True)
        mine.write_private_key(self.identity)
        self.identity.chmod(0o600)
        limit = asyncio.Semaphore(AT_A_TIME)

        async def run(process: "asyncssh.SSHServerProcess[bytes]") -> None:
            async with limit:
                await self._run(process)

        server = await asyncssh.listen(
            LOOPBACK,
            self.port,
            server_host_keys=[own],
            authorized_client_keys=asyncssh.import_authorized_keys(mine.export_public_key().decode()),
            process_factory=run,
            encoding=None,
        )
        self.port = server.get_port()
        self.known_hosts.write_text(f"[{LOOPBACK}]:{self.port} {own.export_public_key().decode()}")
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _run(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        words = self._words(str(process.get_extra_info("username")), process.command or "")
        if words is None:
            process.stderr.write(b"this account runs volact client and volact doctor, and nothing else\n")
            process.exit(REFUSED)
            return
        given = await process.stdin.read()
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe)
        out, err = await child.communicate(given)
        process.stdout.write(out)
        process.stderr.write(err)
        process.exit(child.returncode or 0)

    def _words(self, account: str, command: str) -> Sequence[str] | None:
        number = next((n for n in range(1, self._machines + 1) if NAME.format(n) == account), None)
        try:
            words = shlex.split(command)
        except ValueError:
            return None
        if number is None or len(words) < 2 or words[0] != COMMAND or words[1] not in GROUPS:
            return None
        own = str(self._folder / "machines" / f"{number:03d}")
        as_machine = [sys.executable, "-m", "volact.testing", "--machine", str(number), "--"]
        return [*as_machine, *words[1:], "--dir", own]
