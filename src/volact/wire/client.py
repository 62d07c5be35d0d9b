# SPDX-License-Identifier: Apache-2.0
"""Calls to an issuer over the standard library: Connect's unary calls in JSON.  The bare client's transport.

Answers are only bytes here; nothing in them is believed before ``sealing`` has verified it.  An unsigned error of a
server is a hint about the network, and is raised as such.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from volact.core.encoding import Fields, parse_object
from volact.core.errors import MalformedError, TransportError
from volact.wire import ERROR_HEADER, MAX_BODY, SERVICE

TIMEOUT_SECONDS = 10.0  # of one step: connecting, sending, each piece of the answer
PATIENCE = 3  # of these for the whole, so that a server that sends a byte now and then holds nobody up
MAX_ANSWER = 256 * 1024  # a descriptor with a long revocation status


class UnreachableError(TransportError):
    code = "host-unreachable"
    fmt = "cannot reach {host}, port {port}: {why}"
    remedy = (
        "check that its name has an address here, that it runs, and that no firewall blocks the port; "
        "`volact client status` shows how it was found"
    )


class ServerError(TransportError):
    code = "server-error"
    fmt = "{host}, port {port} answered {status}: {message}"
    remedy = "look into the server's events: `volact host events`; this unsigned answer changed nothing on this machine"


class NotVolactError(TransportError):
    code = "not-a-volact-server"
    fmt = "what answers on {host}, port {port} is not a Volact server: {why}"
    remedy = "check the host name and the port (`volact client set-host NAME:PORT`), and who else uses that port"


class UrlError(TransportError):
    code = "url-invalid"
    fmt = "{url} is not an address of a server"
    remedy = "give it as http://NAME:PORT or https://NAME:PORT"


@dataclass(frozen=True, slots=True)
class Server:
    """Where an issuer listens.  TLS is possible and not needed: requests are sealed and answers signed."""

    host: str
    port: int
    tls: bool = False
    timeout: float = TIMEOUT_SECONDS

    @classmethod
    def from_url(cls, url: str) -> "Server":
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise UrlError(url=url) from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise UrlError(url=url)
        tls = parts.scheme == "https"
        return cls(parts.hostname, port or (443 if tls else 80), tls)

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:
        """The issuer's descriptor, unverified."""
        from volact.core.encoding import b64encode

        body = {"root": root, "product": product, "group": group, "nonce": _standard(b64encode(nonce))}
        return self._call("GetIssuer", body, "descriptor", MAX_ANSWER)

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        """The sealed answer, unopened."""
        from base64 import b64decode, b64encode

        body = {"issuer": issuer, "sealed": b64encode(sealed).decode()}
        text = self._call("Activate", body, "sealed", MAX_BODY * 2)
        try:
            return b64decode(text, validate=True)
        except ValueError:
            raise self._not_volact("its answer is not base64") from None

    def _call(self, method: str, body: Mapping[str, Any], member: str, most: int) -> str:
        """One member of a method's answer."""
        status, headers, data = self._post(f"{SERVICE}/{method}", json.dumps(body).encode())
        if status != 200:
            raise self._error(status, headers, data)
        try:
            return Fields(parse_object(data, "server's answer"), "server's answer").text(member, most=most)
        except MalformedError as exc:
            raise self._not_volact(str(exc)) from None

    def _post(self, path: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        import http.client

        connection, watchdog = self._connection(), _Watchdog(self.timeout * PATIENCE)
        headers = {"Content-Type": "application/json", "Connection": "close", "Connect-Protocol-Version": "1"}
        try:
            connection.connect()
            with watchdog.over(connection.sock):
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                data = response.read(MAX_ANSWER + 1)
        except (http.client.HTTPException, ValueError) as exc:
            if not watchdog.bit:
                raise self._not_volact(type(exc).__name__) from None
        except (OSError, OverflowError) as exc:  # OverflowError: a port that no address has
            if not watchdog.bit:
                raise UnreachableError(host=self.host, port=self.port, why=_why(exc)) from None
        finally:
            connection.close()
        if watchdog.bit:
            raise UnreachableError(host=self.host, port=self.port, why=_TOO_SLOW)
        if len(data) > MAX_ANSWER:
            raise self._not_volact(f"its answer is longer than {MAX_ANSWER} bytes")
        return response.status, {name.lower(): value for name, value in response.getheaders()}, data

    def _connection(self) -> Any:
        import http.client

        try:
            if not self.tls:
                return http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
            import ssl

            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=context)
        except http.client.InvalidURL:
            raise UnreachableError(host=repr(self.host), port=self.port, why="that is no host's name") from None

    def _error(self, status: int, headers: Mapping[str, str], data: bytes) -> TransportError:
        try:
            message = Fields(parse_object(data, "error"), "error").text("message", most=1000)
        except MalformedError:
            if ERROR_HEADER not in headers:
                return self._not_volact(f"HTTP status {status}")
            message = "".join(c for c in headers[ERROR_HEADER][:200] if c.isprintable())
        return ServerError(host=self.host, port=self.port, status=status, message=message)

    def _not_volact(self, why: str) -> NotVolactError:
        return NotVolactError(host=self.host, port=self.port, why=why)


class _Watchdog:
    """Shuts a socket down when its time is over, whatever is being waited for; ``bit`` tells whether it had to."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.bit = False

    @contextmanager
    def over(self, sock: Any) -> Iterator[None]:
        import threading

        timer = threading.Timer(self._seconds, self._bite, [sock])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _bite(self, sock: Any) -> None:
        import socket

        self.bit = True
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _standard(url_safe: str) -> str:
    """Protobuf's JSON takes either alphabet; curl users see the standard one with padding."""
    return url_safe.replace("-", "+").replace("_", "/") + "=" * (-len(url_safe) % 4)


def _why(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return _TOO_SLOW
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


_TOO_SLOW = "it did not answer in time"
