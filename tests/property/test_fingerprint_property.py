# SPDX-License-Identifier: Apache-2.0
"""Fingerprints, for all machines and all messages: round trip, parse or raise, a symmetric and monotone comparison."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from volact.core.errors import MalformedError
from volact.core.fingerprint import HASH_BYTES, Fingerprint, Tolerance, Trait, compare, normalise

names = st.one_of(
    st.sampled_from([str(trait) for trait in Trait]), st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
)
# Few values, so that traits often agree.
hashes = st.sampled_from([bytes([n]) * HASH_BYTES for n in range(3)])
fingerprints = st.builds(Fingerprint, st.dictionaries(names, hashes, max_size=16))
weights = st.dictionaries(names, st.integers(0, 20), min_size=1, max_size=16).filter(lambda w: sum(w.values()) > 0)
tolerances = weights.flatmap(
    lambda w: st.builds(Tolerance, st.just(w), st.integers(1, 100), st.integers(1, sum(w.values())))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | names, inner),
    max_leaves=20,
)


@given(fingerprints)
def test_a_fingerprint_reads_back_from_its_claim(fingerprint):
    read = Fingerprint.from_claim(fingerprint.to_claim())
    assert read == fingerprint
    assert (read.digest, hash(read)) == (fingerprint.digest, hash(fingerprint))


@given(fingerprints, fingerprints)
def test_digests_are_equal_exactly_when_fingerprints_are(one, other):
    assert (one == other) == (one.digest == other.digest)


@given(json_values | st.dictionaries(names, st.text("AQgwxyz_-+/= ", min_size=20, max_size=24)))
def test_any_claim_reads_or_raises_malformed(claim):
    with suppress(MalformedError):
        assert Fingerprint.from_claim(claim).to_claim() == claim


@given(json_values | st.fixed_dictionaries({"weights": json_values, "required": json_values, "minimum": json_values}))
def test_any_tolerance_reads_or_raises_malformed(claim):
    with suppress(MalformedError):
        assert Tolerance.from_claim(claim).to_claim() == claim


@given(tolerances)
def test_a_tolerance_reads_back_from_its_claim(tolerance):
    assert Tolerance.from_claim(tolerance.to_claim()) == tolerance


@given(fingerprints, fingerprints, tolerances)
def test_comparison_is_symmetric(stored, seen, tolerance):
    assert compare(stored, seen, tolerance) == compare(seen, stored, tolerance)


@given(fingerprints, tolerances)
def test_every_machine_matches_itself(fingerprint, tolerance):
    match = compare(fingerprint, fingerprint, tolerance)
    assert match.within
    assert match.matched == match.compared
    assert not match.differing


@given(fingerprints, fingerprints, tolerances)
def test_weights_add_up(stored, seen, tolerance):
    match = compare(stored, seen, tolerance)
    assert match.compared - match.matched == sum(tolerance.weights[name] for name in match.differing)
    assert set(match.differing) <= set(stored.traits) & set(seen.traits)


@given(fingerprints, fingerprints, tolerances, st.data())
def test_one_more_agreeing_trait_never_ends_a_match(stored, seen, tolerance, data):
    if not stored.traits or not compare(stored, seen, tolerance).within:
        return
    name = data.draw(st.sampled_from(list(stored.traits)))
    traits = {**seen.traits, name: stored.traits[name]}
    if len(traits) <= 16:
        assert compare(stored, Fingerprint(traits), tolerance).within


@given(fingerprints, fingerprints, tolerances)
def test_what_one_side_lacks_has_no_vote(stored, seen, tolerance):
    common = set(stored.traits) & set(seen.traits)
    shrunk = Fingerprint({name: value for name, value in stored.traits.items() if name in common})
    whole, part = compare(stored, seen, tolerance), compare(shrunk, seen, tolerance)
    assert (whole.matched, whole.compared, whole.differing) == (part.matched, part.compared, part.differing)


@given(fingerprints, fingerprints, tolerances, st.integers(1, 100))
def test_a_stricter_policy_never_accepts_more(stored, seen, tolerance, required):
    other = Tolerance(tolerance.weights, required, tolerance.minimum)
    strict, loose = sorted((tolerance, other), key=lambda one: -one.required)
    if compare(stored, seen, strict).within:
        assert compare(stored, seen, loose).within


@given(st.sampled_from(Trait), st.text())
def test_any_raw_value_has_one_spelling_or_none(trait, raw):
    value = normalise(trait, raw)
    if value is not None:
        assert normalise(trait, value) == normalise(trait, f" {value.upper()}\0") == value
    Fingerprint.of({trait: raw}, b"\x11" * 32)
