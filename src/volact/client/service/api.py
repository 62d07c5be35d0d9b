# SPDX-License-Identifier: Apache-2.0
"""The local API: what products of any language ask on a Unix socket.  It only tells.

    GET /v1/products                                       every product and its state
    GET /v1/products/NAME                                  one of them
    GET /v1/products/NAME/check?root=sha256:…&min_version=3  what ``volact.check()`` says, under the product's own root
    GET /v1/products/NAME/licence                          the stored licence, a compact JWS

Answers are JSON, errors problem documents (RFC 9457).  Everyone on the computer may ask: nothing is told that the
folder's files do not tell.  What is kept of a look is what ``volact.check()`` keeps: the time, and when a state was
first seen.  It runs in a process of its own that ends when nobody has asked for a while.
Reference: docs/guide/licensing-service.md.
"""

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from volact.client.check import World, check
from volact.client.folder.store import ClientStore, ProductUnknownHereError
from volact.client.products.loading import load_product, record
from volact.core.definition import RootMalformedError, parse_root
from volact.core.errors import InputError, VolactError
from volact.core.product_key import Channel

IDLE_SECONDS = 30.0  # without a caller, until the process ends
CALLER_SECONDS = 5.0  # for each step of a caller's
WHOLE_SECONDS = 15.0  # for all of them: one that sends a byte now and then holds a place, and there are only so many
MOST_CALLERS = 64  # at once; the others wait in the kernel's queue
MOST_FIELDS = 8  # of a query; two have a meaning
VERSION = "v1"


class QueryError(InputError):
    code = "query-invalid"
    fmt = "{name} is missing or malformed in the query: {expected}"
    remedy = "ask as docs/guide/licensing-service.md says"


class RequestError(InputError):
    code = "api-request"
    fmt = "the request cannot be answered: {why}"
    remedy = "ask as docs/guide/licensing-service.md says"


class PathUnknownError(InputError):
    code = "path-unknown"
    fmt = "there is nothing at {path}"
    remedy = "ask as docs/guide/licensing-service.md says"


class NotStoredError(InputError):
    code = "licence-not-stored"
    fmt = "{product} has no stored licence that other software could verify"
    remedy = "activate it online: `volact client activate {product}`"


class Asked:
    """Answers for one folder; ``get`` is all there is."""

    def __init__(self, folder: Path, world: World) -> None:
        self._folder, self._world = folder, world

    def get(self, target: str) -> dict[str, Any]:
        """The JSON of a path.  Raises the errors of this module and of the folder."""
        try:
            parts = urlsplit(target)
            query = {name: values[-1] for name, values in parse_qs(parts.query, max_num_fields=MOST_FIELDS).items()}
        except ValueError:
            raise RequestError(why=f"its address is malformed, or its query has over {MOST_FIELDS} fields") from None
        match [unquote(part) for part in parts.path.split("/")[1:]]:
            case ["v1", "products"]:
                store = ClientStore(self._folder, lock_seconds=0)
                return {"products": [self._listed(store, product) for product in store.products()]}
            case ["v1", "products", product]:
                return self._product(ClientStore(self._folder, lock_seconds=0), product)
            case ["v1", "products", product, "check"]:
                return self._check(product, query)
            case ["v1", "products", product, "licence"]:
                return self._licence(product)
        raise PathUnknownError(path=parts.path[:200])

    def _listed(self, store: ClientStore, product: str) -> dict[str, Any]:
        try:
            return self._product(store, product)
        except VolactError as exc:
            return {"product": product, "state": None, "licensed": False, "error": exc.to_dict()}

    def _product(self, store: ClientStore, product: str) -> dict[str, Any]:
        loaded, now = load_product(store, product), self._world.clock()
        evaluation = loaded.evaluate(self._world.machine.fingerprint(loaded.trust.fingerprint), now)
        record(store, loaded, evaluation, now, step=3600)
        attempt, reason, edition = store.attempt(product), evaluation.reason, loaded.edition
        volume = loaded.installation.channel is Channel.VOLUME
        return {
            "product": product,
            "edition": None if edition is None else edition.id,
            "channel": loaded.installation.channel,
            "state": evaluation.state,
            "licensed": evaluation.licensed,
            "enforcement": evaluation.enforcement,
            "until": evaluation.until,
            "reason": _reason(reason),
            "count": evaluation.count,
            "threshold": edition.policy.threshold if edition and volume else None,
            "next_attempt": attempt.next_due if attempt and loaded.asks_by_itself(evaluation) else None,
        }

    def _check(self, product: str, query: dict[str, str]) -> dict[str, Any]:
        try:
            root = parse_root(query.get("root", ""))
        except RootMalformedError:
            expected = "sha256: and 64 hexadecimal digits, as the product embeds it"
            raise QueryError(name="root", expected=expected) from None
        version = query.get("min_version", "0")
        if not (version.isascii() and version.isdecimal() and len(version) < 10):
            raise QueryError(name="min_version", expected="a whole number")
        found = check(product, root=root, min_version=int(version), dir=self._folder, _world=self._world)
        reason = found.reason
        return {
            "product": found.product,
            "edition": found.edition,
            "state": found.state,
            "licensed": found.licensed,
            "enforcement": found.enforcement,
            "until": found.until,
            "days_left": found.days_left,
            "reason": {"code": reason.code, "message": reason.sentence, "remedy": reason.remedy} if reason else None,
            "count": found.count,
            "threshold": found.threshold,
        }

    def _licence(self, product: str) -> dict[str, Any]:
        loaded = load_product(ClientStore(self._folder, lock_seconds=0), product)
        stored = loaded.answer(str(loaded.installation.channel))
        if stored is None:
            raise NotStoredError(product=product)
        return {"product": product, "licence": stored.token}


