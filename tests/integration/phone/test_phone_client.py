# SPDX-License-Identifier: Apache-2.0
"""A machine activated by telephone: what it shows, what it takes for an answer, and every forgery that it refuses."""

import json
from dataclasses import replace
from typing import Any

import pytest

from support.client_machine import PRODUCT
from support.telephone import OTHER_PHONE_KEY, PHONE_KEY, apply, caller, confirm, mak, phone_site, show
from volact.client.activation.phone import (
    InstallationChangedError,
    NoInstallationIdError,
    PhoneChannelError,
)
from volact.client.products import installing, loading
from volact.client.products.phone_licence import PhoneLicence, PhoneNotOfferedError
from volact.core.encoding import b64encode
from volact.core.errors import MalformedError
from volact.core.phone import ConfirmationId, InstallationId, PhoneDayError, PhoneReferenceError
from volact.core.product_key import Channel
from volact.core.states import State
from volact.sealing.confirmation import ConfirmationInvalidError
from volact.testing.machines import simulated_traits

DAY = 86400


@pytest.fixture
def site():
    return phone_site()


@pytest.fixture
def machine(tmp_path, site):
    return caller(tmp_path / "one", site)


@pytest.fixture
def licensed(machine, site):
    apply(machine, confirm(site, show(machine)))
    return machine


def stored(machine):
    return machine.folder / "products" / PRODUCT / "answers" / "phone.json"


def rewrite(machine, **members):
    """What an owner with an editor does to both copies of the phone licence."""
    for path in (stored(machine), stored(machine).with_name("phone.json.copy")):
        path.write_text(json.dumps(json.loads(path.read_bytes()) | members))


@pytest.mark.parametrize("channel", [Channel.MAK, Channel.RETAIL])
def test_a_confirmation_id_licenses_for_good(tmp_path, site, channel):
    machine = caller(tmp_path, site, key=mak(site, channel=channel))
    assert machine.evaluate().state is State.INITIAL_GRACE
    applied = apply(machine, confirm(site, show(machine)))
    assert applied.evaluation.licensed
    assert applied.evaluation.until is None
    assert applied.licence.channel is channel
    site.clock.advance(days=3650)
    assert machine.evaluate().licensed
    assert machine.check().licensed


def test_a_product_that_was_looking_sees_the_licence_at_once(machine, site):
    assert not machine.check().licensed
    apply(machine, confirm(site, show(machine)))
    assert machine.check().licensed
    rewrite(machine, edition="server")
    assert not machine.check().licensed


def test_the_digits_stay_the_same_until_something_changes(machine, site):
    first = show(machine)
    site.clock.advance(days=13)
    assert show(machine, serial=b"\x55\x55") == first
    assert show(machine, new=True, serial=b"\x55\x55") != first
    site.clock.advance(days=15)
    assert show(machine).installation.day == site.clock() // DAY


def test_other_hardware_and_another_key_get_other_digits(machine, site):
    first = show(machine)
    machine.hardware = simulated_traits(7)
    second = show(machine)
    assert second.installation.fingerprint != first.installation.fingerprint
    installing.install_key(machine.store, PRODUCT, str(mak(site, secret=2)))
    assert show(machine).installation.key_tag != second.installation.key_tag


def test_applying_twice_is_harmless(machine, site):
    confirmation = confirm(site, show(machine))
    assert apply(machine, confirmation).evaluation.licensed
    assert apply(machine, confirmation).evaluation.licensed


def test_a_phone_licence_stays_when_the_next_confirmation_id_is_wrong(licensed, site):
    request = show(licensed, new=True, serial=b"\x77\x77")
    with pytest.raises(ConfirmationInvalidError):
        apply(licensed, confirm(site, request, OTHER_PHONE_KEY))
    assert licensed.evaluate().licensed


def test_the_publisher_s_url_and_texts_do_not_matter_for_the_licence(licensed, site):
    """A newer definition of the same edition keeps the licence: only what is signed counts."""
    newer = replace(site.definition, version=2, name="Acme CAD 2027")
    licensed.add(site.publisher.sign_definition(newer))
    assert licensed.evaluate().licensed


