# SPDX-License-Identifier: Apache-2.0
"""The ASGI application by itself: start and stop, who hangs up, and what a page that fails looks like."""

import asyncio
import json
import logging

import pytest

from volact.core.errors import REGISTRY, ConfigError, InputError, StoreError, TransportError, TrustError, VolactError
from volact.wire.gen.volact.v1.activation_pb import ActivateRequest, ActivateResponse
from volact.wire.server import ACTIVATE, BusyError, IssuerApplication, Page

PROTO = (b"content-type", b"application/proto")
BODY = ActivateRequest(issuer="i", sealed=b"abc").to_binary()
WHOLE = {"type": "http.request", "body": BODY, "more_body": False}
GONE = {"type": "http.disconnect"}


class Service:
    def __init__(self, raises=None):
        self.raises, self.calls = raises, 0

    async def descriptor(self, root, product, group, nonce):
        return "token"

    async def activate(self, issuer, sealed):
        self.calls += 1
        if self.raises:
            raise self.raises
        return sealed[::-1]


def run(application, messages, *, headers=(PROTO,), scope_type="http", path=ACTIVATE, method="POST"):
    """What the application sends for these messages; after the last one nothing more comes."""
    waiting, sent = list(messages), []

    async def receive():
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("never set")

    async def send(message):
        sent.append(message)

    scope = {"type": scope_type, "method": method, "path": path, "headers": list(headers), "query_string": b""}
    asyncio.run(application(scope | {"root_path": ""}, receive, send))
    return sent


def answer_of(sent):
    return sent[0]["status"], sent[1]["body"]


def test_a_body_in_pieces_is_one_message():
    pieces = [{"type": "http.request", "body": BODY[n : n + 1], "more_body": True} for n in range(len(BODY))]
    end = {"type": "http.request", "body": b"", "more_body": False}
    status, data = answer_of(run(IssuerApplication(Service(), {}), [*pieces, end]))
    assert (status, ActivateResponse.from_binary(data).sealed) == (200, b"cba")


@pytest.mark.parametrize("first", [[], [WHOLE | {"more_body": True}]], ids=["at once", "in the middle"])
def test_who_hangs_up_is_neither_asked_for_nor_answered(first):
    service = Service()
    assert run(IssuerApplication(service, {}), [*first, GONE]) == []
    assert service.calls == 0


@pytest.mark.parametrize(
    "headers", [(PROTO,), ((b"content-type", b"application/json"),), (PROTO, (b"connect-timeout-ms", b"60000"))]
)
def test_a_body_that_does_not_come_is_cut_off_in_every_way_through(headers):
    sent = run(IssuerApplication(Service(), {}, body_seconds=0.05), [], headers=headers)
    status, data = answer_of(sent)
    assert status == 504
    assert json.loads(data) == {"code": "deadline_exceeded", "message": "the body took longer than 0.05 seconds"}


def test_a_slow_service_is_not_cut_off_with_the_body():
    class Slow(Service):
        async def activate(self, issuer, sealed):
            await asyncio.sleep(0.1)
            return sealed

    for headers in ((PROTO,), (PROTO, (b"content-encoding", b"identity"))):
        sent = run(IssuerApplication(Slow(), {}, body_seconds=0.05), [WHOLE], headers=headers)
        assert sent[0]["status"] == 200


class TestLifespan:
    START, STOP = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}

    def test_hooks_run_at_start_and_stop(self):
        ran = []

        async def on_start():
            ran.append("start")

        async def on_stop():
            ran.append("stop")

        application = IssuerApplication(Service(), {}, on_start=on_start, on_stop=on_stop)
        sent = run(application, [self.START, self.STOP], scope_type="lifespan")
        assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        assert ran == ["start", "stop"]

    def test_an_application_that_cannot_start_says_so_and_is_not_served(self, caplog):
        async def on_start():
            raise OSError("the disk is gone")

        application = IssuerApplication(Service(), {}, on_start=on_start)
        sent = run(application, [self.START], scope_type="lifespan")
        assert sent == [{"type": "lifespan.startup.failed", "message": "the disk is gone"}]
        assert "did not start" in caplog.text


@pytest.mark.parametrize(
    ("family", "status"),
    [(InputError, 400), (TrustError, 400), (ConfigError, 400), (StoreError, 503), (TransportError, 500)],
)
def test_each_family_of_errors_has_its_status(family, status):
    assert answer_of(run(IssuerApplication(Service(family()), {}), [WHOLE]))[0] == status


def test_what_nobody_expected_is_logged_and_not_shown(caplog):
    with caplog.at_level(logging.ERROR):
        _, data = answer_of(run(IssuerApplication(Service(KeyError("secret")), {}), [WHOLE]))
    assert b"secret" not in data
    assert "secret" in caplog.text


def test_busy_says_when_to_come_back():
    sent = run(IssuerApplication(Service(BusyError(retry_after=3)), {}), [WHOLE])
    assert (b"retry-after", b"3") in sent[0]["headers"]
    assert (b"volact-error", b"server-busy") in sent[0]["headers"]


def test_a_page_is_shown():
    async def health():
        return Page(503, "application/json", b"{}")

    sent = run(IssuerApplication(Service(), {"/readyz": health}), [], path="/readyz", method="GET")
    assert answer_of(sent) == (503, b"{}")
    assert (b"content-type", b"application/json") in sent[0]["headers"]


def test_every_error_of_this_room_is_registered():
    for code in ("issuer-unknown", "server-busy", "host-unreachable", "server-error", "not-a-volact-server"):
        assert issubclass(REGISTRY[code], VolactError)
