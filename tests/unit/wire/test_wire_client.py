# SPDX-License-Identifier: Apache-2.0
"""The bare client's transport: addresses, and servers that do not answer, not at once, or not in our language."""

import contextlib
import socket
import threading
import time

import pytest

from volact.wire.client import PATIENCE, NotVolactError, Server, ServerError, UnreachableError, UrlError


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://kms.contoso.test:1688", "kms.contoso.test", 1688, False),
        ("https://activation.acme.example/", "activation.acme.example", 443, True),
        ("http://[2001:db8::1]:8080", "2001:db8::1", 8080, False),
        ("http://192.0.2.1", "192.0.2.1", 80, False),
    ],
)
def test_a_url_names_a_server(url, host, port, tls):
    server = Server.from_url(url)
    assert (server.host, server.port, server.tls) == (host, port, tls)


@pytest.mark.parametrize(
    "url",
    ["", "kms", "kms:1688", "ftp://kms", "http://", "http://:1688", "http://kms:99999", "http://kms:x", "http://kms/p"],
)
def test_what_is_no_url_of_a_server_is_named(url):
    with pytest.raises(UrlError):
        Server.from_url(url)


@pytest.fixture
def answering():
    """A server that answers each connection by a function of the socket, in a thread."""
    with contextlib.ExitStack() as stack:

        def start(answer):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(OSError):
                            connection.recv(65536)
                            answer(connection)

            threading.Thread(target=serve, daemon=True).start()
            return listener.getsockname()[1]

        yield start


def ask(port, timeout=5.0):
    return Server("127.0.0.1", port, timeout=timeout).activate("i", b"sealed")


def sends(data):
    return lambda connection: connection.sendall(data)


def ok(body, head=b"200 OK"):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


def test_an_answer_is_decoded(answering):
    assert ask(answering(sends(ok(b'{"sealed":"AAEC"}')))) == b"\0\1\2"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        ok(b"<html>it works</html>"),
        ok(b"{}"),
        ok(b'{"sealed":7}'),
        ok(b'{"sealed":"="}'),
        ok(b'{"sealed":"AAEC","sealed":"AAEC"}'),
        ok(b'{"sealed":"' + b"A" * 300_000 + b'"}'),
        ok(b"<html>moved</html>", b"301 Moved\r\nLocation: http://127.0.0.1:1/"),
        ok(b"<html>no</html>", b"404 Not Found"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    ],
    ids=["nothing", "ssh", "html", "empty", "number", "padding", "twice", "long", "moved", "404", "short"],
)
def test_what_does_not_speak_our_language_is_no_server_of_ours(answering, answer):
    with pytest.raises((NotVolactError, UnreachableError)):
        ask(answering(sends(answer)))


def test_a_servers_error_is_shown_with_its_status(answering):
    body = b'{"code":"unavailable","message":"server-busy: come back"}'
    with pytest.raises(ServerError, match="answered 503: server-busy: come back"):
        ask(answering(sends(ok(body, b"503 No"))))


def test_an_error_without_a_body_is_known_by_its_header(answering):
    with pytest.raises(ServerError, match="server-busy"):
        ask(answering(sends(ok(b"", b"503 No\r\nvolact-error: server-busy"))))


def test_no_markup_of_a_strangers_reaches_a_terminal(answering):
    for answer in (ok(b"", b"503 No\r\nvolact-error: \x1b[2Jx"), ok(b'{"message":"\\u001b[2J"}', b"503 No")):
        with pytest.raises((ServerError, NotVolactError)) as caught:
            ask(answering(sends(answer)))
        assert str(caught.value).isprintable()


def test_nobody_there_is_unreachable(answering):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnreachableError, match="refused"):
        ask(port)


@pytest.mark.parametrize("host", ["no such host", "a" * 70 + ".test", "", "x\0y", "host\r\nX: y"])
def test_a_name_that_is_none_is_unreachable(host):
    with pytest.raises((UnreachableError, NotVolactError)):
        Server(host, 1688, timeout=2).activate("i", b"")


def test_a_port_that_no_address_has_is_unreachable():
    with pytest.raises(UnreachableError):
        Server("127.0.0.1", 70_000).activate("i", b"")


def test_a_silent_server_is_given_up(answering):
    asked = threading.Event()
    began = time.monotonic()
    with pytest.raises(UnreachableError, match="did not answer in time"):
        ask(answering(lambda connection: asked.wait(10)), timeout=0.2)
    assert time.monotonic() - began < 5
    asked.set()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(answering, head):
    """Each byte comes in time, the answer never does: a machine would ask no other host."""

    def drip(connection):
        connection.sendall(head)
        while True:
            connection.sendall(b"A")
            threading.Event().wait(0.05)

    began = time.monotonic()
    with pytest.raises(UnreachableError, match="did not answer in time"):
        ask(answering(drip), timeout=0.2)
    assert time.monotonic() - began < 0.2 * PATIENCE + 3
