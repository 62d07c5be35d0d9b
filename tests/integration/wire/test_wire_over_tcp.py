# SPDX-License-Identifier: Apache-2.0
"""The contract over real TCP, by clients of several kinds, and what slow, silent and oversized ones cannot do."""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest
from connectrpc.code import Code
from connectrpc.compression.gzip import GzipCompression
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType
from pyqwest import HTTPVersion, SyncClient, SyncHTTPTransport

from volact.wire import MAX_BODY
from volact.wire.client import Server, ServerError
from volact.wire.gen.volact.v1.activation_connect import ActivationServiceClientSync
from volact.wire.gen.volact.v1.activation_pb import ActivateRequest, ActivateResponse, GetIssuerRequest
from volact.wire.serve import COLLECT_AFTER

SERVED = Path(__file__).with_name("served.py")
BODY_SECONDS = 1.0
ACTIVATE, GET_ISSUER = "/volact.v1.ActivationService/Activate", "/volact.v1.ActivationService/GetIssuer"
PROTO, JSON = "application/proto", "application/json"


class Served:
    def __init__(self, port, address="127.0.0.1"):
        self.port = port
        self.process = subprocess.Popen(
            [sys.executable, SERVED, address, str(port), str(BODY_SECONDS)], stdout=subprocess.PIPE, text=True
        )
        wait_for(self.is_up)

    @property
    def stdout(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def is_up(self):
        assert self.process.poll() is None, "the server ended"
        try:
            return self.get("/healthz")[0] == 200
        except OSError:
            return False

    def get(self, path, method="GET", host="127.0.0.1"):
        return self.ask(method, path, None, {}, host)

    def post(self, path, body, content_type=PROTO, **headers):
        status, _, data = self.ask("POST", path, body, {"Content-Type": content_type, **headers})
        return status, data

    def ask(self, method, path, body, headers, host="127.0.0.1"):
        connection = http.client.HTTPConnection(host, self.port, timeout=20)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


def wait_for(condition, seconds=20.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come to that"
        threading.Event().wait(0.02)


@pytest.fixture(scope="module")
def served(pick_port):
    served = Served(pick_port())
    yield served
    served.stop()
    served.stdout.close()


def activate_body(issuer="i", sealed=b"sealed"):
    return ActivateRequest(issuer=issuer, sealed=sealed).to_binary()


# --- clients of every kind ------------------------------------------------------------------------------------------


def test_a_plain_post_of_the_message_is_answered_with_one(served):
    status, data = served.post(ACTIVATE, activate_body())
    assert (status, ActivateResponse.from_binary(data).sealed) == (200, b"delaes")


def test_the_bare_client_is_answered(served):
    server = Server("127.0.0.1", served.port)
    assert server.activate("i", bytes(range(256))) == bytes(range(256))[::-1]
    assert server.get_issuer("sha256:ab", "acme-cad", 101, b"\xff" * 16) == "sha256:ab acme-cad 101 " + "ff" * 16


@pytest.mark.needs("curl")
def test_curl_is_answered(served):
    done = subprocess.run(
        [
            "curl",
            "--silent",
            "--fail",
            "--json",
            '{"issuer": "i", "sealed": "AAEC"}',
            f"http://127.0.0.1:{served.port}{ACTIVATE}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"sealed": "AgEA"}


@contextlib.contextmanager
def generated(served, protocol=ProtocolType.CONNECT, version=HTTPVersion.HTTP1, compression=None):
    with (
        SyncHTTPTransport(http_version=version) as transport,
        ActivationServiceClientSync(
            f"http://127.0.0.1:{served.port}",
            protocol=protocol,
            send_compression=compression,
            http_client=SyncClient(transport),
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("version", [HTTPVersion.HTTP1, HTTPVersion.HTTP2], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("protocol", [ProtocolType.CONNECT, ProtocolType.GRPC_WEB])
@pytest.mark.parametrize("compression", [GzipCompression(), None], ids=["gzip", "plain"])
def test_the_generated_client_is_answered(served, protocol, version, compression):
    with generated(served, protocol, version, compression) as client:
        assert client.activate(ActivateRequest(issuer="i", sealed=bytes(9000) + b"x")).sealed == b"x" + bytes(9000)
        asked = GetIssuerRequest(root="r", product="p", group=7, nonce=b"\1")
        assert client.get_issuer(asked).descriptor == "r p 7 01"
        with pytest.raises(ConnectError) as caught:
            client.activate(ActivateRequest(issuer="missing"))
        assert caught.value.code is Code.NOT_FOUND
        assert caught.value.message == "issuer-unknown: no issuer missing is served here"


def test_grpc_is_told_that_it_is_not_served(served):
    with (
        generated(served, ProtocolType.GRPC, HTTPVersion.HTTP2) as client,
        pytest.raises(ConnectError) as caught,
    ):
        client.activate(ActivateRequest(issuer="i"))
    assert caught.value.code in (Code.UNIMPLEMENTED, Code.UNKNOWN)
    assert served.post(ACTIVATE, b"", "application/grpc") == (
        501,
        b'{"code": "unimplemented", "message": "gRPC is not served here: use Connect or gRPC-Web"}',
    )


def test_a_connection_is_used_again(served):
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    with contextlib.closing(connection):
        for _ in range(3):
            connection.request("POST", ACTIVATE, activate_body(), {"Content-Type": PROTO})
            assert connection.getresponse().read()


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [PROTO, JSON])
@pytest.mark.parametrize(
    ("issuer", "status", "code", "message"),
    [
        ("missing", 404, "not_found", "issuer-unknown: no issuer missing is served here"),
        ("busy", 503, "unavailable", "server-busy: the server has too many requests waiting"),
        ("broken", 500, "internal", "internal: see the server's log"),
    ],
)
def test_an_error_has_the_status_and_code_of_its_family_and_shows_nothing_inside(
    served, content_type, issuer, status, code, message
):
    body = activate_body(issuer) if content_type == PROTO else json.dumps({"issuer": issuer}).encode()
    got, data = served.post(ACTIVATE, body, content_type)
    assert (got, json.loads(data)) == (status, {"code": code, "message": message})


def test_a_busy_server_says_when_to_come_back(served):
    status, headers, _ = served.ask("POST", ACTIVATE, activate_body("busy"), {"Content-Type": PROTO})
    assert (status, headers["retry-after"], headers["volact-error"]) == (503, "7", "server-busy")


def test_the_bare_client_calls_a_servers_error_by_its_name(served):
    with pytest.raises(ServerError, match="issuer-unknown") as caught:
        Server("127.0.0.1", served.port).activate("missing", b"")
    assert caught.value.status == 404


def test_a_body_that_is_no_message_is_malformed(served):
    for content_type in (PROTO, JSON):
        status, data = served.post(ACTIVATE, b"\xff\xff\xff", content_type)
        assert (status, json.loads(data)["code"]) == (400, "invalid_argument")


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""])
def test_another_content_type_is_refused(served, content_type):
    assert served.post(ACTIVATE, activate_body(), content_type)[0] == 415


def test_what_does_not_exist_is_not_found(served):
    assert served.post("/volact.v1.ActivationService/Deactivate", b"")[0] == 404
    assert served.post("/volact.v1.ActivationServices", b"")[0] == 404
    assert served.get("/")[0] == 404
    assert served.get("/../etc/passwd")[0] == 404


def test_activate_is_not_asked_by_get(served):
    assert served.get(f"{ACTIVATE}?encoding=json&message=%7B%7D")[0] in (404, 405)


def test_get_issuer_is_asked_by_get_too_since_it_changes_nothing(served):
    status, _, data = served.get(f"{GET_ISSUER}?encoding=json&message=%7B%22product%22%3A%22p%22%7D&connect=v1")
    assert (status, json.loads(data)) == (200, {"descriptor": " p 0 "})


def test_pages_are_read_and_nothing_else(served):
    status, headers, data = served.get("/healthz")
    assert (status, data, headers["cache-control"]) == (200, b"ok\n", "no-store")
    assert headers["x-content-type-options"] == "nosniff"
    status, _, data = served.get("/healthz", "HEAD")
    assert (status, data) == (200, b"")
    assert served.get("/healthz", "DELETE")[0] == 405


def test_a_worker_looks_for_garbage_seldom_and_not_among_what_was_loaded(served):
    """A busy host spends a thirtieth of its time on it otherwise, and finds none."""
    _, _, data = served.get("/collector")
    threshold, loaded = map(int, data.split())
    assert threshold == COLLECT_AFTER
    assert loaded > 1000


# --- too much, too slow, too many -----------------------------------------------------------------------------------


def test_the_largest_body_is_answered_and_a_larger_one_refused(served):
    most = MAX_BODY - len(activate_body(sealed=bytes(MAX_BODY))) + MAX_BODY
    assert len(activate_body(sealed=bytes(most))) == MAX_BODY
    assert served.post(ACTIVATE, activate_body(sealed=bytes(most)))[0] == 200
    status, data = served.post(ACTIVATE, activate_body(sealed=bytes(most + 1)))
    assert (status, json.loads(data)["code"]) == (429, "resource_exhausted")


def test_a_larger_body_is_refused_in_json_and_compressed_too(served):
    import gzip

    text = json.dumps({"issuer": "i", "sealed": "A" * (MAX_BODY * 2)}).encode()
    assert served.post(ACTIVATE, text, JSON)[0] == 429
    bomb = gzip.compress(bytes(50 * 1024 * 1024))
    assert len(bomb) < MAX_BODY
    assert served.post(ACTIVATE, bomb, PROTO, **{"Content-Encoding": "gzip"})[0] == 429


def half_asked(served, sent, content_type=PROTO, promised=100):
    """A connection that promises a body and sends only a part of it."""
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    head = f"POST {ACTIVATE} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {promised}\r\n\r\n"
    connection.sendall(head.encode() + sent)
    return connection


@pytest.mark.parametrize("content_type", [PROTO, JSON, "application/grpc-web+proto"])
@pytest.mark.parametrize("sent", [b"", b"\x0a\x01i", b"{"], ids=["nothing", "a field", "a brace"])
def test_a_body_that_does_not_come_is_cut_off(served, content_type, sent):
    began = time.monotonic()
    with half_asked(served, sent, content_type) as connection:
        answer = connection.recv(65536)
    assert BODY_SECONDS * 0.9 <= time.monotonic() - began < BODY_SECONDS + 5
    assert b"deadline" in answer or b"grpc-status: 4" in answer.lower() or b" 504 " in answer.split(b"\r\n")[0]


def test_a_body_that_drips_is_cut_off_all_the_same(served):
    began = time.monotonic()
    with half_asked(served, b"") as connection:
        connection.settimeout(0.1)
        answer = b""
        while not answer and time.monotonic() - began < 15:
            with contextlib.suppress(TimeoutError):
                connection.sendall(b"\n")
                answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 504")
    assert time.monotonic() - began < BODY_SECONDS + 5


def test_who_hangs_up_before_the_end_of_the_body_has_asked_nothing(served):
    before = served.get("/calls")[2]
    for sent in (b"", activate_body()):
        half_asked(served, sent).close()
    assert served.post(ACTIVATE, activate_body())[0] == 200
    wait_for(lambda: served.get("/calls")[2] == str(int(before) + 1).encode())


@pytest.mark.parametrize("sent", [b"", b"POST /volact.v1", None], ids=["silent", "half a line", "half a body"])
def test_hundreds_of_half_open_connections_stop_nobody(served, sent):
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            if sent is None:
                stack.enter_context(half_asked(served, b"\x0a"))
                continue
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=20))
            connection.sendall(sent)
        for _ in range(5):
            began = time.monotonic()
            assert served.post(ACTIVATE, activate_body())[0] == 200
            assert time.monotonic() - began < 2


def test_garbage_for_http_harms_nobody(served):
    for garbage in (b"\x00" * 1000, b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"A" * 200_000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", served.port), timeout=5) as one:
            one.sendall(garbage)
            one.shutdown(socket.SHUT_WR)
            while one.recv(65536):
                pass
    assert served.get("/healthz")[0] == 200


# --- addresses, start and stop --------------------------------------------------------------------------------------


def has_ipv6():
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


def test_every_address_is_listened_on_and_a_request_under_way_is_answered_at_the_stop(pick_port):
    served = Served(pick_port(), "::")
    try:
        assert served.get("/healthz", host="127.0.0.1")[0] == 200
        if has_ipv6():
            assert served.get("/healthz", host="::1")[0] == 200
        answers = []
        asking = threading.Thread(target=lambda: answers.append(served.post(ACTIVATE, activate_body("slow"))))
        asking.start()
        assert [served.stdout.readline() for _ in range(2)] == ["started\n", "slow\n"]
        assert served.stop() == 0
        asking.join(timeout=20)
        assert [(status, ActivateResponse.from_binary(data).sealed) for status, data in answers] == [(200, b"delaes")]
        assert served.stdout.read() == "stopped\n"
    finally:
        served.stop()
        served.stdout.close()


def test_a_port_in_use_is_named_before_anything_starts(served):
    done = subprocess.run(
        [sys.executable, SERVED, "127.0.0.1", str(served.port), "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "started" not in done.stdout
    assert f"cannot listen on 127.0.0.1, port {served.port}: Address already in use" in done.stderr
