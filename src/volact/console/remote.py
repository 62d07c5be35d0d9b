# SPDX-License-Identifier: Apache-2.0
"""Another machine as a target of acts: by SSH, the way the fleet tool goes."""

import asyncio
import shlex
from dataclasses import dataclass

from volact.console.targets import SECONDS, Command, CommandTimeoutError, Ended
from volact.fleet.folder import FleetFolder
from volact.fleet.reach import Target as Address
from volact.fleet.reach.ssh import SshReach


@dataclass(frozen=True, slots=True)
class FleetMachine:
    """One machine of the inventory; raises the fleet tool's own errors where it cannot be reached."""

    folder: FleetFolder
    address: Address
    remote: bool = True

    @property
    def name(self) -> str:
        return self.address.name

    def run(self, command: Command) -> Ended:
        return asyncio.run(self._run(command))

    def shown(self, command: Command) -> str:
        volact = f"ssh {shlex.quote(self.address.host)} {Command(command.words)}"
        return f"{volact} < {command.shown}" if command.shown else volact

    async def _run(self, command: Command) -> Ended:
        async with SshReach(self.folder) as reach, reach.session(self.address) as session:
            try:
                async with asyncio.timeout(SECONDS):
                    output = await session.run([*session.volact, *command.words], command.given)
            except TimeoutError:
                raise CommandTimeoutError(command=f"volact {command.words[0]}", seconds=int(SECONDS)) from None
        return Ended(output.code, output.out, output.err)
