# SPDX-License-Identifier: Apache-2.0
"""A host's settings: defaults, bounds, and what the store keeps of them."""

from dataclasses import replace

import pytest

from volact.core.errors import VolactError
from volact.host.settings import KEY, HostSettings, SettingError
from volact.host.store import HostStore


@pytest.fixture
def store(tmp_path):
    opened = HostStore.open(tmp_path / "host.db")
    yield opened
    opened.close()


def test_a_new_host_has_the_defaults(store):
    settings = HostSettings.load(store)
    assert settings == HostSettings()
    assert (settings.port, settings.address, settings.dns_publishing) == (1688, "::", True)
    assert (settings.activation_minutes, settings.renewal_minutes) == (None, None)


def test_what_is_saved_is_loaded(store):
    dns = (
        {"domain": "example.com", "priority": 10, "weight": 5, "server": "192.0.2.53", "port": 53, "key_file": "/k"},
    )
    settings = HostSettings(
        1700, "127.0.0.1", 15, 43200, {"sha256:ab": "http://p.example"}, False, "kms1.example.com", dns
    )
    settings.save(store)
    assert HostSettings.load(store) == settings
    (domain,) = HostSettings.load(store).dns_domains()
    assert (domain.domain, domain.priority, str(domain.key_file)) == ("example.com", 10, "/k")


@pytest.mark.parametrize(
    "values",
    [
        {"port": 0},
        {"port": 65536},
        {"port": True},
        {"port": "1688"},
        {"activation_minutes": 14},
        {"renewal_minutes": 43201},
        {"renewal_minutes": 20.5},
        {"address": ""},
        {"address": "example.com"},
    ],
)
def test_what_does_not_fit_is_named_with_its_bounds(values):
    with pytest.raises(SettingError) as caught:
        HostSettings(**values)
    assert caught.value.name == next(iter(values))


def test_a_domain_that_does_not_fit_is_refused():
    with pytest.raises(VolactError):
        HostSettings(dns=({"domain": "not a domain"},))


def test_settings_of_a_later_version_are_read_past(store):
    store.set_setting(KEY, {"port": 1700, "colour": "blue"})
    assert HostSettings.load(store).port == 1700


def test_a_changed_copy_is_checked_too(store):
    with pytest.raises(SettingError):
        replace(HostSettings.load(store), port=-1)
