# SPDX-License-Identifier: Apache-2.0
"""Activation objects and readings: who may sign them, what they are bound to, and what a reading is worth."""

from dataclasses import replace
from typing import Any

import pytest

from volact.core.activation_object import (
    LIFETIME,
    ActivationObject,
    ForestMismatchError,
    ObjectExpiredError,
    ObjectGroupError,
    Reading,
    best_of,
    licence_of,
)
from volact.core.encoding import Fields
from volact.core.errors import MalformedError, TrustError
from volact.core.evaluation import Answer, Machine, evaluate
from volact.core.fingerprint import Fingerprint, Trait
from volact.core.forest import Forest, ForestKind
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.states import State
from volact.sealing import objects, verify
from volact.sealing.certificates import Role
from volact.sealing.keys import LocalKey
from volact.sealing.sign import MachineSigner
from volact.testing import Site

NOW = 1_800_000_000
AD = Forest(ForestKind.AD, "c7593518-e6e5-447a-b026-36d400922049", "ad.example.test", domain_sid="S-1-5-21-1-2-3")
LDAP = Forest(ForestKind.LDAP, AD.id, "dc=example,dc=test", tls=bytes(32))
HARDWARE = Fingerprint({Trait.SMBIOS_UUID: bytes(16)})
GROUPS = frozenset({101, 102})


@pytest.fixture(scope="module")
def site() -> Site:
    return Site.make(NOW)


def made(site: Site, **changes: Any) -> ActivationObject:
    base = ActivationObject(
        issuer="issuer", id="00" * 16, issued_at=NOW, expires_at=NOW + LIFETIME, root=site.publisher.fingerprint,
        groups=GROUPS, forest=AD, key_id="", partial="ABCDE", name="Head office", organisation="Contoso",
        product="acme-cad",
    )  # fmt: skip
    return replace(base, **changes)


def signed(site: Site, role: Role = Role.PUBLISHER, groups: Any = (), **changes: Any) -> str:
    return site.publisher.issuer(LocalKey.generate(), role, "Acme", groups).activation_object(made(site, **changes))


def reading(token: str, at: int = NOW, forest: Forest = AD) -> Reading:
    return Reading(token, at, forest, "PC1$@AD.EXAMPLE.TEST", "S-1-5-21-1-2-3-1103", "dc1.ad.example.test", HARDWARE)


def test_an_object_comes_back_as_it_was_signed(site: Site) -> None:
    for forest in (AD, LDAP):
        trusted = objects.verify_activation_object(signed(site, forest=forest), site.publisher.trust)
        assert trusted.object == made(site, forest=forest)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.PUBLISHER])
def test_no_other_role_may_sign_one(site: Site, role: Role) -> None:
    with pytest.raises(verify.RoleError):
        objects.verify_activation_object(signed(site, role, GROUPS), site.publisher.trust)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"expires_at": NOW + LIFETIME + 1}, "lease-too-long"),
        ({"expires_at": NOW}, "lease-too-long"),
        ({"root": "sha256:" + "0" * 64}, "issuer-untrusted"),
    ],
)
def test_one_that_lasts_too_long_or_names_another_root_is_refused(site: Site, changes: Any, code: str) -> None:
    with pytest.raises(TrustError) as caught:
        objects.verify_activation_object(signed(site, **changes), site.publisher.trust)
    assert caught.value.code == code


def test_one_under_another_root_and_one_that_was_changed_are_refused(site: Site) -> None:
    token = signed(site)
    with pytest.raises(verify.UntrustedRootError):
        objects.verify_activation_object(token, Site.make(NOW).publisher.trust)
    head, body, signature = token.split(".")
    with pytest.raises((TrustError, MalformedError)):
        objects.verify_activation_object(f"{head}.{body[:-4]}AAAA.{signature}", site.publisher.trust)


