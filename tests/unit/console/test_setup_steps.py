# SPDX-License-Identifier: Apache-2.0
"""The wizard without its pages: the way through its steps, what a form becomes, what is remembered."""

import os
from typing import Any

import pytest

from support.site import Vendor
from volact.console.setup import directory, host, steps
from volact.console.setup.host import NothingGivenError, WrongKeyKindError, WrongNumberError
from volact.console.setup.state import DIRECTORY, KMS_HOST, SetupState
from volact.console.targets import Command, CommandFailedError, Ended
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.sealing.verify import UntrustedRootError

PRESENT = {
    "port": 1688,
    "address": "::",
    "activation_minutes": None,
    "renewal_minutes": None,
    "dns_publishing": True,
}
AS_PRESENT = {"port": "1688", "address": "::", "intervals": "policy", "publishing": "on"}


def test_whoever_skips_ahead_is_brought_to_the_first_step_that_is_not_done() -> None:
    state = SetupState(method=KMS_HOST, done=("method", "target"))
    assert steps.frontier(state).key == "product"
    assert [step.key for step in steps.steps_of(state) if steps.may_open(state, step.key)] == [
        "method",
        "target",
        "product",
    ]
    assert not steps.may_open(state, "proof")
    assert not steps.may_open(state, "no-such-step")


def test_without_a_method_only_its_step_is_open() -> None:
    assert steps.frontier(SetupState()).key == "method"
    assert not steps.may_open(SetupState(), "target")


def test_each_method_ends_with_a_proof() -> None:
    for method, last in ((KMS_HOST, "proof"), (DIRECTORY, "check")):
        assert steps.ORDER[method][-1].key == last
        assert steps.after(SetupState(method=method), last).key == last


@pytest.mark.parametrize("stored", [None, [], "x", {"done": 3}, {"group": "102"}, {"done": [1]}, {"method": None}])
def test_a_state_that_does_not_fit_begins_anew(stored: object) -> None:
    assert SetupState.load(stored) == SetupState()


def test_a_state_survives_its_json() -> None:
    state = SetupState(method=KMS_HOST, target="kms1", partial="7K4RT", group=102).with_done("method")
    assert SetupState.load(state.dump() | {"of another version": 1}) == state


def test_only_what_differs_from_the_present_settings_is_changed() -> None:
    assert host.settings(AS_PRESENT, PRESENT) == []
    form = AS_PRESENT | {"port": "1700", "intervals": "own", "activation": "60", "renewal": "10080"}
    del form["publishing"]
    lines = [str(command) for command in host.settings(form, PRESENT)]
    assert lines == [
        "volact host set-port 1700",
        "volact host set-intervals --activation 60 --renewal 10080",
        "volact host dns off",
    ]


def test_intervals_go_back_to_the_policy() -> None:
    own = PRESENT | {"activation_minutes": 60}
    assert [str(one) for one in host.settings(AS_PRESENT, own)] == ["volact host set-intervals --policy"]


@pytest.mark.parametrize("port", ["", "0", "65536", "1688x", "-1", "１６８８", "9" * 5000])
def test_a_port_that_is_none_is_refused_before_any_command(port: str) -> None:
    with pytest.raises(WrongNumberError):
        host.settings(AS_PRESENT | {"port": port}, PRESENT)


def test_a_domain_becomes_one_command_with_its_numbers_server_and_key() -> None:
    form = {"domain": "example.com", "priority": "10", "weight": "", "server": "192.0.2.53", "sign": "tsig"}
    with pytest.raises(NothingGivenError):
        host.add_domain(form)
    assert str(host.add_domain(form | {"key_file": "/etc/volact/dns.key"})) == (
        "volact host dns add example.com,10,0 --server 192.0.2.53 --key-file /etc/volact/dns.key"
    )
    assert str(host.add_domain({"domain": "x y;rm"})) == "volact host dns add 'x y;rm,0,0'"


def test_a_key_goes_in_by_standard_input_and_never_as_an_argument() -> None:
    key = ProductKey.new(Channel.KMS_HOST, publisher_tag("sha256:" + "ab" * 32), 102, os.urandom(7))
    command, parsed = host.install_key(f"  {str(key).lower()} ")
    assert parsed == key
    assert str(command) == "volact host install-key - < 'the key'" or str(command).endswith("< the key")
    assert str(key) not in " ".join(command.words)
    assert command.given.decode().strip() == str(key)


def test_another_kind_of_key_is_told_where_it_belongs() -> None:
    mak = ProductKey.new(Channel.MAK, publisher_tag("sha256:" + "ab" * 32), 101, os.urandom(7))
    for check in (host.install_key, directory.check_key):
        with pytest.raises(WrongKeyKindError) as caught:
            check(str(mak))
        assert caught.value.fields["channel"] == "mak"


def test_a_definition_is_taken_only_under_the_root_that_was_told(tmp_path) -> None:
    vendor = Vendor.make(tmp_path)
    token = vendor.file.read_bytes()
    assert host.add_product(token, "", vendor.root).words[:3] == ("host", "add-product", "-")
    with pytest.raises(UntrustedRootError):
        host.add_product(token, "", "sha256:" + "00" * 32)
    with pytest.raises(NothingGivenError):
        host.add_product(token, "", " ")


def test_a_directory_needs_a_domain_or_a_server() -> None:
    with pytest.raises(NothingGivenError):
        directory.connection_of({"user": "Administrator"})
    given: dict[str, Any] = {**directory.connection_of({"domain": " ad.example.com ", "user": "A@B"})}
    state = SetupState(method=DIRECTORY, **given)
    assert str(directory.plan(state)) == "volact directory prepare --domain ad.example.com --user A@B"
    kept = directory.prepare(state, schema=False)
    assert str(kept) == "volact directory prepare --yes --no-schema --domain ad.example.com --user A@B"


def test_a_failed_command_hands_its_own_sentence_and_remedy_on() -> None:
    told = b'{"error": {"code": "clock-skew", "message": "the clocks differ", "remedy": "set it", "fields": {}}}\n'
    with pytest.raises(CommandFailedError, match="the clocks differ") as caught:
        Ended(1, told, "").checked()
    assert (caught.value.hint, caught.value.fields["original"]) == ("set it", "clock-skew")
    plain = Ended(1, b"", "volact: error: no {braces} here\nvolact: hint: do {this}\n").error()
    assert (str(plain), plain.hint) == ("no {braces} here", "do {this}")
    assert str(Ended(-9, b"junk", "").error()) == "it ended with code -9"


def test_what_a_command_prints_last_is_its_answer() -> None:
    assert Ended(0, b'welcome!\n{"a": 1}\n', "").value == {"a": 1}
    assert Ended(0, b"\xff\xfe", "").value is None
    assert Command(("host", "status")).given == b""
