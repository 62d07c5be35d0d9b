# SPDX-License-Identifier: Apache-2.0
"""Fingerprints: what identifies a machine, what is left out by rule, and how much may change."""

import base64
import hashlib
import hmac
from collections.abc import Set

import pytest

from volact.core.errors import MalformedError
from volact.core.fingerprint import DEFAULT_TOLERANCE, Fingerprint, Match, Tolerance, Trait, compare, normalise

SALT, OTHER_SALT = b"\x11" * 32, b"\x22" * 32
DESKTOP = {
    Trait.MACHINE_ID: "3d1219c7c4c5404aaa1f6d2a48adfda4",
    Trait.SMBIOS_UUID: "4C4C4544-0042-3510-8052-B4C04F4E4232",
    Trait.SMBIOS_SERIAL: "5B5RNB2",
    Trait.BOARD_SERIAL: "/5B5RNB2/CN1296356S00AB/",
    Trait.DISK_SERIAL: "S3Z8NB0K812345",
    Trait.MAC: "64:00:6a:12:34:56",
    Trait.CPU: "Intel(R) Core(TM) i5-6500 CPU @ 3.20GHz",
}


def fingerprint(changes: dict[Trait, str] | None = None, *, without: Set[Trait] = frozenset(), salt: bytes = SALT):
    raw = {trait: value for trait, value in (DESKTOP | (changes or {})).items() if trait not in without}
    return Fingerprint.of(raw, salt)


