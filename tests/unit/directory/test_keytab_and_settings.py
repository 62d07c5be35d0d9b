# SPDX-License-Identifier: Apache-2.0
"""What a member computer reads of its own: its keytab, and how it was told to reach its directory."""

import struct
from pathlib import Path

import pytest

from volact.core.errors import MalformedError
from volact.directory.door import DirectoryDoor, DoorSettings
from volact.directory.errors import KeytabError, NotMemberError
from volact.directory.locate import Principal, machine_account, read_keytab
from volact.directory.settings import MemberSettingsError, load_settings, read_settings, save_settings

REALM = "AD.EXAMPLE.TEST"


def entry(*components: str, realm: str = REALM) -> bytes:
    """A keytab's entry with a key of 32 zero bytes (MIT's format, version 2)."""
    names = b"".join(struct.pack(">H", len(text)) + text.encode() for text in (realm, *components))
    body = struct.pack(">H", len(components)) + names + struct.pack(">IIBHH", 1, 0, 2, 18, 32) + bytes(32)
    return struct.pack(">i", len(body)) + body


def keytab(*entries: bytes) -> bytes:
    return b"\x05\x02" + b"".join(entries)


def test_the_computer_s_account_is_found_among_service_names_and_holes(tmp_path: Path) -> None:
    path = tmp_path / "krb5.keytab"
    hole = struct.pack(">i", -12) + bytes(12)
    path.write_bytes(keytab(entry("host", "pc1.ad.example.test"), hole, entry("PC1$"), entry("host", "pc1")))
    assert str(machine_account(path)) == f"PC1$@{REALM}"


def test_a_computer_without_such_an_account_is_no_member(tmp_path: Path) -> None:
    path = tmp_path / "krb5.keytab"
    with pytest.raises(NotMemberError):
        machine_account(path)
    path.write_bytes(keytab(entry("host", "pc1.ad.example.test"), entry("anna")))
    with pytest.raises(NotMemberError):
        machine_account(path)


def test_a_keytab_is_read_to_its_end() -> None:
    assert read_keytab(keytab(entry("a$"), entry("b", "c"))) == [
        Principal(("a$",), REALM),
        Principal(("b", "c"), REALM),
    ]


@pytest.mark.parametrize("data", [b"", b"\x05\x01", keytab(entry("a$")[:20]), keytab(b"\0\0\0\4\0\0\0\0")])
def test_a_damaged_keytab_is_named(data: bytes) -> None:
    with pytest.raises(KeytabError):
        read_keytab(data)


def test_settings_come_back_as_they_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "client" / "directory.json"
    assert load_settings(path) == DoorSettings()
    told = DoorSettings(
        Path("/k"), "ad.example.test", "dc1", 3389, "dc=x", Path("/ca"), "cn=pc", Path("/secret"), "Branch-1"
    )
    for settings in (told, DoorSettings(), None):
        save_settings(path, settings)
        assert load_settings(path) == settings
    path.write_bytes(b"{}")
    with pytest.raises(MemberSettingsError):
        load_settings(path)
    with pytest.raises(MalformedError):
        read_settings(b'{"v":1,"enabled":true,"port":0}')
    with pytest.raises(MalformedError, match="the site is not a name of DNS"):
        read_settings(b'{"v":1,"enabled":true,"site":"a.b"}')


def test_an_ldap_computer_without_account_or_password_is_no_member(tmp_path: Path) -> None:
    without = DoorSettings(base="dc=x", server="ldap")
    with pytest.raises(NotMemberError):
        DirectoryDoor(without).account()
    with pytest.raises(NotMemberError):
        DirectoryDoor(DoorSettings(base="dc=x", user="cn=pc", password_file=tmp_path / "none")).account()
