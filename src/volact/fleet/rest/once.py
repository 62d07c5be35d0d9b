# SPDX-License-Identifier: Apache-2.0
"""Acts that may be sent again: with an ``Idempotency-Key`` each is done once, and answered alike for a day.

The act and the keeping of its answer are one transaction, see :mod:`volact.web.api.idempotency`.  Left out is what asks
the publisher meanwhile, and is the same when it is done again: refreshing keys, confirming bundles; and what gives a
file.
Spec: docs/guide/fleet-api.md §Sending again.
"""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from pydantic import TypeAdapter
from starlette.responses import Response

from volact.fleet.api import Fleet
from volact.fleet.exchange import bundle
from volact.fleet.schema import API_ANSWERS
from volact.sealing import keys
from volact.web.api.idempotency import REPLAYED, Answer, Answers, Asked

ONCE: Final = frozenset({
    "discover", "tag", "untag", "set_machine", "remove",
    "refresh", "bootstrap", "install_key", "activate", "proxy_collect", "proxy_apply", "backup", "restore",
    "job_pause", "job_resume", "job_cancel", "job_retry",
    "keys_add", "definition_add", "agreements_import", "import_bundle",
    "schedule_add", "schedule_enable", "schedule_disable", "token_make",
})  # fmt: skip
JSON = "application/json"


def answers_of(fleet: Fleet) -> Answers:
    """The answers that were given, sealed under what is derived from the folder's own key: the database has it not."""
    key = bundle.signing_key(fleet.folder.keys)
    return Answers(API_ANSWERS, keys.private_pem(key.private, None), os.urandom)


@contextmanager
def asking(answers: Answers, asked: Asked) -> Iterator[None]:
    """What is called inside, also in threads, is called for this request."""
    token = _ASKED.set((answers, asked))
    try:
        yield
    finally:
        _ASKED.reset(token)


def once(endpoint: Callable[..., Any], status: int, model: Any) -> Callable[..., Any]:
    """The endpoint, which a request with a key does once; ``model``: what it answers."""
    shape: TypeAdapter[Any] = TypeAdapter(model or inspect.signature(endpoint).return_annotation)

    @functools.wraps(endpoint)
    def run(*, fleet: Fleet, **given: Any) -> Any:
        called = _ASKED.get()
        if called is None:
            return endpoint(fleet=fleet, **given)
        answers, asked = called
        with fleet.store.together(f"{asked.token} {asked.key}") as conn:
            earlier = answers.find(conn, asked, fleet.clock())
            if earlier is not None:
                return _response(earlier, {REPLAYED: "true"})
            made = shape.validate_python(endpoint(fleet=fleet, **given), from_attributes=True)
            answer = Answer(status, {}, shape.dump_json(made))
            answers.keep(conn, asked, answer, fleet.clock())
        return _response(answer, {})

    return run


def _response(answer: Answer, more: dict[str, str]) -> Response:
    return Response(answer.body, answer.status, {**answer.headers, **more}, media_type=JSON)


_ASKED: ContextVar[tuple[Answers, Asked] | None] = ContextVar("asked", default=None)
