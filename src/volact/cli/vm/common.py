# SPDX-License-Identifier: Apache-2.0
"""A VM host at the command line: which folder, store and settings the shared verbs work on."""

from collections.abc import Mapping

from volact.cli.issuer.common import Hosting
from volact.vm.application import PUBLISHERS, VmFolder, is_virtual, open_store
from volact.vm.store import VmStore


def _publishers(store: VmStore) -> Mapping[str, str]:
    given: dict[str, str] = store.setting(PUBLISHERS, {})
    return given


def _remember(store: VmStore, root: str, url: str) -> None:
    store.set_setting(PUBLISHERS, {**_publishers(store), root: url})


HOSTING = Hosting("vm", VmFolder, open_store, _publishers, _remember, is_virtual)
