# SPDX-License-Identifier: Apache-2.0
"""OEM activation from a laid-out firmware: nothing typed, nobody asked, and every way in which it must not work."""

import os
from dataclasses import replace
from types import SimpleNamespace

import pytest

from support.client_machine import PRODUCT, ClientMachine
from support.firmware import FirmwareTree
from volact.client.activation import oem
from volact.client.machine import LocalMachine
from volact.client.products import installing, loading
from volact.core.evaluation import MarkerMismatchReason, MarkerMissingReason
from volact.core.fingerprint import Trait
from volact.core.marker import Model, OemMarker, device_hash
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.states import State
from volact.sealing import certificates, markers
from volact.sealing.certificates import Role
from volact.sealing.keys import LocalKey
from volact.testing import PublisherSimulator, Site

CLIENTS, SERVERS = 101, 102
BOOK = Model("Contoso", "Book 14")
UUID = "4c4c4544-0042-3510-8052-b4c04f4e4232"


class OemMachine(ClientMachine):
    """Reads its firmware from a tree."""

    tree: FirmwareTree

    @property
    def local(self):
        return LocalMachine(lambda: self.hardware, lambda: f"machine-{self.number}", self.tree.root)

    def start(self):
        """What the installer of the product does."""
        self.add()
        return oem.adopt_if_marked(self.store, PRODUCT, self.local, self.clock())


@pytest.fixture
def site():
    return Site.make()


@pytest.fixture
def maker(site):
    return site.publisher.issuer(LocalKey.generate(), Role.OEM, "Contoso PCs", (CLIENTS,))


@pytest.fixture
def marker(site, maker):
    def make(signer=maker, **changes):
        made = OemMarker(site.clock(), frozenset({CLIENTS}), BOOK)
        return markers.sign_marker(signer, replace(made, **changes))

    return make


@pytest.fixture
def computer(tmp_path, site):
    def make(name="one", **hardware):
        machine = OemMachine(tmp_path / name, site)
        machine.tree = FirmwareTree.of(tmp_path / f"{name}-root", **hardware)
        return machine

    return make


def reason(found):
    return found.reason.code if found.reason else None


def test_the_oem_edition_is_licensed_at_its_first_start_for_ever(site, marker, computer):
    one = computer()
    one.tree.put(marker())
    assert one.start().installation.channel is Channel.OEM
    assert one.evaluate().state is State.LICENSED
    assert one.evaluate().until is None
    assert one.check()
    site.clock.advance(days=4000)
    assert one.check()
    assert one.evaluate().licence.organisation == "Contoso PCs"


def test_what_other_software_verifies_is_the_makers_own_token(site, marker, computer):
    one, token = computer(), marker()
    one.tree.put(token)
    one.start()
    found = loading.load_product(one.store, PRODUCT).firmware
    assert found is not None
    assert found.token == token
    assert markers.verify_marker(token, site.publisher.trust).maker == "Contoso PCs"


def test_a_marker_in_an_smbios_string_does_the_same(marker, computer):
    one = computer()
    one.tree.put_string(marker())
    one.start()
    assert one.check()


def test_a_marker_among_all_smbios_structures_does_the_same(marker, computer):
    one = computer()
    one.tree.put_structures("other", marker())
    one.start()
    assert one.check()


def test_activate_finds_the_marker_too_and_asks_nobody(marker, computer):
    one = computer()
    one.add()
    one.tree.put(marker())
    outcome = one.activate()
    assert outcome.evaluation.state is State.LICENSED
    assert outcome.source == "firmware"
    assert one.activate().evaluation.licensed


def test_a_computer_without_a_marker_waits_for_a_key(computer):
    one = computer()
    assert one.start() is None
    assert reason(one.evaluate()) == "no-key-installed"
    with pytest.raises(loading.NoKeyError):
        one.activate()
    with pytest.raises(MarkerMissingReason):
        oem.adopt(one.store, PRODUCT, one.local, one.clock())


@pytest.mark.parametrize("hardware", [{"product": "Book 15"}, {"manufacturer": "Fabrikam"}])
def test_a_marker_that_was_copied_to_another_model_is_refused_by_name(marker, computer, hardware):
    other = computer(**hardware)
    other.tree.put(marker())
    store = other.store
    other.add()
    assert oem.adopt_if_marked(store, PRODUCT, other.local, other.clock()) is None
    assert any("made for Contoso Book 14" in note for note in store.notes)
    with pytest.raises(MarkerMismatchReason, match="Contoso Book 14"):
        oem.adopt(other.store, PRODUCT, other.local, other.clock())
    assert not other.check()


