# SPDX-License-Identifier: Apache-2.0
"""A KMS host at the command line: which folder, store and settings the shared verbs work on."""

import dataclasses
from collections.abc import Mapping

from volact.cli.issuer.common import Hosting, fingerprint_for, full_name
from volact.host.application import open_store
from volact.host.folder import HostFolder
from volact.host.settings import HostSettings
from volact.host.store import HostStore

__all__ = ["HOSTING", "add_passphrase", "fingerprint_for", "full_name", "opened", "passphrase_file"]


def _publishers(store: HostStore) -> Mapping[str, str]:
    return HostSettings.load(store).publishers


def _remember(store: HostStore, root: str, url: str) -> None:
    settings = HostSettings.load(store)
    dataclasses.replace(settings, publishers={**settings.publishers, root: url}).save(store)


HOSTING = Hosting("host", HostFolder, open_store, _publishers, _remember)
add_passphrase, passphrase_file, opened = HOSTING.add_passphrase, HOSTING.passphrase_file, HOSTING.opened
