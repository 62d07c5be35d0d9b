# SPDX-License-Identifier: Apache-2.0
"""Frames on a stream that has no beginning: bytes in, frames out.  Spec: docs/spec/vm-channel.md §2.

A serial port has no connection: what is read first may be the rest of a frame that was meant for a program that is
gone.  So frames find themselves: each begins with a mark whose first byte no frame's contents can have, and whatever
does not begin a good frame is skipped up to the next mark.  No I/O, no clock; memory is bounded by one frame.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

MARK = b"\xffVM\x01"
HEADER = struct.Struct(">4sIB")
MOST_REQUEST = 64 * 1024  # as for every request (docs/spec/encoding.md); the largest that a client makes has 6 KiB
MOST_ANSWER = 256 * 1024  # a descriptor with a long revocation status, in JSON


class Kind(IntEnum):
    """What a frame is; answers have the high bit.  No kind is a byte of the mark, so that a torn header shows."""

    GET_ISSUER = 0x01
    ACTIVATE = 0x02
    ISSUER = 0x81
    ACTIVATED = 0x82
    ERROR = 0x83


REQUESTS = frozenset({Kind.GET_ISSUER, Kind.ACTIVATE})
ANSWERS = frozenset({Kind.ISSUER, Kind.ACTIVATED, Kind.ERROR})


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    body: bytes

    def to_bytes(self) -> bytes:
        return HEADER.pack(MARK, len(self.body), self.kind) + self.body


class FrameReader:
    """One side's input.  ``kinds`` are those that this side may be sent, ``most`` the longest body.

    ``skipped`` counts the bytes that belonged to no good frame, ever.
    """

    def __init__(self, kinds: frozenset[Kind], most: int) -> None:
        self._kinds = frozenset(int(kind) for kind in kinds)
        self._most = most
        self._buffer = bytearray()
        self.skipped = 0

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that are complete by now.  Never raises."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        """The next whole frame, after skipping what cannot become one."""
        while True:
            self._skip_to_mark()
            if len(self._buffer) < HEADER.size:
                return None
            _, length, kind = HEADER.unpack_from(self._buffer)
            if length > self._most or kind not in self._kinds:
                self._skip(1)
                continue
            end = HEADER.size + length
            torn = self._buffer.find(MARK[0], HEADER.size, end)
            if torn >= 0:  # another frame began before this one ended: its sender is gone
                self._skip(torn)
                continue
            if len(self._buffer) < end:
                return None
            frame = Frame(Kind(kind), bytes(self._buffer[HEADER.size : end]))
            del self._buffer[:end]
            return frame

    def _skip_to_mark(self) -> None:
        """Keep what is, or could still become, a mark at the front."""
        at = self._buffer.find(MARK)
        if at < 0:
            kept = next((n for n in range(len(MARK) - 1, 0, -1) if self._buffer.endswith(MARK[:n])), 0)
            at = len(self._buffer) - kept
        self._skip(at)

    def _skip(self, count: int) -> None:
        self.skipped += count
        del self._buffer[:count]
