# SPDX-License-Identifier: Apache-2.0
"""Finding machines: each module reads one source and gives :class:`~volact.fleet.inventory.machines.Found`, no more.

    names       arguments, files and standard input: names, addresses, and ranges of both
    ssh_config  OpenSSH's config and known_hosts
    ansible     inventories in INI, YAML and JSON
    mdns        the local network
    ldap        Active Directory and other LDAP directories

Finding a machine does not ask it anything.  What a source cannot mean is an error that names its line.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from volact.fleet.inventory.machines import Found


def matching(found: Iterable[Found], patterns: Sequence[str], tags: Sequence[str] = ()) -> Iterator[Found]:
    """Those whose name fits one of the patterns (all, without any), with the tags added."""
    for one in found:
        name = one.name.lower().rstrip(".")
        if not patterns or any(fnmatchcase(name, pattern.lower()) for pattern in patterns):
            yield replace(one, tags=tuple(dict.fromkeys((*one.tags, *tags)))) if tags else one
