# SPDX-License-Identifier: Apache-2.0
"""A computer of a child domain: its controller is of another domain than the forest's root, and the forest is the same.

samba-tool makes no child domains (4.22), so the controller's answers here are as [MS-ADTS] 3.1.1.3.2 and 6.1.1.2.1.1
have a child's controller give them: its own domain is its default, and root and configuration are the forest's.
"""

from collections.abc import Sequence
from typing import Any

import pytest

from volact.core.forest import Forest, ForestKind
from volact.directory.connection import Entry, Server
from volact.directory.errors import TrusteeDomainError, TrusteeError
from volact.directory.permissions import find_trustee
from volact.directory.place import find_place

ROOT, CHILD = "DC=ad,DC=example,DC=test", "DC=sales,DC=ad,DC=example,DC=test"
CONFIGURATION = f"CN=Configuration,{ROOT}"
GUID, SID = "c7593518-e6e5-447a-b026-36d400922049", "S-1-5-21-1-2-3"
CHILD_GUID, CHILD_SID = "0bd6f43b-1f0a-4d0c-8c0e-7f6b1f0e8d11", "S-1-5-21-7-8-9"
CROSS_REFERENCES = {
    ROOT: {"ncname": f"<GUID={GUID}>;<SID={SID}>;{ROOT}", "dnsroot": "ad.example.test", "netbiosname": "EXAMPLE"},
    CHILD: {
        "ncname": f"<GUID={CHILD_GUID}>;<SID={CHILD_SID}>;{CHILD}",
        "dnsroot": "sales.ad.example.test",
        "netbiosname": "SALES",
    },
}


class ChildController:
    """What a controller of the child domain shows to a member of it."""

    server = Server("dc1.sales.ad.example.test", 389, tls=False)

    def __init__(self) -> None:
        self.searched: list[str] = []

    def read(self, dn: str, attributes: Sequence[str] = ()) -> Entry | None:
        assert dn == ""
        names = {
            "defaultNamingContext": f"<GUID={CHILD_GUID}>;<SID={CHILD_SID}>;{CHILD}",
            "rootDomainNamingContext": f"<GUID={GUID}>;<SID={SID}>;{ROOT}",
            "configurationNamingContext": f"<GUID={CHILD_GUID}>;{CONFIGURATION}",
        }
        return Entry("", {name.lower(): (value,) for name, value in names.items()})

    def search(self, base: str, scope: int, condition: str, attributes: Sequence[str] = ()) -> list[Entry]:
        self.searched.append(base)
        if base != f"CN=Partitions,{CONFIGURATION}":
            return []
        found = [value for name, value in CROSS_REFERENCES.items() if f"(nCName={name})" in condition]
        return [Entry(base, {name: (text,) for name, text in one.items()}) for one in found]


@pytest.fixture
def session() -> Any:
    return ChildController()


def test_the_forest_of_a_child_domain_s_computer_is_its_root_domain_s(session: Any) -> None:
    place = find_place(session)
    assert place.forest == Forest(ForestKind.AD, GUID, "ad.example.test", domain_sid=SID)
    assert place.container == f"CN=Activation Objects,CN=Volact,CN=Services,{CONFIGURATION}"


def test_a_name_of_the_root_domain_is_not_taken_for_the_child_s_own(session: Any) -> None:
    with pytest.raises(TrusteeDomainError, match="of another domain than dc1"):
        find_trustee(session, "EXAMPLE\\Kiosks")
    with pytest.raises(TrusteeError):  # looked for, and not there
        find_trustee(session, "sales\\Kiosks")
    assert session.searched[-1] == CHILD
