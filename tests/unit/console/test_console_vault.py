# SPDX-License-Identifier: Apache-2.0
"""The console opens a key vault whose passphrase the fleet's folder does not keep, as the fleet's own commands do."""

import dataclasses
from pathlib import Path

import pytest

from support.console import Console, log_in
from support.web_client import WebClient
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.fleet.api import PASSPHRASE_VARIABLE, Fleet

KEYS = [str(ProductKey.new(Channel.MAK, publisher_tag("sha256:" + "a" * 64), 1, bytes(7 * [n]))) for n in (1, 2)]


@pytest.fixture
def console(tmp_path: Path) -> Console:
    made = Console(tmp_path)
    with Fleet.init(tmp_path / "fleet", who="a test", passphrase=lambda: b"the team's own") as fleet:
        fleet.keys_add(KEYS[:1])
    return made


@pytest.mark.parametrize(
    ("given", "told"),
    [("the team's own\n", "1 key was added."), ("another\n", "vault-passphrase"), (None, PASSPHRASE_VARIABLE)],
)
def test_a_key_is_added_under_the_passphrase_that_was_given_to_the_console(
    console: Console, tmp_path: Path, given: str | None, told: str
) -> None:
    file = tmp_path / "passphrase"
    if given is not None:
        file.write_text(given)
    run = dataclasses.replace(console.run, vault=None if given is None else file)
    with WebClient(run.load()) as client:
        log_in(client, console.link("admin"))
        assert told in client.send(client.get("/fleet/keys"), "/fleet/keys", keys=KEYS[1]).text
