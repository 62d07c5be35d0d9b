# SPDX-License-Identifier: Apache-2.0
"""Why somebody was not let in, in words: from what Kerberos, Samba and Active Directory were seen to answer."""

import pytest

from volact.directory.connection import Server, Ticket, login_error
from volact.directory.errors import DirectoryClockError, DirectoryLoginError

SERVER = Server("dc1.ad.example.test", 389, tls=False)
GSS = "Local error. SASL(-1): generic failure: GSSAPI Error: "
UNSPECIFIED = f"{GSS}Unspecified GSS failure.  Minor code may provide more information "
LDAP = "Invalid credentials. 80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data "


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (f"{UNSPECIFIED}(Ticket expired) (0xfffffffe [-2])", "the Kerberos ticket has expired"),
        (
            f"{UNSPECIFIED}(Server not found in Kerberos database) (0xfffffffe [-2])",
            "Kerberos knows no server of that name: write it in full, no address",
        ),
        (
            f"{GSS}No credentials were supplied, or the credentials were unavailable or inaccessible "
            "(No Kerberos credentials available (default cache: FILE:/tmp/krb5cc_0)) (0xfffffffe [-2])",
            "No Kerberos credentials available (default cache: FILE:/tmp/krb5cc_0)",
        ),
        ("Preauthentication failed. (KRB5_ERROR 0x96c73a18) (0x0031 [49])", "Preauthentication failed"),
        (f"{LDAP}52e, v1db1 (0x0031 [49])", "name or password is wrong"),
        (f"{LDAP}533, v1db1 (0x0031 [49])", "the account is disabled"),
        (f"{LDAP}5ff, v1db1 (0x0031 [49])", f"{LDAP}5ff, v1db1"),
    ],
)
def test_a_login_that_is_refused_says_why_in_few_words(said: str, why: str) -> None:
    refused = login_error(SERVER, Ticket("anna@AD.EXAMPLE.TEST"), Exception(said))
    assert isinstance(refused, DirectoryLoginError)
    assert str(refused) == f"directory server dc1.ad.example.test did not accept anna@AD.EXAMPLE.TEST: {why}"


def test_clocks_that_differ_are_told_by_their_own_name() -> None:
    refused = login_error(SERVER, Ticket(), Exception(f"{UNSPECIFIED}(Clock skew too great) (0xfffffffe [-2])"))
    assert isinstance(refused, DirectoryClockError)
    assert "differ by more than Kerberos allows" in str(refused)