def test_hardware_out_of_tolerance_is_seen_as_with_every_licence(licensed):
    licensed.hardware = simulated_traits(99)
    evaluation = licensed.evaluate()
    assert evaluation.state is State.OUT_OF_TOLERANCE_GRACE
    assert evaluation.reason is not None
    assert evaluation.reason.code == "hardware-out-of-tolerance"


# ---- what is not activated by telephone


def test_generic_keys_are_not_activated_by_telephone(machine):
    installing.install_generic_key(machine.store, PRODUCT, "client")
    with pytest.raises(PhoneChannelError, match="volume"):
        show(machine)


def test_without_a_key_there_is_nothing_to_read_out(machine):
    installing.remove_key(machine.store, PRODUCT)
    with pytest.raises(loading.NoKeyError):
        show(machine)


def test_a_publisher_without_a_phone_key_has_no_desk(tmp_path):
    machine = caller(tmp_path, phone_site(key=None))
    with pytest.raises(PhoneNotOfferedError):
        show(machine)


def test_a_machine_whose_clock_is_lost_is_told_so(machine, site):
    site.clock.advance(days=365 * 200)
    with pytest.raises(PhoneDayError):
        show(machine)


# ---- forgeries


def test_a_confirmation_id_of_another_machine_is_refused(tmp_path, machine, site):
    other = caller(tmp_path / "two", site, number=2)
    theirs = confirm(site, show(other))
    mine = show(machine)
    with pytest.raises(PhoneReferenceError):
        apply(machine, theirs)
    with pytest.raises(ConfirmationInvalidError):
        apply(machine, replace(theirs, reference=mine.installation.reference))
    assert not machine.evaluate().licensed
    assert not stored(machine).exists()


def test_a_phone_licence_copied_from_another_machine_counts_for_nothing(tmp_path, licensed, site):
    other = caller(tmp_path / "two", site, number=1)  # the same hardware, another machine key
    show(other)
    stored(other).parent.mkdir(exist_ok=True)
    stored(other).write_bytes(stored(licensed).read_bytes())
    assert not other.evaluate().licensed
    assert any("phone.json is left aside" in note for note in _notes(other))


def test_a_confirmation_id_for_another_key_is_refused(machine, site):
    request = show(machine)
    with pytest.raises(ConfirmationInvalidError):
        apply(machine, confirm(site, request, key_id=mak(site, secret=2).key_id))


def test_a_key_that_was_exchanged_after_the_call_is_noticed(machine, site):
    confirmation = confirm(site, show(machine))
    installing.install_key(machine.store, PRODUCT, str(mak(site, secret=2)))
    with pytest.raises(InstallationChangedError):
        apply(machine, confirmation)


@pytest.mark.parametrize("changes", [{"product": "acme-cam"}, {"edition": "server"}, {"group": 102}])
def test_a_confirmation_id_for_something_else_is_refused(machine, site, changes):
    request = show(machine)
    with pytest.raises(ConfirmationInvalidError):
        apply(machine, confirm(site, request, **changes))


def test_another_publisher_s_desk_is_refused(machine, site):
    request = show(machine)
    with pytest.raises(ConfirmationInvalidError):
        apply(machine, confirm(site, request, OTHER_PHONE_KEY))
    with pytest.raises(ConfirmationInvalidError):
        apply(machine, confirm(site, request, root="sha256:" + "ab" * 32))


@pytest.mark.parametrize("at", range(4, 120, 13))
def test_a_changed_digit_with_its_check_digit_corrected_is_refused(machine, site, at):
    """The check digits help typists; they do not stop a forger, the signature does."""
    good = confirm(site, show(machine))
    digits = "".join(group[:6] for group in good.groups)
    changed = digits[:at] + str((int(digits[at]) + 1) % 10) + digits[at + 1 :]
    number = int(changed[4:])
    forged = ConfirmationId(good.reference, (number % 2**384).to_bytes(48, "big"))
    with pytest.raises(ConfirmationInvalidError):
        apply(machine, ConfirmationId.parse(str(forged)))


