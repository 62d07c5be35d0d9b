# SPDX-License-Identifier: Apache-2.0
"""The machine's own ``volact client … --json`` as the fleet tool calls it: JSON objects or one named error.

The far side is not trusted: it may print anything, and all of it is an answer or an error of that machine alone.
Text that goes into the inventory is cut and cleaned here.
"""

import json
from collections.abc import Sequence
from typing import Any

from volact.fleet.reach import Output, Session
from volact.fleet.reach.errors import (
    RemoteOutdatedError,
    RemoteRefusedError,
    RemoteUnreadableError,
    SudoRefusedError,
    VolactMissingError,
)

MOST_LINE = 200
NOT_FOUND = 127  # what every shell says of a command that is not there
_OUTDATED = ("unknown verb", "unknown option", "unknown argument")


async def call(session: Session, words: Sequence[str], stdin: bytes = b"") -> dict[str, Any]:
    """The object that ``volact client WORDS --json`` prints there, whatever its exit code.

    Raises a :class:`~volact.fleet.reach.errors.MachineError`: also where that object is volact's own named error.
    """
    output = await session.run([*session.volact, "client", *words, "--json"], stdin)
    return read_answer(session, output)


def read_answer(session: Session, output: Output) -> dict[str, Any]:
    """The last line that is a JSON object; a login script's greeting may stand before it."""
    machine = session.target.name
    for line in reversed(output.out.decode("utf-8", "replace").splitlines()):
        if line.startswith("{") and (answer := _object(line)) is not None:
            if isinstance(answer.get("error"), dict):
                raise _refused(machine, answer["error"])
            return answer
    raise _unreadable(session, output)


def clean(value: object, most: int = 200) -> str | None:
    """A machine's text as the inventory keeps it: printable, of bounded length."""
    if not isinstance(value, str):
        return None
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value[:most]).strip()
    return text or None


def first_line(text: str) -> str:
    line = next((line for line in text.splitlines() if line.strip()), "")
    return clean(line, MOST_LINE) or "nothing"


def _object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refused(machine: str, error: dict[str, Any]) -> RemoteRefusedError | RemoteOutdatedError:
    code, message = clean(error.get("code"), 60) or "unnamed", clean(error.get("message"), 400) or "no reason given"
    if code == "usage" and message.startswith(_OUTDATED):
        return RemoteOutdatedError(machine=machine, line=message)
    advice = clean(error.get("remedy"), 400) or f"see `volact client status` on {machine}"
    return RemoteRefusedError(machine=machine, remote=code, message=message, advice=advice)


def _unreadable(session: Session, output: Output) -> Exception:
    """What went wrong where no JSON came, by the words of sudo and the shell."""
    machine, errors = session.target.name, output.err
    lines = [line.strip() for line in errors.splitlines()]
    command = session.volact[-1]
    if _is_missing(output, lines, command):
        return VolactMissingError(machine=machine)
    if any(line.startswith("sudo:") for line in lines) or _no_sudo(lines, session.volact):
        why = first_line(next((line for line in lines if "sudo" in line), errors).removeprefix("sudo:").strip())
        return SudoRefusedError(machine=machine, account=session.account, why=why, command=command)
    text = output.out.decode("utf-8", "replace")
    line = first_line(text if text.strip() else errors)
    return RemoteUnreadableError(machine=machine, line=f"{line!r} (exit code {output.code})")


def _is_missing(output: Output, lines: Sequence[str], command: str) -> bool:
    """sudo says it itself and ends with 1; env and shells end with 127."""
    said = any(command in line and ("not found" in line or "No such file" in line) for line in lines)
    return said and (output.code == NOT_FOUND or any(line.startswith("sudo:") for line in lines))


def _no_sudo(lines: Sequence[str], volact: Sequence[str]) -> bool:
    return "sudo" in volact and any("sudo" in line and "not found" in line for line in lines)
