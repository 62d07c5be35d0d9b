# SPDX-License-Identifier: Apache-2.0
"""Adding products and installing keys: what is accepted, and the name of each refusal."""

import dataclasses
import os
import stat

import pytest

from support.client_machine import PRODUCT, ClientMachine
from volact.client.folder.store import ClientStore, ProductUnknownHereError
from volact.client.products import installing, loading
from volact.core.definition import Edition, EditionKind
from volact.core.errors import MalformedError
from volact.core.policy import DAY
from volact.core.product_key import Channel, ProductKey, ProductKeyTypoError, publisher_tag
from volact.core.states import State
from volact.sealing.verify import DefinitionOldError, UntrustedRootError
from volact.testing import PublisherSimulator, Site


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def machine(tmp_path, site: Site) -> ClientMachine:
    machine = ClientMachine(tmp_path, site)
    machine.add()
    return machine


def version(site: Site, number: int) -> str:
    return site.publisher.sign_definition(dataclasses.replace(site.definition, version=number))


def key(site: Site, channel: Channel, group: int = 101, root: str | None = None) -> str:
    return str(ProductKey.new(channel, publisher_tag(root or site.publisher.fingerprint), group, bytes(range(7))))


def test_a_definition_of_another_root_than_was_given_is_refused(tmp_path, site):
    other = PublisherSimulator("Acme Software", site.clock)
    with pytest.raises(UntrustedRootError):
        installing.add_product(ClientStore(tmp_path), site.token, other.fingerprint, 0, site.clock())
    assert list(tmp_path.iterdir()) == []


def test_a_product_never_changes_its_root(site, machine):
    other = PublisherSimulator("Acme Software", site.clock)
    token = other.sign_definition(other.definition(PRODUCT, 9))
    with pytest.raises(installing.OtherRootError):
        installing.add_product(machine.store, token, other.fingerprint, 0, site.clock())
    assert loading.load_product(machine.store, PRODUCT).definition.version == 1


def test_a_newer_definition_replaces_the_older_and_never_the_other_way_round(site, machine):
    site.clock.advance(days=3)
    began = machine.store.installation(PRODUCT).installed_at
    assert machine.add(version(site, 3)).definition.version == 3
    assert machine.store.installation(PRODUCT).installed_at == began == site.clock() - 3 * DAY
    with pytest.raises(installing.OlderDefinitionError) as caught:
        machine.add(version(site, 2))
    assert (caught.value.got, caught.value.installed) == (2, 3)
    assert machine.add(version(site, 3)).definition.version == 3


def test_the_least_version_is_kept_and_only_grows(site, machine):
    with pytest.raises(DefinitionOldError):
        machine.add(min_version=2)
    machine.add(version(site, 3), min_version=3)
    machine.add(version(site, 3), min_version=0)
    assert machine.store.anchor(PRODUCT).min_version == 3


@pytest.mark.parametrize("junk", ["", "x", "a.b.c", "…"])
def test_junk_is_no_definition(tmp_path, site, junk):
    with pytest.raises(MalformedError):
        installing.add_product(ClientStore(tmp_path), junk, site.publisher.fingerprint, 0, site.clock())


def edition_of(loaded: loading.LoadedProduct) -> str:
    assert loaded.edition is not None
    return loaded.edition.id


def test_a_generic_key_selects_its_edition(site, machine):
    server = site.definition.edition("server")
    loaded = installing.install_key(machine.store, PRODUCT, str(server.keys[Channel.VOLUME]).lower().replace("-", " "))
    assert (edition_of(loaded), loaded.installation.channel) == ("server", Channel.VOLUME)
    assert machine.store.key(PRODUCT) == server.keys[Channel.VOLUME]
    assert machine.evaluate().state is State.INITIAL_GRACE


def test_a_generic_key_can_be_taken_from_the_definition(machine):
    with pytest.raises(installing.EditionChoiceError) as caught:
        installing.install_generic_key(machine.store, PRODUCT)
    assert caught.value.editions == "client, server"
    with pytest.raises(installing.EditionMissingError):
        installing.install_generic_key(machine.store, PRODUCT, "home")
    assert edition_of(installing.install_generic_key(machine.store, PRODUCT, "client")) == "client"


def test_a_key_with_a_typing_error_names_its_group_and_installs_nothing(site, machine):
    text = str(site.definition.edition("client").keys[Channel.VOLUME])
    wrong = text[:6] + ("A" if text[6] != "A" else "C") + text[7:]
    with pytest.raises(ProductKeyTypoError) as caught:
        installing.install_key(machine.store, PRODUCT, wrong)
    assert caught.value.groups == [2]
    assert machine.store.key(PRODUCT) is None


def test_a_key_of_another_publisher_is_refused(site, machine):
    other = "sha256:" + ("000" if not site.publisher.fingerprint.startswith("sha256:000") else "fff") + "0" * 61
    with pytest.raises(installing.KeyPublisherError):
        installing.install_key(machine.store, PRODUCT, key(site, Channel.MAK, root=other))


