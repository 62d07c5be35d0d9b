# SPDX-License-Identifier: Apache-2.0
"""The client's events: each with a number, a code and a message ID that never change, for people and for monitoring.

They go to the system's journal by its native protocol, and into a small file of the client's folder, which
``volact client events`` reads where there is no journal.  Writing one never fails: a full disk must not keep a
machine from being licensed.  Standard library only.  Reference: docs/reference/events.md.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from volact.client import platform

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)

JOURNAL_SOCKET = "/run/systemd/journal/socket"
FILE, LOCK = "events.jsonl", "events.lock"
LOCK_SECONDS = 1.0
MOST_BYTES = 256 * 1024  # of the file: about a thousand events, years of a healthy machine
KEPT_BYTES = MOST_BYTES // 2  # what is left of it when it is cut, whole lines
MESSAGE_ID = "3f0c7e5a91d84b62a7d15cc4e86b"  # 28 hexadecimal digits; the event's number makes the last four

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6  # syslog's priorities
LEVELS = {ERROR: "error", WARNING: "warning", NOTICE: "notice", INFO: "info"}


class Kind(NamedTuple):
    number: int
    level: int
    sentence: str


class Event(Enum):
    """What happens on a client.  A number is never given to something else."""

    SERVICE_STARTED = Kind(4001, INFO, "the licensing service has started (products: {products})")
    SERVICE_STOPPED = Kind(4002, INFO, "the licensing service has stopped")
    ROUND_FAILED = Kind(4003, ERROR, "the licensing service could not look after its products: {why}")
    ACTIVATION_REQUESTED = Kind(4010, INFO, "asking for a licence of {product} as {state}, channel {channel}")
    ACTIVATION_ANSWERED = Kind(4011, INFO, "{host} ({source}) answered for {product}: {outcome}")
    ACTIVATION_REFUSED = Kind(4012, WARNING, "an issuer refused to license {product}: {code}: {message}")
    ACTIVATION_FAILED = Kind(4013, WARNING, "no issuer answered for {product}: {code}: {message}")
    STATE_CHANGED = Kind(4020, NOTICE, "{product} was {before} and is {state}")
    REMINDER = Kind(4021, WARNING, "{product} is {state}: {message}")
    CLOCK_CHANGED = Kind(4030, NOTICE, "the system's clock was set")
    NETWORK_CHANGED = Kind(4031, INFO, "the network has changed, failed activations are tried again")
    FOLDER_REPAIRED = Kind(4040, WARNING, "{message}")
    FOLDER_UNUSABLE = Kind(4041, ERROR, "{message}")
    IMAGE_NOT_GENERALIZED = Kind(
        4050,
        WARNING,
        "the client's folder comes from another machine: its image was captured without `volact client generalize`",
    )
    GENERALIZED = Kind(4051, NOTICE, "this machine was made from a generalised image and has a new machine ID")
    PREPARED = Kind(4053, NOTICE, "{product} was laid in from an answer file")
    REARMED = Kind(4052, NOTICE, "the grace period of {product} began anew, {left} more times are left")

    @property
    def number(self) -> int:
        return self.value.number

    @property
    def code(self) -> str:
        return self.name.lower().replace("_", "-")

    @property
    def message_id(self) -> str:
        """The journal's MESSAGE_ID: ``journalctl MESSAGE_ID=…`` finds every event of this kind."""
        return f"{MESSAGE_ID}{self.number:04x}"


class Log:
    """Where events go.  ``folder``: the client's; ``journal``: the journal's socket."""

    def __init__(
        self, folder: Path, clock: Callable[[], float] = time.time, *, journal: str | None = JOURNAL_SOCKET
    ) -> None:
        self.path = folder / FILE
        self._clock, self._journal = clock, journal

    def write(self, event: Event, **fields: Any) -> dict[str, Any]:
        """Returns the event as it is stored."""
        row = {
            "at": int(self._clock()),
            "id": event.number,
            "event": event.code,
            "level": LEVELS[event.value.level],
            "message": event.value.sentence.format(**fields),
            **{name: value for name, value in fields.items() if name != "message"},
        }
        with suppress(OSError):
            self._append(row)
        with suppress(OSError):
            self._tell_system(event, row)
        return row

    def read(self) -> Iterator[dict[str, Any]]:
        """Oldest first; lines that a full disk cut off are left out."""
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict) and isinstance(row.get("message"), str):
                    yield row

    def _append(self, row: dict[str, Any]) -> None:
        """One write at the end, so that two processes never mix their lines; and one at a time, so that none writes
        into a file that another is cutting."""
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        with self._alone():
            if self.path.exists() and self.path.stat().st_size > MOST_BYTES:
                self._cut()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _CLOEXEC, 0o644)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody is waited for much longer than this takes: rather is a line lost than a licence late."""
        descriptor = os.open(self.path.with_name(LOCK), os.O_RDWR | os.O_CREAT | _CLOEXEC, 0o600)
        try:
            ends = time.monotonic() + LOCK_SECONDS
            while not platform.here().try_lock(descriptor) and time.monotonic() < ends:
                time.sleep(0.005)
            yield
        finally:
            os.close(descriptor)

    def _cut(self) -> None:
        kept = self.path.read_bytes()[-KEPT_BYTES:].partition(b"\n")[2]
        shorter = self.path.with_name(f".{FILE}.{os.getpid()}")
        shorter.write_bytes(kept)
        shorter.replace(self.path)

    def _tell_system(self, event: Event, row: dict[str, Any]) -> None:
        """The journal; without one, what the system has instead."""
        if self._journal is None:
            return
        if os.path.exists(self._journal):  # noqa: PTH110 - on every system, the name of a socket too
            self._send(event, row)
        else:
            platform.here().write_event(event.value.level, event.number, row["message"])

    def _send(self, event: Event, row: dict[str, Any]) -> None:
        assert self._journal is not None
        fields = {
            "MESSAGE": row["message"],
            "PRIORITY": event.value.level,
            "MESSAGE_ID": event.message_id,
            "SYSLOG_IDENTIFIER": "volact",
            "VOLACT_EVENT": event.code,
            "VOLACT_EVENT_ID": event.number,
        }
        fields |= {
            f"VOLACT_{name.upper()}": row[name]
            for name in ("product", "state", "before", "code", "host")
            if name in row
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(b"".join(_journal_field(name, str(value)) for name, value in fields.items()), self._journal)


def _journal_field(name: str, value: str) -> bytes:
    """systemd's native protocol: a value with a line feed has its length before it."""
    data = value.encode("utf-8", "replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def table() -> str:
    """The reference's table: docs/reference/events.md holds exactly this."""
    rows = [
        f"| {event.number} | `{event.code}` | {LEVELS[event.value.level]} | {event.value.sentence} |"
        f" `{event.message_id}` |"
        for event in Event
    ]
    return "\n".join(["| ID | event | level | sentence | MESSAGE_ID |", "|---|---|---|---|---|", *rows]) + "\n"
