# SPDX-License-Identifier: Apache-2.0
"""A load generator for one thread: HTTP/1.1 POSTs over epoll, one connection a request or kept alive.

As cheap as Python allows, since it shares the machine with the server it measures.  It checks each answer's status and
keeps each answer's latency; opening the answers is left to the caller, after the clock has stopped.
"""

import errno
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Result:
    """``latencies`` in seconds, in the order of the answers; ``bodies`` in the order of the requests."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


class _Call:
    __slots__ = ("began", "buffer", "index", "sock")

    def __init__(self, index: int, sock: socket.socket, began: float) -> None:
        self.index, self.sock, self.began, self.buffer = index, sock, began, b""


def post_all(address: tuple[str, int], path: str, payloads: Sequence[bytes], concurrency: int) -> Result:
    """Send each payload over a connection of its own, at most ``concurrency`` at a time; bounded by their number."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address[0]}\r\nContent-Type: application/proto\r\nConnection: close\r\n"
        "Content-Length: "
    ).encode()
    selector, result = selectors.EpollSelector(), Result(bodies=[b""] * len(payloads))
    waiting, open_calls = iter(enumerate(payloads)), 0
    began = time.perf_counter()

    def start() -> bool:
        for index, payload in waiting:
            sock = socket.socket()
            sock.setblocking(False)
            code = sock.connect_ex(address)
            if code not in (0, errno.EINPROGRESS):
                result.failures.append(errno.errorcode.get(code, str(code)))
                sock.close()
                continue
            call = _Call(index, sock, time.perf_counter())
            call.buffer = head + str(len(payload)).encode() + b"\r\n\r\n" + payload
            selector.register(sock, selectors.EVENT_WRITE, call)
            return True
        return False

    while open_calls < concurrency and start():
        open_calls += 1
    while open_calls:
        for key, events in selector.select(10.0):
            call = key.data
            try:
                done = _send(selector, call) if events & selectors.EVENT_WRITE else _receive(call)
            except OSError as exc:
                result.failures.append(type(exc).__name__)
                done = True
            else:
                if done:
                    _finish(call, result)
            if done:
                selector.unregister(call.sock)
                call.sock.close()
                open_calls -= 0 if start() else 1
    result.seconds = time.perf_counter() - began
    return result


def _send(selector: selectors.BaseSelector, call: _Call) -> bool:
    sent = call.sock.send(call.buffer)
    if sent == len(call.buffer):
        call.buffer = b""
        selector.modify(call.sock, selectors.EVENT_READ, call)
    else:
        call.buffer = call.buffer[sent:]
    return False


def _receive(call: _Call) -> bool:
    data = call.sock.recv(65536)
    if not data:
        return True
    call.buffer += data
    end = call.buffer.find(b"\r\n\r\n")
    if end < 0:
        return False
    lower = call.buffer[:end].lower()
    place = lower.find(b"content-length:")
    if place < 0:
        return False
    length = int(lower[place + 15 :].split(b"\r\n", 1)[0])
    return len(call.buffer) >= end + 4 + length


def _finish(call: _Call, result: Result) -> None:
    status = call.buffer[9:12]
    if status != b"200":
        result.failures.append(call.buffer[:200].decode("latin-1").split("\r\n", 1)[0] or "no answer")
        return
    result.latencies.append(time.perf_counter() - call.began)
    result.bodies[call.index] = call.buffer[call.buffer.find(b"\r\n\r\n") + 4 :]