class Server(ThreadingMixIn, UnixStreamServer):
    """On a socket that is given to it and that it does not own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, listener: socket.socket, asked: Asked) -> None:
        super().__init__("", Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.asked = asked
        self.busy = 0
        self.last_at = time.monotonic()
        self._guard = threading.Lock()
        self._places = threading.BoundedSemaphore(MOST_CALLERS)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._places.acquire()
        with self._guard:
            self.busy += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                self.busy -= 1
                self.last_at = time.monotonic()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no fault of ours."""

    def serve_until_idle(self, idle_seconds: float = IDLE_SECONDS) -> None:
        """What waits at the socket when this ends is taken by the next process."""
        self.timeout = idle_seconds
        while True:
            self.handle_request()
            with self._guard:
                if not self.busy and time.monotonic() - self.last_at >= idle_seconds:
                    return


class Handler(BaseHTTPRequestHandler):
    """One exchange a connection."""

    server: Server
    timeout = CALLER_SECONDS
    whole_seconds = WHOLE_SECONDS
    server_version, sys_version = "volact", ""
    default_request_version = "HTTP/1.0"  # what is no HTTP at all is answered with a status, too

    def handle(self) -> None:
        watchdog = threading.Timer(self.whole_seconds, self._cut_off)
        watchdog.daemon = True
        watchdog.start()
        try:
            super().handle()
        finally:
            watchdog.cancel()

    def _cut_off(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        self._send(*_answer(self.server.asked.get, self.path))

    def do_HEAD(self) -> None:
        self.do_GET()

    def send_error(self, code: int, message: str | None = None, _explain: str | None = None) -> None:
        """What is no HTTP, or asks for more than to read: the library's own answer is a page for people."""
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, f"{str(self.command)[:20]} is not possible: it only reads"
        error = RequestError(why=message or HTTPStatus(code).phrase)
        self._send(code, _problem(code, error.code, str(error), error.hint))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        kind = "application/json" if status == HTTPStatus.OK else "application/problem+json"
        data = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        """A product that asks often fills no log."""


def _answer(get: Callable[[str], dict[str, Any]], target: str) -> tuple[int, dict[str, Any]]:
    try:
        return 200, get(target)
    except VolactError as exc:
        missing = isinstance(exc, ProductUnknownHereError | PathUnknownError | NotStoredError)
        status = 404 if missing else 400 if isinstance(exc, InputError) else 500
        return status, _problem(status, exc.code, str(exc), exc.hint)
    except (OSError, ValueError, RuntimeError) as exc:
        return 500, _problem(500, "internal-error", f"{type(exc).__name__}: {exc}", "")


def _problem(status: int, code: str, detail: str, remedy: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code, "remedy": remedy}


def _reason(reason: VolactError | None) -> dict[str, str] | None:
    return None if reason is None else {"code": reason.code, "message": str(reason), "remedy": reason.hint}