def test_a_models_name_may_differ_in_case_and_outer_spaces(marker, computer):
    one = computer(manufacturer="CONTOSO ", product="book 14")
    one.tree.put(marker())
    one.start()
    assert one.check()


@pytest.mark.parametrize(("trait", "text"), [(Trait.SMBIOS_UUID, UUID.upper()), (Trait.SMBIOS_SERIAL, "5b5rnb2")])
def test_a_marker_for_one_device_serves_that_device_alone(marker, computer, trait, text):
    token = marker(model=None, device=device_hash(trait, text))
    one, two = computer("one"), computer("two", uuid="11111111-2222-4333-8444-777777777777", serial="OTHER")
    for machine in (one, two):
        machine.tree.put(token)
        machine.start()
    assert one.check()
    assert not two.check()


def test_a_board_swapped_for_one_without_a_marker_is_named_and_gets_the_grace_of_changed_hardware(
    site, marker, computer
):
    one, token = computer(), marker()
    one.tree.put(token)
    one.start()
    site.clock.advance(days=700)
    one.tree.swap_board()
    with pytest.raises(MarkerMissingReason):
        one.activate()
    found = one.evaluate()
    assert (found.state, reason(found)) == (State.OUT_OF_TOLERANCE_GRACE, "firmware-marker-missing")
    assert found.until == site.clock() + 30 * DAY
    site.clock.advance(days=31)
    assert one.evaluate().state is State.NOTIFICATION
    assert one.check().reason.code == "firmware-marker-missing"
    one.tree.put(token)  # the maker's service wrote it into the new board
    assert one.activate().evaluation.licensed


def test_a_swapped_board_with_its_own_marker_is_licensed_again(marker, computer):
    one = computer()
    one.tree.put(marker())
    one.start()
    one.hardware = {**one.hardware, Trait.SMBIOS_UUID: "11111111-2222-4333-8444-666666666666",
                    Trait.DISK_SERIAL: "NEW", Trait.BOARD_SERIAL: "NEW", Trait.MACHINE_ID: "1" * 31 + "2"}  # fmt: skip
    assert reason(one.evaluate()) == "hardware-out-of-tolerance"
    assert one.activate().evaluation.licensed


def test_what_one_machine_saw_licenses_no_other(marker, computer):
    one, two = computer("one"), computer("two")
    one.tree.put(marker())
    one.start()
    two.add()
    two.store.machine_key()
    two.store.save_sighting(PRODUCT, one.store.sighting_file(PRODUCT).read_text())
    two.store.save_installation(PRODUCT, one.store.installation(PRODUCT))
    assert not two.check()
    store = two.store
    loading.load_product(store, PRODUCT)
    assert any("another machine" in note for note in store.notes)


def test_a_whole_folder_copied_to_other_hardware_is_out_of_tolerance(marker, computer):
    one = computer()
    one.tree.put(marker())
    one.start()
    one.number = 2
    other = OemMachine(one.folder, one.site, 2)
    other.tree = FirmwareTree.of(one.folder.parent / "two-root")
    assert reason(other.evaluate()) == "hardware-out-of-tolerance"
    with pytest.raises(MarkerMissingReason):
        other.activate()


def test_a_marker_of_another_publisher_is_none(site, marker, computer):
    stranger = PublisherSimulator("Other Software", site.clock)
    one = computer()
    one.tree.put(marker(stranger.issuer(LocalKey.generate(), Role.OEM, "Contoso PCs", (CLIENTS,))))
    assert one.start() is None
    assert not one.check()


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OEM])
def test_a_marker_signed_by_any_other_role_is_none(site, marker, computer, role):
    one = computer()
    one.tree.put(marker(site.publisher.issuer(LocalKey.generate(), role, "Contoso PCs", (CLIENTS,))))
    one.add()
    store = one.store
    assert oem.adopt_if_marked(store, PRODUCT, one.local, one.clock()) is None
    assert any("may not sign" in note for note in store.notes)


def test_a_maker_cannot_cover_groups_that_it_was_not_given(marker, computer):
    one = computer()
    one.tree.put(marker(groups=frozenset({CLIENTS, SERVERS})))
    assert one.start() is None


