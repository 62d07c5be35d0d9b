# SPDX-License-Identifier: Apache-2.0
"""The desk and its callers that serve many machines: forests and hosts, counted by the rows of the online service."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from support.phone_desk import EXAMPLE, NOW, Desk
from volact.core.forest import Forest, ForestKind
from volact.core.phone import PhoneFormatError
from volact.core.phone_object import PhoneObject
from volact.core.phone_site import (
    SiteInstallationId,
    SiteKind,
    SiteSubject,
    name_of_forest,
    name_of_host,
    parse_installation_id,
)
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.refusal import RefusedError
from volact.publisher.administration.errors import HostAmbiguousError
from volact.publisher.administration.keys import NewKey
from volact.publisher.answering.phone import CallerGroupsError, CallerKeyError, CallerUnknownError
from volact.publisher.answering.phone_sites import SiteConfirmed
from volact.publisher.rules.issuing import Kind
from volact.publisher.schema import HOST_ACTIVATION
from volact.sealing import certificates, jws
from volact.sealing.certificates import Role
from volact.sealing.confirmation import ConfirmationInvalidError
from volact.sealing.keys import LocalKey
from volact.sealing.objects import verify_activation_object
from volact.sealing.phone_certificates import make
from volact.sealing.verify import Trust, verify_definition

GUID = "c7593518-e6e5-447a-b026-36d400922049"


def forest(number: int = 1) -> Forest:
    return Forest(ForestKind.AD, GUID, f"ad{number}.example.test", domain_sid=f"S-1-5-21-1-2-{number}")


def host_key(desk: Desk, channel: Channel = Channel.KMS_HOST, **limits: Any) -> NewKey:
    return desk.publisher.issue_host_key(
        "Contoso", "acme-cad", "servers", desk.clock(), "tests", channel=channel, **limits
    )


def subject(desk: Desk, key: NewKey) -> SiteSubject:
    return SiteSubject.of(desk.definition, key.key.group, key.key.key_id)


def shown(desk: Desk, key: NewKey, kind: SiteKind, name: bytes) -> SiteInstallationId:
    serial = int.from_bytes(secrets.token_bytes(2), "big")
    return SiteInstallationId.new(kind, subject(desk, key), name, desk.clock(), serial)


def show_forest(desk: Desk, key: NewKey, number: int = 1) -> SiteInstallationId:
    return shown(desk, key, SiteKind.FOREST, name_of_forest(forest(number)))


def show_host(desk: Desk, key: NewKey, of: LocalKey, kind: SiteKind = SiteKind.KMS_HOST) -> SiteInstallationId:
    return shown(desk, key, kind, name_of_host(jws.thumbprint(jws.jwk_of(of.public_key))))


def call(desk: Desk, installation: SiteInstallationId, key: NewKey) -> SiteConfirmed:
    parsed = parse_installation_id(str(installation))
    assert parsed == installation
    assert isinstance(parsed, SiteInstallationId)
    at_desk = desk.desk
    return at_desk.confirm(at_desk.look_up(parsed), key.key.partial, "no network in the vault", desk.clock(), "alice")


def object_of(desk: Desk, key: NewKey, installation: SiteInstallationId, confirmed: SiteConfirmed) -> PhoneObject:
    one = subject(desk, key)
    return PhoneObject(
        one.root, one.product, one.group, one.groups, one.key_id, forest(), "Head office", installation,
        confirmed.confirmation.signature,
    )  # fmt: skip


def trust(desk: Desk) -> Trust:
    return verify_definition(desk.publisher.store.version("acme-cad", None).token, desk.root).trust


def refused(act: Callable[[], Any]) -> str:
    with pytest.raises(RefusedError) as caught:
        act()
    return caught.value.code


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgresql"))])
def either(request: pytest.FixtureRequest) -> Desk:
    return request.getfixturevalue("desk" if request.param == "sqlite" else "postgresql_desk")


def test_a_key_serves_six_forests_and_the_online_ones_count(either: Desk) -> None:
    desk, key = either, host_key(either)
    first = show_forest(desk, key)
    assert call(desk, first, key).kind is Kind.ACTIVATED
    assert call(desk, first, key).kind is Kind.REPEATED
    assert call(desk, show_forest(desk, key, 1), key).kind is Kind.RENEWED
    for number in range(2, 7):
        assert call(desk, show_forest(desk, key, number), key).kind is Kind.ACTIVATED
    assert refused(lambda: call(desk, show_forest(desk, key, 7), key)) == "forest-limit-reached"
    asked = desk.desk.look_up(first)
    assert (asked.places, asked.limit, asked.held) == (6, 6, True)
    assert desk.acts().count("forest-activated") == 6
    assert desk.acts().count("phone-confirmed") == 8


def test_an_object_by_telephone_is_accepted_by_members_and_no_changed_one_is(desk: Desk) -> None:
    key = host_key(desk)
    installation = show_forest(desk, key)
    made = object_of(desk, key, installation, call(desk, installation, key))
    found = verify_activation_object(made.to_token(), trust(desk)).object
    assert found.groups == {101, 102}
    assert (found.expires_at - found.issued_at, found.partial) == (730 * DAY, "")
    for changed in (
        replace(made, forest=forest(2)),
        replace(made, groups=frozenset({101, 102, 103})),
        replace(made, product="acme-cam"),
        replace(made, key_id="0" * 32),
        replace(made, installation=replace(installation, day=installation.day + 1)),
        replace(made, installation=replace(installation, kind=SiteKind.KMS_HOST)),
        replace(made, signature=desk.desk._phone_key.sign(b"something else")),
    ):
        with pytest.raises(ConfirmationInvalidError):
            verify_activation_object(changed.to_token(), trust(desk))


def test_six_hosts_of_ten_activations_and_the_desk_refuses_from_the_same_rows(either: Desk) -> None:
    desk, key = either, host_key(either, hosts=2, activations=2)
    one, two, three = (LocalKey.generate() for _ in range(3))
    assert call(desk, show_host(desk, key, one), key).kind is Kind.ACTIVATED
    assert call(desk, show_host(desk, key, one), key).kind is Kind.REACTIVATED
    assert refused(lambda: call(desk, show_host(desk, key, one), key)) == "activation-limit-reached"
    assert call(desk, show_host(desk, key, two), key).kind is Kind.ACTIVATED
    assert refused(lambda: call(desk, show_host(desk, key, three), key)) == "host-limit-reached"
    desk.clock.now += 300 * DAY
    assert call(desk, show_host(desk, key, one), key).kind is Kind.RENEWED
    assert "host-renewed" in desk.acts()


def test_a_certificate_that_the_host_makes_is_accepted_in_its_year_only(desk: Desk) -> None:
    for channel, kind, role in (
        (Channel.KMS_HOST, SiteKind.KMS_HOST, Role.KMS_HOST),
        (Channel.VM_HOST, SiteKind.VM_HOST, Role.VM_HOST),
    ):
        key, of = host_key(desk, channel), LocalKey.generate()
        installation = show_host(desk, key, of, kind)
        signature = call(desk, installation, key).confirmation.signature
        made = make(of, subject(desk, key), installation, signature, "kms1.vault")
        assert certificates.role_of(made) is role
        assert int(made.not_valid_after_utc.timestamp()) == installation.ends_at == NOW // DAY * DAY + 365 * DAY


def test_who_does_not_know_the_key_is_told_nothing_and_a_key_of_another_channel_is_unknown(desk: Desk) -> None:
    key, of = host_key(desk), LocalKey.generate()
    asked = desk.desk.look_up(show_host(desk, key, of))
    with pytest.raises(CallerKeyError):
        desk.desk.confirm(asked, "AAAAA", "guessing", NOW, "alice")
    with pytest.raises(CallerUnknownError):
        desk.desk.look_up(show_host(desk, key, of, SiteKind.VM_HOST))
    assert desk.acts()[-1] == "request-refused"


def test_groups_that_no_definition_has_are_refused_and_an_earlier_definition_s_are_known(desk: Desk) -> None:
    key = host_key(desk)
    good = show_forest(desk, key)
    with pytest.raises(CallerGroupsError):
        desk.desk.look_up(replace(good, cover_tag=bytes(3)))
    toml = (
        EXAMPLE.read_text()
        .replace("version = 1", "version = 2")
        .replace("[groups.clients]", "[groups.more]\nnumber = 177\nparent = 101\n\n[groups.clients]")
    )
    desk.publisher.add_product(toml.encode(), desk.keys, NOW + 1, "tests")
    assert desk.definition.covered_by(101) == {101, 102, 177}
    assert desk.desk.look_up(good).subject.groups == {101, 102}
    assert desk.desk.look_up(show_forest(desk, key)).subject.groups == {101, 102, 177}


def test_a_blocked_key_and_a_day_of_the_past_are_refused_by_name(desk: Desk) -> None:
    key = host_key(desk)
    early = show_forest(desk, key)
    desk.clock.now += 32 * DAY
    assert refused(lambda: call(desk, early, key)) == "clock-skew"
    desk.publisher.store.set_blocked(key.key.key_id, "stolen", desk.clock(), "tests", blocked=True)
    assert refused(lambda: call(desk, show_forest(desk, key), key)) == "key-blocked"


def test_a_host_that_was_confirmed_is_revoked_by_its_machine_id_and_not_confirmed_again(desk: Desk) -> None:
    key, of, other = host_key(desk), LocalKey.generate(), LocalKey.generate()
    for one in (of, of, other):
        call(desk, show_host(desk, key, one), key)
    with pytest.raises(HostAmbiguousError):
        desk.publisher.revoke_host("telephone", NOW, "stolen", NOW, "tests")
    name = name_of_host(jws.thumbprint(jws.jwk_of(of.public_key))).hex()
    revoked = desk.publisher.revoke_host(name, NOW, "stolen", NOW, "tests")
    assert len(revoked.signers) == 2
    assert refused(lambda: call(desk, show_host(desk, key, of), key)) == "host-revoked"
    assert call(desk, show_host(desk, key, other), key).kind is Kind.REACTIVATED


def test_an_earlier_definition_brings_back_no_forests_that_the_newest_does_not_allow(desk: Desk) -> None:
    key = host_key(desk)
    earlier = [show_forest(desk, key, number) for number in (1, 2)]
    toml = (
        EXAMPLE.read_text()
        .replace("version = 1", "version = 2")
        .replace("[policy]", "[policy]\nforests_per_key = 1")
        .replace("[groups.clients]", "[groups.more]\nnumber = 177\nparent = 101\n\n[groups.clients]")
    )
    desk.publisher.add_product(toml.encode(), desk.keys, NOW + 1, "tests")
    assert call(desk, earlier[0], key).kind is Kind.ACTIVATED
    assert refused(lambda: call(desk, earlier[1], key)) == "forest-limit-reached"


def test_a_host_whose_certificate_is_revoked_gets_no_confirmation_for_the_same_key(desk: Desk) -> None:
    key, of = host_key(desk), LocalKey.generate()
    installation = show_host(desk, key, of)
    confirmed = call(desk, installation, key)
    certificate = make(of, subject(desk, key), installation, confirmed.confirmation.signature, "vault")
    with desk.publisher.store.change() as change:  # as if it had come online
        online = update(HOST_ACTIVATION).values(nonce=bytes(16), certificate=certificates.der(certificate))
        change.conn.execute(online)
    signer = certificates.key_thumbprint(of.public_key).hex()
    desk.publisher.revoke_issuer(signer, NOW, "stolen", NOW, "tests")
    assert refused(lambda: call(desk, show_host(desk, key, of), key)) == "host-revoked"


def test_an_installation_id_of_no_known_kind_is_named() -> None:
    from volact.core.phone import INSTALLATION_GROUPS, format_groups

    number = int.from_bytes(bytes([0x1F]) + bytes(26), "big")
    with pytest.raises(PhoneFormatError):
        parse_installation_id("-".join(format_groups(number, INSTALLATION_GROUPS)))