def test_a_host_key_is_refused_on_a_client(site, machine):
    with pytest.raises(installing.KeyHostChannelError) as caught:
        installing.install_key(machine.store, PRODUCT, key(site, Channel.KMS_HOST))
    assert caught.value.code == "key-channel-host"
    assert "install it on a KMS host" in caught.value.hint


def test_an_unknown_generic_key_is_refused(site, machine):
    with pytest.raises(installing.KeyGenericError):
        installing.install_key(machine.store, PRODUCT, key(site, Channel.VOLUME))


@pytest.mark.parametrize("channel", [Channel.MAK, Channel.RETAIL])
def test_a_bought_key_selects_its_groups_edition(site, machine, channel):
    loaded = installing.install_key(machine.store, PRODUCT, key(site, channel, 102))
    assert (edition_of(loaded), loaded.installation.channel) == ("server", channel)
    with pytest.raises(installing.KeyGroupError):
        installing.install_key(machine.store, PRODUCT, key(site, channel, 999))


def test_a_bought_key_that_fits_several_editions_asks_which(site, machine):
    second = Edition("studio", "Studio", 101, EditionKind.CLIENT, site.definition.editions[0].policy)
    definition = dataclasses.replace(site.definition, version=2, editions=(*site.definition.editions, second))
    machine.add(site.publisher.sign_definition(definition))
    mak = key(site, Channel.MAK)
    with pytest.raises(installing.EditionChoiceError):
        installing.install_key(machine.store, PRODUCT, mak)
    assert edition_of(installing.install_key(machine.store, PRODUCT, mak, "studio")) == "studio"


def test_only_its_owner_may_read_the_key_and_every_user_the_rest(machine):
    installing.install_generic_key(machine.store, PRODUCT, "client")
    machine.store.machine_key()
    modes = {p.name: p.stat().st_mode & 0o777 for p in machine.folder.rglob("*") if p.is_file() and p.name != "lock"}
    secret = {name for name, mode in modes.items() if mode == 0o600}
    assert secret == {"key", "key.copy", "machine.pem", "machine.pem.copy"}
    assert set(modes.values()) == {0o600, 0o644}


def test_products_of_every_user_can_read_what_an_administrator_with_a_strict_umask_activated(tmp_path, site):
    before = os.umask(0o077)
    try:
        machine = ClientMachine.ready(tmp_path / "client", site)
        machine.activate(site.kms_host())
    finally:
        os.umask(before)
    made = [machine.store.folder, *machine.store.folder.rglob("*")]
    folders = {stat.S_IMODE(p.stat().st_mode) for p in made if p.is_dir()}
    files = {p.name.removesuffix(".copy") for p in made if p.is_file() and not p.stat().st_mode & stat.S_IROTH}
    assert (folders, files) == ({0o755}, {"machine.pem", "key", "lock"})


def test_a_removed_key_leaves_the_licence_and_brings_it_back(site, machine):
    installing.install_generic_key(machine.store, PRODUCT, "client")
    host = site.kms_host()
    host.fill(101, 24)
    assert machine.activate(host).evaluation.state is State.LICENSED
    installing.remove_key(machine.store, PRODUCT)
    assert machine.evaluate().state is State.UNLICENSED
    assert machine.check().reason.code == "no-key-installed"
    assert machine.store.key(PRODUCT) is None
    with pytest.raises(loading.NoKeyError):
        machine.activate(host)
    installing.install_generic_key(machine.store, PRODUCT, "client")
    assert machine.evaluate().state is State.LICENSED


def test_another_editions_key_does_not_take_a_licence_along(site, machine):
    installing.install_generic_key(machine.store, PRODUCT, "client")
    host = site.kms_host()
    host.fill(101, 24)
    machine.activate(host)
    installing.install_generic_key(machine.store, PRODUCT, "server")
    assert machine.evaluate().state is State.INITIAL_GRACE


def test_a_removed_product_is_gone(machine):
    machine.store.remove_product(PRODUCT)
    assert machine.store.products() == []
    with pytest.raises(ProductUnknownHereError):
        loading.load_product(machine.store, PRODUCT)
    machine.add()
    assert machine.store.products() == [PRODUCT]


@pytest.mark.parametrize("name", ["../x", "", "/etc", "ACME", "a/b", ".", "acme-cad\0", "x" * 64])
def test_a_name_that_is_none_never_leads_out_of_the_folder(machine, name):
    with pytest.raises(ProductUnknownHereError):
        loading.load_product(machine.store, name)
    with pytest.raises(ProductUnknownHereError):
        machine.store.remove_product(name)


def test_products_of_several_publishers_live_side_by_side(tmp_path, site, machine):
    other = Site.make()
    token = other.publisher.sign_definition(other.publisher.definition("other-app"))
    installing.add_product(machine.store, token, other.publisher.fingerprint, 0, site.clock())
    assert machine.store.products() == [PRODUCT, "other-app"]
    one, two = (machine.local.fingerprint(s.publisher.fingerprint) for s in (site, other))
    assert not set(one.traits.values()) & set(two.traits.values())
