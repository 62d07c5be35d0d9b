# SPDX-License-Identifier: Apache-2.0
"""What a machine hands over and what a vault gives back is read strictly: parsed, or one named error."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.client.activation.carried import Carried
from volact.client.deployment.backup import Backup
from volact.core.errors import MalformedError
from volact.fleet.activation.confirmations import Collected
from volact.sealing.recipient import RecipientError, RecipientKey, RecipientSealError, seal

KEY = RecipientKey.generate()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(
    ["format", "v", "form", "key", "products", "request", "machine", "sealed", "root", "product", "edition", "channel"]
)
objects = st.dictionaries(names, values | st.sampled_from(["volact-machine-backup", 1, "pem", [], "acme-cad"]))


@given(st.binary(max_size=300) | objects.map(lambda value: json.dumps(value).encode()))
def test_a_backup_and_a_waiting_request_parse_or_are_malformed(data: bytes) -> None:
    for read in (Backup.from_bytes, Carried.from_bytes):
        try:
            read(data)
        except MalformedError:
            continue


@given(objects)
def test_whatever_a_machine_answers_to_a_collector_is_a_request_or_malformed(answer: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Collected.from_answer(answer)


@given(st.text(max_size=80) | st.text(max_size=60).map(lambda text: "x25519:" + text))
def test_a_recipient_is_a_key_or_refused(text: str) -> None:
    try:
        seal(text, "test", b"x")
    except RecipientError:
        return
    assert text.startswith("x25519:")


@given(st.binary(max_size=200), st.text(st.characters(codec="ascii"), max_size=20))
def test_what_was_sealed_opens_for_its_recipient_and_purpose_only(data: bytes, purpose: str) -> None:
    sealed = seal(KEY.text, purpose, data)
    assert KEY.open(sealed, purpose) == data
    for opener, what in ((RecipientKey.generate(), purpose), (KEY, purpose + "!")):
        with pytest.raises(RecipientSealError):
            opener.open(sealed, what)
    with pytest.raises(RecipientSealError):
        KEY.open(sealed[:-1], purpose)
