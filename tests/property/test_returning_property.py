# SPDX-License-Identifier: Apache-2.0
"""Return proofs, inquiries, receipts and checkpoints: each parses back to itself, or raises the one named error."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import MalformedError, TrustError
from volact.core.licence import Checkpoint
from volact.core.returning import Inquiry, Receipt, ReturnProof
from volact.sealing import returns
from volact.sealing.keys import LocalKey

texts = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=29)
seconds = st.integers(0, 2**53 - 1)
nonces = st.binary(min_size=16, max_size=16)
response_keys = st.binary(min_size=32, max_size=32)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
checkpoints = st.builds(Checkpoint, st.integers(1, 2**53 - 1), hashes)
proofs = st.builds(ReturnProof, texts, texts, texts, nonces, nonces, seconds, st.just(b"") | response_keys)
inquiries = st.builds(Inquiry, texts, texts, nonces, response_keys, seconds)
receipts = st.builds(
    Receipt, texts, nonces, seconds, texts, seconds, seconds, st.booleans(), st.none() | st.booleans(),
    st.none() | checkpoints,
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
KEY = LocalKey.generate()


@given(st.one_of(proofs, inquiries, receipts, checkpoints))
def test_what_is_written_is_read_back(value):
    read = parse_object(dump_object(value.to_claim()), "test")
    assert type(value).from_claim(Fields(read, "test")) == value


@given(st.one_of(proofs, inquiries, receipts, checkpoints), st.data())
def test_a_changed_member_parses_or_raises_the_one_error(value, data):
    claim = json.loads(dump_object(value.to_claim()))
    where = claim["volact"] if "volact" in claim and data.draw(st.booleans()) else claim
    name = data.draw(st.sampled_from(sorted(where)))
    if data.draw(st.booleans()):
        del where[name]
    else:
        where[name] = data.draw(json_values)
    with contextlib.suppress(MalformedError):
        type(value).from_claim(Fields(claim, "test"))


@given(proofs)
def test_a_signed_proof_names_the_machine_that_signed(value):
    proven = returns.verify_return(returns.sign_return(value, KEY))
    assert proven.value == value
    assert len(proven.machine) == 32


@given(inquiries, st.integers(0, 5000), st.integers(1, 255))
def test_a_token_with_one_byte_changed_is_refused(value, place, change):
    token = bytearray(returns.sign_inquiry(value, KEY).encode())
    token[place % len(token)] ^= change
    with pytest.raises((MalformedError, TrustError)):
        returns.verify_inquiry(token.decode("latin-1"))


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_any_text_is_refused_by_name(text):
    for read in (returns.kind_of, returns.verify_return, returns.verify_inquiry):
        with pytest.raises((MalformedError, TrustError)):
            read(text)
