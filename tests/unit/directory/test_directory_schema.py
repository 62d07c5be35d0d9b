# SPDX-License-Identifier: Apache-2.0
"""Our schema as three kinds of file, and DNs and filters as they are written."""

import re

import pytest

from volact.directory import schema
from volact.directory.connection import Password, escape, escape_rdn
from volact.directory.place import plain_dn


def test_oids_are_ours_and_each_arc_fits_active_directory() -> None:
    oids = [one.oid for one in schema.ATTRIBUTES] + [schema.CLASS_OID]
    assert len(set(oids)) == len(oids)
    for oid in oids:
        assert oid.startswith(f"{schema.ARC}.")
        assert all(int(arc) < 2**28 for arc in oid.split("."))


def test_every_form_has_every_attribute() -> None:
    for text in (schema.openldap_file(), schema.openldap_ldif(), schema.ad_ldif()):
        for one in schema.ATTRIBUTES:
            assert one.oid in text
            assert one.name in text
        assert schema.CLASS_OID in text


def test_no_apostrophe_ends_a_description_early() -> None:
    for text in (*schema.ldap_attributes(), *schema.ldap_classes()):
        assert len(re.findall("'", text)) % 2 == 0
        assert re.fullmatch(r"\( [\d.]+ NAME '\w+' DESC '[^']*' .* \)", text)


def test_must_and_may_are_all_attributes_once() -> None:
    entry = schema.ad_class()
    named = [*entry["mustContain"], *entry["mayContain"]]
    assert sorted(map(str, named)) == sorted(one.name for one in schema.ATTRIBUTES)


@pytest.mark.parametrize(("text", "written"), [("a*b", "a\\2ab"), ("(x)\\", "\\28x\\29\\5c"), ("ä", "ä")])
def test_text_in_a_filter_is_only_text(text: str, written: str) -> None:
    assert escape(text) == written


@pytest.mark.parametrize(("text", "written"), [("a,b", "a\\,b"), ("#1", "\\#1"), (" a ", "\\ a\\ "), ("a+b", "a\\+b")])
def test_text_in_a_dn_is_only_text(text: str, written: str) -> None:
    assert escape_rdn(text) == written


def test_an_extended_dn_loses_what_stands_before_it() -> None:
    assert plain_dn("<GUID=c7593518-e6e5-447a-b026-36d400922049>;<SID=S-1-5-21-1-2-3>;DC=ad") == "DC=ad"
    assert plain_dn("DC=ad") == "DC=ad"


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(Password("anna", "secret"))
