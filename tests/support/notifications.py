# SPDX-License-Identifier: Apache-2.0
"""A session bus of the test's own, and a notification server on it: what a desktop has, without a desktop.

The server speaks D-Bus by itself (specification 0.41), as much as a notification needs: it takes its name, answers
``GetServerInformation``, ``GetCapabilities`` and ``Notify``, and keeps what was shown.
"""

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NAME = "org.freedesktop.Notifications"
CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""
_CALL, _RETURN, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)


@dataclass(frozen=True)
class Shown:
    application: str
    title: str
    text: str


@dataclass
class Desktop:
    """``address`` is for DBUS_SESSION_BUS_ADDRESS."""

    address: str
    shown: list[Shown] = field(default_factory=list)


@contextmanager
def desktop(folder: Path) -> Iterator[Desktop]:
    folder.mkdir(exist_ok=True)
    path, config = folder / "bus", folder / "bus.conf"
    config.write_text(CONFIG.format(path=path))
    command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    try:
        found = Desktop(daemon.stdout.readline().decode().strip())
        with socket.socket(socket.AF_UNIX) as bus:
            bus.connect(str(path))
            server = _Server(bus, found)
            server.begin()
            thread = threading.Thread(target=server.serve, daemon=True)
            thread.start()
            yield found
            bus.shutdown(socket.SHUT_RDWR)
            thread.join(5)
    finally:
        daemon.terminate()
        daemon.wait(10)
        daemon.stdout.close()


class _Server:
    def __init__(self, bus: socket.socket, desktop: Desktop) -> None:
        self._bus, self._desktop, self._serial = bus, desktop, 0
        self._file = bus.makefile("rb")

    def begin(self) -> None:
        user = str(os.getuid()).encode().hex()
        self._bus.sendall(b"\0AUTH EXTERNAL " + user.encode() + b"\r\n")
        assert self._file.readline().startswith(b"OK")
        self._bus.sendall(b"BEGIN\r\n")
        self._call("Hello", b"", "")
        self._call("RequestName", _string(NAME) + _aligned(_string(NAME), 4) + struct.pack("<I", 4), "su")

    def serve(self) -> None:
        while (message := self._read()) is not None:
            kind, serial, fields, body = message
            if kind == _CALL:
                self._answer(serial, str(fields.get(_MEMBER, "")), str(fields.get(_SENDER, "")), body)

    def _answer(self, serial: int, member: str, sender: str, body: bytes) -> None:
        if member == "Notify":
            application, at = _read_string(body, 0)
            at = _up(at, 4) + 4  # which notice this one replaces
            _, at = _read_string(body, at)
            title, at = _read_string(body, at)
            text, at = _read_string(body, at)
            self._desktop.shown.append(Shown(application, title, text))
            self._reply(serial, sender, struct.pack("<I", len(self._desktop.shown)), "u")
        elif member == "GetServerInformation":
            texts = b""
            for one in ("test", "volact", "1", "1.2"):
                texts += _aligned(texts, 4) + _string(one)
            self._reply(serial, sender, texts, "ssss")
        elif member == "GetCapabilities":
            self._reply(serial, sender, struct.pack("<I", 9) + _string("body"), "as")
        else:
            self._send(_ERROR, [(_REPLY, "u", serial), (_DESTINATION, "s", sender),
                                (_ERROR_NAME, "s", "org.freedesktop.DBus.Error.UnknownMethod")], b"", "")  # fmt: skip

    def _call(self, member: str, body: bytes, signature: str) -> None:
        driver = "org.freedesktop.DBus"
        fields = [(_PATH, "o", "/org/freedesktop/DBus"), (_INTERFACE, "s", driver), (_MEMBER, "s", member),
                  (_DESTINATION, "s", driver)]  # fmt: skip
        self._send(_CALL, fields, body, signature)
        while True:
            message = self._read()
            assert message is not None
            if message[0] in (_RETURN, _ERROR) and message[2].get(_REPLY) == self._serial:
                assert message[0] == _RETURN
                return

    def _reply(self, serial: int, sender: str, body: bytes, signature: str) -> None:
        self._send(_RETURN, [(_REPLY, "u", serial), (_DESTINATION, "s", sender)], body, signature)

    def _send(self, kind: int, fields: Sequence[tuple[int, str, object]], body: bytes, signature: str) -> None:
        self._serial += 1
        if signature:
            fields = [*fields, (_SIGNATURE, "g", signature)]
        array = b""
        for code, type_, value in fields:
            array += _aligned(array, 8) + bytes([code, 1, ord(type_), 0])
            if type_ == "u":
                array += struct.pack("<I", value)
            elif type_ == "g":
                array += bytes([len(str(value))]) + str(value).encode() + b"\0"
            else:
                array += _string(str(value))
        head = struct.pack("<BBBBIII", ord("l"), kind, 0, 1, len(body), self._serial, len(array)) + array
        self._bus.sendall(head + _aligned(head, 8) + body)

    def _read(self) -> tuple[int, int, dict[int, object], bytes] | None:
        head = self._file.read(16)
        if len(head) < 16:
            return None
        _, kind, _, _, length, serial, size = struct.unpack("<BBBBIII", head)
        array = self._file.read(_up(size, 8))[:size]
        body = self._file.read(length)
        return kind, serial, _fields(array), body


def _fields(array: bytes) -> dict[int, object]:
    found: dict[int, object] = {}
    at = 0
    while at < len(array):
        at = _up(at, 8)
        code, length = array[at], array[at + 1]
        type_ = array[at + 2 : at + 2 + length].decode()
        at += length + 3
        if type_ == "u":
            at = _up(at, 4)
            found[code], at = struct.unpack_from("<I", array, at)[0], at + 4
        elif type_ == "g":
            found[code], at = array[at + 1 : at + 1 + array[at]].decode(), at + array[at] + 2
        else:
            found[code], at = _read_string(array, at)
    return found


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    at = _up(at, 4)
    length = struct.unpack_from("<I", data, at)[0]
    return data[at + 4 : at + 4 + length].decode(), at + 5 + length


def _string(text: str) -> bytes:
    return struct.pack("<I", len(text.encode())) + text.encode() + b"\0"


def _up(number: int, to: int) -> int:
    return -(-number // to) * to


def _aligned(data: bytes, to: int) -> bytes:
    return bytes(_up(len(data), to) - len(data))