@pytest.mark.parametrize("trait", [Trait.SMBIOS_SERIAL, Trait.BOARD_SERIAL, Trait.DISK_SERIAL, Trait.CPU])
@pytest.mark.parametrize(
    "placeholder",
    [
        "", "   ", "\0\0\0", "To be filled by O.E.M.", "To Be Filled  By O.E.M.", "Default string", "None", "N/A",
        "Not Specified", "System Serial Number", "0000000000", "00 00 00", "xxxxxxx", "FF-FF-FF", "-----", "........",
        "123456789", "\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_a_placeholder_is_not_a_trait(trait, placeholder):
    assert normalise(trait, placeholder) is None
    assert trait not in fingerprint({trait: placeholder}).traits


@pytest.mark.parametrize(
    ("trait", "raw"),
    [
        (Trait.SMBIOS_UUID, "00000000-0000-0000-0000-000000000000"),
        (Trait.SMBIOS_UUID, "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
        (Trait.SMBIOS_UUID, "03000200-0400-0500-0006-000700080009"),
        (Trait.SMBIOS_UUID, "Not Settable"),
        (Trait.SMBIOS_UUID, "4C4C4544-0042-3510-8052"),
        (Trait.MACHINE_ID, "uninitialized"),
        (Trait.MACHINE_ID, ""),
        (Trait.MAC, "00:00:00:00:00:00"),
        (Trait.MAC, "ff:ff:ff:ff:ff:ff"),
        (Trait.MAC, "02:42:ac:11:00:02"),  # locally administered: Docker
        (Trait.MAC, "52:54:00:12:34:56"),  # locally administered: QEMU
        (Trait.MAC, "01:00:5e:00:00:01"),  # group address
        (Trait.MAC, "80:00:02:08:fe:80:00:00:00:00:00:00:7c:fe:90:03:00:26:4b:c2"),  # InfiniBand
        (Trait.DISK_SERIAL, "QM00001"),
        (Trait.DISK_SERIAL, "t10.ATA     QEMU HARDDISK                           QM00003"),
    ],
)
def test_values_that_many_machines_share_are_left_out(trait, raw):
    assert normalise(trait, raw) is None


@pytest.mark.parametrize(
    ("trait", "one", "other"),
    [
        (Trait.SMBIOS_UUID, "4C4C4544-0042-3510-8052-B4C04F4E4232", "{4c4c4544-0042-3510-8052-b4c04f4e4232}\n"),
        (Trait.MAC, "64:00:6A:12:34:56", "64-00-6a-12-34-56"),
        (Trait.MAC, "64:00:6A:12:34:56", "6400.6a12.3456"),
        (Trait.DISK_SERIAL, "  S3Z8NB0K812345      ", "s3z8nb0k812345\0\0"),
        (Trait.CPU, "Intel(R)  Xeon(R)   CPU", "intel(r) xeon(r) cpu"),
    ],
)
def test_spellings_of_one_value_are_one_trait(trait, one, other):
    assert normalise(trait, one) == normalise(trait, other) is not None


def test_a_trait_is_a_truncated_hmac_under_the_publishers_salt():
    message = b"volact/fingerprint/v1\0mac\x0064006a123456"
    expected = hmac.new(SALT, message, hashlib.sha256).digest()[:16]
    assert fingerprint().traits["mac"] == expected


def test_two_publishers_cannot_compare_machines():
    ours, theirs = fingerprint(), fingerprint(salt=OTHER_SALT)
    assert not set(ours.traits.values()) & set(theirs.traits.values())
    assert ours.digest != theirs.digest


def test_equal_values_of_two_traits_have_different_hashes():
    seen = fingerprint({Trait.SMBIOS_SERIAL: "SAME-1", Trait.BOARD_SERIAL: "SAME-1"})
    assert seen.traits["smbios-serial"] != seen.traits["board-serial"]


def test_a_short_salt_is_the_callers_fault():
    with pytest.raises(RuntimeError):
        Fingerprint.of(DESKTOP, b"")


def test_claim_is_sorted_base64url_and_reads_back():
    claim = fingerprint().to_claim()
    assert list(claim) == sorted(claim)
    assert all(len(text) == 22 and "=" not in text for text in claim.values())
    assert Fingerprint.from_claim(claim) == fingerprint()
    assert Fingerprint.from_claim(dict(reversed(claim.items()))).digest == fingerprint().digest


def test_a_newer_clients_traits_are_kept():
    claim = fingerprint().to_claim() | {"gpu-uuid": "A" * 22}
    assert Fingerprint.from_claim(claim).to_claim() == dict(sorted(claim.items()))


GOOD = base64.urlsafe_b64encode(bytes(range(16))).decode().rstrip("=")


@pytest.mark.parametrize(
    "claim",
    [
        None, [], "mac", 7,
        {"mac": None}, {"mac": 1}, {"mac": b"A" * 22}, {"mac": ""},
        {"mac": GOOD[:-1]}, {"mac": GOOD + "A"}, {"mac": GOOD + "=="}, {"mac": GOOD[:-1] + "x"},
        {"mac": "+" * 21 + "A"}, {"mac": GOOD + "\n"}, {"mac": "é" * 22},
        {"": GOOD}, {"MAC": GOOD}, {"mac ": GOOD}, {"mac\n": GOOD}, {"1mac": GOOD}, {"a" * 33: GOOD}, {7: GOOD},
        {f"trait-{n}": GOOD for n in range(17)},
    ],
)  # fmt: skip
def test_a_malformed_claim_is_refused_by_the_one_name(claim):
    with pytest.raises(MalformedError) as caught:
        Fingerprint.from_claim(claim)
    assert caught.value.what == "fingerprint"


def test_digest_names_exactly_this_fingerprint():
    assert fingerprint().digest == fingerprint().digest
    assert len(fingerprint().digest) == 16
    assert fingerprint().digest != fingerprint(without={Trait.CPU}).digest
    assert {fingerprint(), fingerprint()} == {fingerprint()}


def test_the_same_machine_matches_entirely():
    assert compare(fingerprint(), fingerprint(), DEFAULT_TOLERANCE) == Match(22, 22, within=True, differing=())


NEW_IMAGE = {Trait.MACHINE_ID: "99999999c4c5404aaa1f6d2a48adfda4"}
NEW_DISK = {Trait.DISK_SERIAL: "WD-WCC4N7654321"}
NEW_BOARD = {
    Trait.SMBIOS_UUID: "4C4C4544-0033-3510-8052-B4C04F4E9999",
    Trait.BOARD_SERIAL: "/8H2KPL3/CN1296356S00ZZ/",
    Trait.MAC: "64:00:6a:99:99:99",
}
OTHER_MACHINE = NEW_BOARD | {Trait.SMBIOS_SERIAL: "8H2KPL3"}  # of the same model


@pytest.mark.parametrize(
    ("what", "changes", "within"),
    [
        ("a new image", NEW_IMAGE, True),
        ("a new disk", NEW_DISK, True),
        ("a new disk and a new image", NEW_DISK | NEW_IMAGE, True),
        ("a new network card", {Trait.MAC: "00:15:5d:01:02:03"}, True),
        ("a new main board, with the maker's serial written back", NEW_BOARD, True),
        ("a new main board and a new image", NEW_BOARD | NEW_IMAGE, False),
        ("the disk moved to another machine", OTHER_MACHINE, False),
        ("the image copied to another machine", OTHER_MACHINE | NEW_DISK, False),
    ],
)
def test_default_tolerance(what, changes, within):
    assert compare(fingerprint(), fingerprint(changes), DEFAULT_TOLERANCE).within is within, what


def test_differing_names_what_changed():
    match = compare(fingerprint(), fingerprint(NEW_DISK | NEW_IMAGE), DEFAULT_TOLERANCE)
    assert match == Match(15, 22, within=True, differing=("disk-serial", "machine-id"))


def test_a_gap_in_collection_does_not_use_up_tolerance():
    root_only = {Trait.SMBIOS_UUID, Trait.SMBIOS_SERIAL, Trait.BOARD_SERIAL}
    match = compare(fingerprint(), fingerprint(without=root_only), DEFAULT_TOLERANCE)
    assert match == Match(10, 10, within=True, differing=())


def test_hiding_all_but_the_cpu_model_does_not_pass():
    match = compare(fingerprint(), fingerprint(without=set(Trait) - {Trait.CPU}), DEFAULT_TOLERANCE)
    assert match == Match(1, 1, within=False, differing=())


def test_nothing_in_common_is_not_a_match():
    disk, mac = fingerprint(without=set(Trait) - {Trait.DISK_SERIAL}), fingerprint(without=set(Trait) - {Trait.MAC})
    assert compare(disk, mac, DEFAULT_TOLERANCE) == Match(0, 0, within=False, differing=())
    assert not compare(disk, Fingerprint({}), DEFAULT_TOLERANCE).within


def test_two_machines_without_any_trait_match():
    assert compare(Fingerprint({}), Fingerprint({}), DEFAULT_TOLERANCE) == Match(0, 0, within=True, differing=())


def test_a_trait_the_policy_does_not_weigh_has_no_vote():
    with_gpu = Fingerprint({**fingerprint().traits, "gpu-uuid": b"\1" * 16})
    other_gpu = Fingerprint({**fingerprint().traits, "gpu-uuid": b"\2" * 16})
    assert compare(with_gpu, other_gpu, DEFAULT_TOLERANCE) == Match(22, 22, within=True, differing=())


def test_tolerance_reads_back_from_a_policy():
    claim = DEFAULT_TOLERANCE.to_claim()
    assert claim == {
        "weights": {
            "board-serial": 4, "cpu": 1, "disk-serial": 5, "mac": 2,
            "machine-id": 2, "smbios-serial": 3, "smbios-uuid": 5, "tpm-ek": 5,
        },
        "required": 50,
        "minimum": 2,
    }  # fmt: skip
    assert Tolerance.from_claim(claim) == DEFAULT_TOLERANCE
    assert len({Tolerance.from_claim(claim), DEFAULT_TOLERANCE}) == 1


def tolerance_claim(**changes):
    return {"weights": {"mac": 2, "cpu": 1}, "required": 50, "minimum": 1} | changes


@pytest.mark.parametrize(
    "claim",
    [
        None, [], {}, {"weights": {"mac": 1}, "required": 50}, tolerance_claim(extra=1),
        tolerance_claim(weights=[]), tolerance_claim(weights={}), tolerance_claim(weights={"MAC": 1}),
        tolerance_claim(weights={"mac": -1}), tolerance_claim(weights={"mac": 1001}),
        tolerance_claim(weights={"mac": True}), tolerance_claim(weights={"mac": 1.0}),
        tolerance_claim(weights={"mac": "1"}), tolerance_claim(weights={"mac": 0}),
        tolerance_claim(weights={f"trait-{n}": 1 for n in range(17)}),
        tolerance_claim(required=0), tolerance_claim(required=101), tolerance_claim(required=None),
        tolerance_claim(required=True), tolerance_claim(minimum=0), tolerance_claim(minimum=4),
        tolerance_claim(minimum="1"),
    ],
)  # fmt: skip
def test_a_malformed_tolerance_is_refused_by_the_one_name(claim):
    with pytest.raises(MalformedError) as caught:
        Tolerance.from_claim(claim)
    assert caught.value.what == "tolerance"
