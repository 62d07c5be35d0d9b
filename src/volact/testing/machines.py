# SPDX-License-Identifier: Apache-2.0
"""Machines that never existed: traits from a number, and the production command line run as one of them.

``python -m volact.testing --machine 7 -- client status --dir …`` runs the very code of ``volact``, with
machine 7's traits and name in the place of this computer's.  Several commands, each after a ``--``, run in turn until
one fails.  The demo runs its 30 machines this way.
"""

import argparse
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from volact.cli.environment import Environment
from volact.cli.main import main as volact_main
from volact.core.fingerprint import Trait

NO_FIRMWARE = Path("/nonexistent")  # this computer's own firmware is none of theirs


def simulated_traits(number: int) -> dict[Trait, str]:
    """The raw traits of machine ``number``: the same number is always the same hardware."""

    def digest(label: str) -> str:
        return hashlib.sha256(f"{label} of machine {number}".encode()).hexdigest()

    uuid = digest("smbios")
    return {
        Trait.MACHINE_ID: digest("machine-id")[:32],
        Trait.SMBIOS_UUID: f"{uuid[:8]}-{uuid[8:12]}-4{uuid[13:16]}-a{uuid[17:20]}-{uuid[20:32]}",
        Trait.SMBIOS_SERIAL: digest("serial")[:12],
        Trait.DISK_SERIAL: digest("disk")[:16],
        Trait.MAC: "00:1b:" + ":".join(digest("mac")[i : i + 2] for i in range(0, 8, 2)),
        Trait.CPU: f"Simulated CPU model {number % 3}",
    }


def machine_name(number: int) -> str:
    return f"machine-{number:03d}"


def simulated_environment(
    number: int, base: Environment | None = None, clock: Callable[[], int] | None = None
) -> Environment:
    """The command line's environment as machine ``number`` sees it; streams and variables are this process's."""
    base = base or Environment.of_process()
    return dataclasses.replace(
        base,
        clock=clock or base.clock,
        traits=lambda: simulated_traits(number),
        hostname=lambda: machine_name(number),
        root=base.root if base.root != Path("/") else NO_FIRMWARE,
    )


def main(argv: list[str] | None = None) -> int:
    """The exit code of the last command that ran."""
    parser = argparse.ArgumentParser(prog="python -m volact.testing", description=__doc__)
    parser.add_argument("--machine", type=int, required=True, help="which simulated machine to be")
    parser.add_argument("commands", nargs=argparse.REMAINDER, help="-- and a volact command line; may be repeated")
    args = parser.parse_args(argv)
    for command in _split(args.commands):
        code = volact_main(command, simulated_environment(args.machine))
        if code:
            return code
    return 0


def _split(words: list[str]) -> list[list[str]]:
    commands: list[list[str]] = []
    for word in words:
        if word == "--":
            commands.append([])
        elif commands:
            commands[-1].append(word)
    return commands