def test_another_forest_time_or_group_is_named(site: Site) -> None:
    found = made(site)
    found.check(AD, 102, NOW)
    found.check(replace(AD, name="renamed.test"), 102, NOW)
    for forest in (replace(AD, domain_sid="S-1-5-21-1-2-4"), replace(AD, id=AD.id[:-1] + "a"), LDAP):
        with pytest.raises(ForestMismatchError):
            found.check(forest, 102, NOW)
    with pytest.raises(ObjectExpiredError):
        found.check(AD, 102, found.expires_at)
    with pytest.raises(ObjectGroupError):
        found.check(AD, 103, NOW)


def test_a_reading_is_this_machine_s_alone(site: Site) -> None:
    token, mine, other = signed(site), MachineSigner(LocalKey.generate()), MachineSigner(LocalKey.generate())
    note = mine.reading(reading(token))
    kept, trusted = objects.verify_reading(note, site.publisher.trust, mine.machine)
    assert kept == reading(token)
    assert trusted.object == made(site)
    with pytest.raises(objects.ReadingMachineError):
        objects.verify_reading(note, site.publisher.trust, other.machine)


def test_a_reading_is_worth_a_lease_and_never_more_than_its_object(site: Site) -> None:
    edition = site.definition.editions[0]
    machine = bytes(32)
    first = licence_of(made(site), reading("", NOW), machine, "acme-cad", edition)
    assert (first.channel, first.count, first.expires_at) == (Channel.VOLUME, None, NOW + 180 * DAY)
    late = licence_of(made(site), reading("", NOW + 700 * DAY), machine, "acme-cad", edition)
    assert late.expires_at == NOW + LIFETIME
    with pytest.raises(ForestMismatchError):
        licence_of(made(site), reading("", NOW, LDAP), machine, "acme-cad", edition)


def test_evaluation_asks_no_count_of_a_directory_and_one_of_everybody_else(site: Site) -> None:
    edition, machine = site.definition.editions[0], Machine(bytes(32), HARDWARE, NOW)
    licence = licence_of(made(site), reading("", NOW), machine.id, "acme-cad", edition)

    def look(answer: Answer, at: int) -> Any:
        return evaluate(edition, "acme-cad", Channel.VOLUME, [answer], machine, at)

    by_directory = Answer(licence, made(site).expires_at, by_directory=True)
    assert look(by_directory, NOW).state is State.LICENSED
    assert look(by_directory, NOW).until == NOW + 180 * DAY
    assert look(by_directory, NOW + 180 * DAY).state is State.OUT_OF_TOLERANCE_GRACE
    assert look(replace(by_directory, by_directory=False), NOW).state is State.INITIAL_GRACE
    assert look(replace(by_directory, issuer_ends_at=NOW + DAY), NOW).until == NOW + DAY
    assert look(replace(by_directory, issuer_revoked_at=NOW), NOW).state is State.NON_GENUINE_GRACE


def test_the_object_that_lasts_longest_is_taken(site: Site) -> None:
    short, long = made(site, expires_at=NOW + DAY), made(site, id="11" * 16)
    assert best_of([(short, "a"), (long, "b")]) == (long, "b")


@pytest.mark.parametrize("jti", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32])
def test_an_id_is_a_nonce_in_hexadecimal(site: Site, jti: str) -> None:
    with pytest.raises(MalformedError):
        ActivationObject.from_claim(Fields({**made(site).to_claim(), "jti": jti}, "object"))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "nt4"},
        {"id": "C7593518-E6E5-447A-B026-36D400922049"},
        {"id": "no uuid"},
        {"domain_sid": "S-1-5-32-544"},
        {"domain_sid": "S-1-5-21-01-2-3"},
        {"kind": "ldap"},
        {"name": ""},
    ],
)
def test_a_forest_is_read_strictly(change: dict[str, str]) -> None:
    with pytest.raises(MalformedError):
        Forest.from_claim(Fields({**AD.to_claim(), **change}, "forest"))
