# SPDX-License-Identifier: Apache-2.0
"""An attacker on the wire: a TCP proxy between a client and its host that may answer in the host's place.

One connection carries one call.  The proxy reads it whole, then hands it to ``attack``, which returns the bytes to
send back, or ``None`` to hang up; ``forward`` asks the real host.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

ADDRESS = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Call:
    """A client's call on its way; ``head`` ends with the blank line."""

    head: bytes
    body: bytes
    port: int
    client: socket.socket

    @property
    def method(self) -> str:
        return self.head.split(b" ", 2)[1].rsplit(b"/", 1)[1].decode()

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def forward(self, body: bytes | None = None) -> bytes:
        """The real host's whole answer to the call, or to the same with another body."""
        body = self.body if body is None else body
        head = re.sub(rb"(?i)(content-length: *)\d+", rb"\g<1>" + str(len(body)).encode(), self.head)
        with socket.create_connection((ADDRESS, self.port), 10) as host:
            host.sendall(head + body)
            return b"".join(_read_message(host))

    def forward_json(self) -> dict[str, Any]:
        return dict(json.loads(self.forward().split(b"\r\n\r\n", 1)[1]))


Attack = Callable[[Call], bytes | None]


def ok(answer: dict[str, Any]) -> bytes:
    return reply(200, json.dumps(answer).encode())


def reply(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@contextmanager
def attacked(port: int, attack: Attack) -> Iterator[int]:
    """The proxy's own port, in front of the host at ``port``."""
    with socket.create_server((ADDRESS, 0)) as listener:
        threads: list[threading.Thread] = []

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=_serve, args=(client, port, attack)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def _serve(client: socket.socket, port: int, attack: Attack) -> None:
    with client, suppress(OSError):
        client.settimeout(30)
        head, body = _read_message(client)
        answer = attack(Call(head, body, port, client))
        if answer is not None:
            client.sendall(answer)


def _read_message(peer: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(peer)
    head, body = data.split(b"\r\n\r\n", 1)
    length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])  # type: ignore[index]
    while len(body) < length:
        body += _some(peer)
    return head + b"\r\n\r\n", body


def _some(peer: socket.socket) -> bytes:
    data = peer.recv(65536)
    if not data:
        raise ConnectionResetError("the peer hung up in the middle of a message")
    return data
