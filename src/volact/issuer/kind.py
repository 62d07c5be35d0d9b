# SPDX-License-Identifier: Apache-2.0
"""The kinds of host that an organisation runs, as data: which keys make one, which role it gets, whom it licenses."""

from dataclasses import dataclass

from volact.core.product_key import Channel
from volact.sealing.certificates import Role


@dataclass(frozen=True, slots=True)
class Kind:
    """``key_channel`` is of the keys that are installed here, ``serves`` of the requests that are answered;
    ``noun`` and ``command`` are for people, ``database`` is a file in the folder."""

    noun: str
    command: str
    key_channel: Channel
    role: Role
    serves: Channel
    database: str


KMS_HOST = Kind("KMS host", "volact host", Channel.KMS_HOST, Role.KMS_HOST, Channel.VOLUME, "host.db")
VM_HOST = Kind("VM host", "volact vm", Channel.VM_HOST, Role.VM_HOST, Channel.VM, "vm.db")