def test_the_identity_point_is_refused(machine):
    identity = ConfirmationId(show(machine).installation.reference, b"\xc0" + bytes(47))
    with pytest.raises(ConfirmationInvalidError):
        apply(machine, ConfirmationId.parse(str(identity)))


def test_a_definition_whose_phone_key_is_the_identity_verifies_nothing(tmp_path):
    weak = replace(PHONE_KEY, public=b"\xc0" + bytes(95))
    machine = caller(tmp_path, phone_site(weak))
    identity = ConfirmationId(show(machine).installation.reference, b"\xc0" + bytes(47))
    with pytest.raises(MalformedError):
        apply(machine, identity)


def test_an_old_confirmation_id_does_not_answer_a_new_request(machine, site):
    old = confirm(site, show(machine))
    new = show(machine, new=True, serial=b"\x99\x99")
    with pytest.raises(PhoneReferenceError):
        apply(machine, old)
    with pytest.raises(ConfirmationInvalidError):
        apply(machine, replace(old, reference=new.installation.reference))


def test_a_machine_that_took_a_new_identity_is_another_machine(licensed):
    for name in ("machine.pem", "machine.pem.copy", "machine.json", "machine.json.copy"):
        (licensed.folder / name).unlink()
    licensed.store.machine_key()
    assert not licensed.evaluate().licensed


@pytest.mark.parametrize("field", ["channel", "edition_tag", "key_tag", "machine", "fingerprint", "day", "serial"])
def test_no_field_of_a_stored_phone_licence_can_be_changed(licensed, field):
    request = PhoneLicence.from_bytes(stored(licensed).read_bytes()).request
    other: dict[str, Any] = {
        "channel": Channel.RETAIL,
        "day": request.installation.day + 1,
        "serial": request.installation.serial ^ 1,
    }
    value = getattr(request.installation, field)
    changed = other[field] if field in other else bytes([value[0] ^ 1]) + value[1:]
    forged = replace(request.installation, **{field: changed})
    rewrite(licensed, installation=b64encode(forged.to_bytes()))
    assert not licensed.evaluate().licensed


@pytest.mark.parametrize(
    "members",
    [
        {"edition": "server"},
        {"edition": "nothing"},
        {"key": "0" * 32},
        {"key": "G" * 32},
        {"fingerprint": {}},
        {"signature": b64encode(b"\xc0" + bytes(47))},
        {"signature": b64encode(bytes(47))},
        {"v": 2},
        {"installation": b64encode(bytes(27))},
    ],
    ids=str,
)
def test_no_member_of_a_stored_phone_licence_can_be_changed(licensed, members):
    rewrite(licensed, **members)
    assert not licensed.evaluate().licensed
    assert any("phone.json is left aside" in note for note in _notes(licensed))


def test_a_damaged_phone_licence_comes_back_from_its_copy(licensed):
    stored(licensed).write_bytes(b"damaged")
    assert licensed.evaluate().licensed


def test_without_an_open_installation_id_nothing_can_be_applied(machine):
    with pytest.raises(NoInstallationIdError):
        apply(machine, ConfirmationId(1, PHONE_KEY.sign(b"")))


def test_an_open_request_that_was_changed_is_left_aside(machine, site):
    confirmation = confirm(site, show(machine))
    for name in ("phone.json", "phone.json.copy"):
        path = machine.folder / "products" / PRODUCT / name
        path.write_text(json.dumps(json.loads(path.read_bytes()) | {"fingerprint": {}}))
    with pytest.raises(NoInstallationIdError):
        apply(machine, confirmation)


def test_what_is_read_out_is_what_is_stored(machine):
    request = show(machine)
    assert InstallationId.parse(str(request.installation)) == request.installation


def _notes(machine):
    store = machine.store
    loading.load_product(store, PRODUCT)
    return store.notes