def test_a_marker_that_covers_several_editions_and_names_none_is_refused_by_name(site, marker, computer):
    both = site.publisher.issuer(LocalKey.generate(), Role.OEM, "Contoso PCs", (CLIENTS, SERVERS))
    groups = frozenset({CLIENTS, SERVERS})
    one = computer()
    one.tree.put(marker(both, groups=groups))
    one.add()
    with pytest.raises(oem.MarkerEditionsError):
        oem.adopt(one.store, PRODUCT, one.local, one.clock())
    one.tree.put(marker(both, groups=groups, editions=frozenset({"server"})))
    assert oem.adopt(one.store, PRODUCT, one.local, one.clock()).installation.edition == "server"


def test_a_revoked_makers_later_markers_are_worth_nothing_and_its_earlier_ones_stay(site, maker, marker, computer):
    early, late = computer("early"), computer("late")
    early.tree.put(marker())
    early.start()
    site.clock.advance(days=10)
    since = site.clock()
    site.publisher.revoke(maker, since)
    late.tree.put(marker())
    late.start()
    for machine in (early, late):
        machine.store.save_status(site.publisher.fingerprint, site.publisher.status_token())
    assert early.check()
    assert late.check().reason.code == "issuer-revoked"
    assert late.check().state is State.NON_GENUINE_GRACE


def test_a_revoked_issuing_ca_takes_its_makers_later_markers_along(site, marker, computer):
    early, late = computer("early"), computer("late")
    early.tree.put(marker())
    early.start()
    site.clock.advance(days=10)
    thumbprint = certificates.key_thumbprint(certificates.public_key_of(site.publisher.issuing))
    site.publisher.revoke(SimpleNamespace(thumbprint=thumbprint), site.clock())
    late.tree.put(marker())
    late.start()
    for machine in (early, late):
        machine.store.save_status(site.publisher.fingerprint, site.publisher.status_token())
    assert early.check()
    assert late.check().reason.code == "issuer-revoked"


def test_not_to_be_allowed_to_look_is_not_the_same_as_nothing_there(marker, computer, monkeypatch):
    one = computer()
    one.tree.put(marker())
    one.start()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(oem.FirmwareUnreadableError):
        one.activate()
    assert one.check()


def test_a_damaged_table_is_skipped(marker, computer):
    one = computer()
    one.tree.put(marker())
    data = bytearray(one.tree.table.read_bytes())
    data[50] ^= 1
    one.tree.table.write_bytes(data)
    assert one.start() is None


def test_a_removed_key_and_a_new_machine_identity_forget_what_was_seen(marker, computer):
    one = computer()
    one.tree.put(marker())
    one.start()
    one.store.remove_answers(PRODUCT)
    assert reason(one.evaluate()) == "firmware-marker-missing"
    assert one.activate().evaluation.licensed
    installing.remove_key(one.store, PRODUCT)
    assert not one.check()
    assert one.activate().evaluation.licensed


# ---- as the qualifying licence of a volume edition


@pytest.fixture
def demanding(computer, site):
    """A product whose volume editions need a computer that came with an edition of it."""

    def make(name="one", **hardware):
        site.token = site.publisher.sign_definition(
            site.publisher.definition(PRODUCT, 2, requires_marker=True, threshold=1)
        )
        one = computer(name, **hardware)
        one.add(site.token)
        installing.install_generic_key(one.store, PRODUCT, "server")
        return one

    return make


def test_a_volume_edition_that_demands_a_marker_asks_no_host_without_one(site, demanding):
    one, host = demanding(), site.kms_host()
    with pytest.raises(MarkerMissingReason):
        one.activate(host)
    assert reason(one.evaluate()) == "firmware-marker-missing"
    assert one.evaluate().state is State.INITIAL_GRACE
    site.clock.advance(days=31)
    assert one.check().state is State.NOTIFICATION
    assert one.check().reason.code == "firmware-marker-missing"


def test_with_a_marker_it_activates_as_any_other(site, marker, demanding):
    one, host = demanding(), site.kms_host()
    one.tree.put(marker())
    assert one.activate(host).evaluation.licensed
    assert one.store.installation(PRODUCT).channel is Channel.VOLUME
    assert one.check()


def test_with_another_models_marker_it_is_refused_by_that_name(site, marker, demanding):
    one = demanding(product="Book 15")
    one.tree.put(marker())
    with pytest.raises(MarkerMismatchReason):
        one.activate(site.kms_host())


def test_a_good_lease_without_the_marker_licenses_no_longer(site, marker, demanding):
    one, host = demanding(), site.kms_host()
    one.tree.put(marker())
    one.activate(host)
    one.tree.table.unlink()
    with pytest.raises(MarkerMissingReason):
        one.activate(host)
    assert one.evaluate().state is State.OUT_OF_TOLERANCE_GRACE
    assert reason(one.evaluate()) == "firmware-marker-missing"
