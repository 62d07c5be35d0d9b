# SPDX-License-Identifier: Apache-2.0
"""What a marker is for, and what a computer without one comes to."""

from dataclasses import replace

import pytest

from volact.core.definition import Edition, EditionKind
from volact.core.encoding import Fields
from volact.core.evaluation import Answer, Machine, evaluate
from volact.core.fingerprint import Fingerprint, Trait
from volact.core.marker import (
    Hardware,
    MarkerUnboundError,
    Model,
    OemMarker,
    Sight,
    Sighting,
    device_hash,
    licence_of,
)
from volact.core.policy import DAY, Policy, PolicyFigureError
from volact.core.product_key import Channel
from volact.core.states import State

NOW = 1_800_000_000
UUID, SERIAL = "4c4c4544-0042-3510-8052-b4c04f4e4232", "5B5RNB2"
BOOK = Model("Contoso", "Book 14")
HARDWARE = Hardware.of("Contoso", "Book 14", UUID, SERIAL)
FINGERPRINT = Fingerprint({Trait.SMBIOS_UUID: bytes(16), Trait.DISK_SERIAL: bytes(16)})
EDITION = Edition("client", "Acme CAD", 101, EditionKind.CLIENT, Policy())
MARKER = OemMarker(NOW, frozenset({101}), BOOK)
DEVICE = device_hash(Trait.SMBIOS_UUID, UUID)


def test_a_marker_needs_a_model_or_a_device():
    with pytest.raises(MarkerUnboundError):
        OemMarker(NOW, frozenset({101}))


@pytest.mark.parametrize(
    ("marker", "fits"),
    [
        (MARKER, True),
        (replace(MARKER, model=Model(" contoso", "BOOK 14 ")), True),
        (replace(MARKER, model=Model("Contoso", "Book 15")), False),
        (replace(MARKER, model=None, device=DEVICE), True),
        (replace(MARKER, model=None, device=device_hash(Trait.SMBIOS_SERIAL, SERIAL.lower())), True),
        (replace(MARKER, model=None, device=device_hash(Trait.SMBIOS_SERIAL, UUID)), False),
        (replace(MARKER, device=DEVICE), True),
        (replace(MARKER, device=bytes(32)), False),
        (replace(MARKER, model=Model("Contoso", "Book 15"), device=DEVICE), False),
    ],
)
def test_where_model_and_device_are_named_both_must_fit(marker, fits):
    assert marker.fits(HARDWARE) is fits


def test_a_computer_that_says_nothing_of_itself_fits_no_marker():
    nothing = Hardware.of("", "", "00000000-0000-0000-0000-000000000000", "To Be Filled By O.E.M.")
    assert nothing == Hardware(None, frozenset())
    assert not MARKER.fits(nothing)
    assert not replace(MARKER, model=None, device=DEVICE).fits(nothing)


def test_a_placeholder_names_no_device():
    assert device_hash(Trait.SMBIOS_SERIAL, "Default string") is None


def test_a_group_is_covered_whole_unless_editions_are_named():
    assert MARKER.covers(EDITION)
    assert not MARKER.covers(replace(EDITION, group=102))
    assert replace(MARKER, editions=frozenset({"client"})).covers(EDITION)
    assert not replace(MARKER, editions=frozenset({"other"})).covers(EDITION)


def test_claims_come_back_as_they_were():
    whole = replace(MARKER, device=DEVICE, editions=frozenset({"a", "b"}), groups=frozenset({1, 2}))
    for marker in (MARKER, whole, replace(whole, model=None)):
        assert OemMarker.from_claim(Fields(marker.to_claim(), "marker")) == marker
    sighting = Sighting(NOW, Sight.MISMATCH, "a.b.c", HARDWARE, FINGERPRINT, "Contoso Book 15")
    assert Sighting.from_claim(Fields(sighting.to_claim(), "sighting")) == sighting
    bare = Sighting(NOW, Sight.MISSING, "", Hardware(None, frozenset()), Fingerprint({}))
    assert Sighting.from_claim(Fields(bare.to_claim(), "sighting")) == bare


# ---- what it is worth


def oem_answer(**changes):
    licence = licence_of(MARKER, "a.b.c", "Contoso PCs", bytes(32), bytes(32), "acme-cad", EDITION, FINGERPRINT)
    return Answer(licence, NOW + DAY, **changes)


def look(*answers, at=NOW, channel=Channel.OEM, edition=EDITION, **seen):
    machine = Machine(bytes(32), FINGERPRINT, NOW, **seen)
    return evaluate(edition, "acme-cad", channel, answers, machine, at)


def code(found):
    return found.reason.code if found.reason else None


def test_an_oem_licence_outlives_its_makers_certificate():
    found = look(oem_answer(), at=NOW + 5000 * DAY, marker=Sight.PRESENT, marked=True)
    assert (found.state, found.until) == (State.LICENSED, None)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({}, "firmware-marker-missing"),
        ({"marker": Sight.MISSING}, "firmware-marker-missing"),
        ({"marker": Sight.MISMATCH, "made_for": "Contoso Book 15"}, "oem-marker-mismatch"),
    ],
)
def test_without_a_marker_that_fits_no_answer_licenses(seen, expected):
    found = look(oem_answer(), **seen)
    assert (found.state, code(found)) == (State.INITIAL_GRACE, expected)
    late = look(oem_answer(), at=NOW + 31 * DAY, **seen)
    assert (late.state, code(late)) == (State.NOTIFICATION, expected)


def test_a_marker_that_was_lost_gives_the_grace_of_changed_hardware_from_when_it_was_seen():
    lost = {"marker": Sight.MISSING, "marked": True}
    at = NOW + 900 * DAY
    assert look(oem_answer(), at=at, **lost).until == at + 30 * DAY
    seen = {**lost, "hardware_changed_at": at}
    assert look(oem_answer(), at=at + 29 * DAY, **seen).state is State.OUT_OF_TOLERANCE_GRACE
    assert look(oem_answer(), at=at + 30 * DAY, **seen).state is State.NOTIFICATION


def test_a_revoked_makers_marker_is_in_non_genuine_grace():
    found = look(oem_answer(issuer_revoked_at=NOW), marker=Sight.PRESENT, marked=True)
    assert (found.state, code(found)) == (State.NON_GENUINE_GRACE, "issuer-revoked")


def test_another_channel_asks_for_a_marker_only_where_its_policy_does():
    edition = replace(EDITION, policy=Policy(requires_marker=True))
    assert code(look(channel=Channel.VOLUME, edition=edition)) == "firmware-marker-missing"
    assert code(look(channel=Channel.VOLUME, edition=edition, marker=Sight.PRESENT)) == "not-activated"
    assert code(look(channel=Channel.VOLUME)) == "not-activated"


def test_the_figure_is_written_only_where_it_is_set():
    assert "requires_marker" not in Policy().to_claim()
    policy = Policy().with_changes({"requires_marker": True})
    assert policy.to_claim()["requires_marker"] is True
    assert Policy.from_claim(Fields(policy.to_claim(), "policy")) == policy
    with pytest.raises(PolicyFigureError):
        Policy().with_changes({"requires_marker": 1})
