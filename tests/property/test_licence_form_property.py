# SPDX-License-Identifier: Apache-2.0
"""The form of an edition's licences: whatever is filled in, it gives the very bytes of the licence's own claims."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from volact.core.encoding import MAX_INT, Fields, dump_object, parse_object
from volact.core.fingerprint import HASH_BYTES, Fingerprint, Trait
from volact.core.licence import Licence
from volact.core.product_key import Channel
from volact.issuer.form import LicenceForm

texts = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=60)
numbers = st.integers(0, MAX_INT)
minutes = st.none() | st.integers(1, 100_000)
names = st.sampled_from([str(trait) for trait in Trait]) | st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
hashes = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)
fingerprints = st.builds(Fingerprint, st.dictionaries(names, hashes, max_size=16))
licences = st.builds(
    Licence,
    issuer=texts,
    machine=st.binary(min_size=32, max_size=32),
    product=texts,
    edition=texts,
    group=st.integers(0, 65_535),
    channel=st.sampled_from(Channel),
    key_id=texts,
    nonce=st.binary(min_size=16, max_size=16),
    issued_at=numbers,
    expires_at=numbers,
    fingerprint=fingerprints,
    organisation=texts,
    count=numbers,
    activation_interval_minutes=minutes,
    renewal_interval_minutes=minutes,
)


def filled(form: LicenceForm, licence: Licence) -> bytes:
    assert licence.expires_at is not None
    assert licence.count is not None
    return form.fill(
        licence.machine,
        licence.nonce,
        licence.fingerprint,
        count=licence.count,
        issued_at=licence.issued_at,
        expires_at=licence.expires_at,
    )


@given(sample=licences, other=licences)
def test_a_form_writes_each_licence_of_its_edition_as_the_licence_itself_would_be_written(sample, other):
    form = LicenceForm(sample)
    open_members = ("machine", "nonce", "fingerprint", "count", "issued_at", "expires_at")
    licence = replace(sample, **{name: getattr(other, name) for name in open_members})
    assert filled(form, sample) == dump_object(sample.to_claim())
    assert filled(form, licence) == dump_object(licence.to_claim())


@given(sample=licences)
def test_what_a_form_writes_reads_as_the_licence(sample):
    claims = Fields(parse_object(filled(LicenceForm(sample), sample), "licence"), "licence")
    assert Licence.from_claim(claims) == sample


def test_no_name_of_a_trait_is_taken_for_a_place_to_fill():
    odd = Fingerprint({"%s": bytes(HASH_BYTES), "100%": b"1" * HASH_BYTES})
    sample = Licence("i", bytes(32), "p", "e", 1, Channel.VOLUME, "k", bytes(16), 1, 2, odd, count=3)
    assert filled(LicenceForm(sample), sample) == dump_object(sample.to_claim())
