# SPDX-License-Identifier: Apache-2.0
"""Why somebody was not let in, in words: from what Kerberos, Samba and Active Directory were seen to answer."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from volact.core.forest import ForestKind
from volact.directory.connection import Password, Server, Session, Ticket, connect, login_error
from volact.directory.errors import CaFileError, DirectoryClockError, DirectoryLoginError

pytestmark = pytest.mark.needs("bonsai")

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


@pytest.mark.parametrize(("user", "password"), [("anna@AD.EXAMPLE.TEST", ""), ("", "secret")])
def test_nobody_is_let_in_without_a_name_and_a_password(user: str, password: str) -> None:
    """A server that takes such a login for an anonymous one would let it in; here nobody is asked."""
    nowhere = Server("nowhere.invalid", 636, tls=True)
    with pytest.raises(DirectoryLoginError, match=r"is empty|no user is named"), _connected(nowhere, user, password):
        pass


@pytest.mark.parametrize(
    ("content", "why"), [(None, "there is no such file"), ("root:x:0:0\n", "it holds no certificate")]
)
def test_an_authority_s_file_that_holds_none_is_named(tmp_path: Path, content: str | None, why: str) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    with pytest.raises(CaFileError, match=why), _connected(Server("nowhere.invalid", 636, True, ca_file), "anna", "x"):
        pass


def _connected(server: Server, user: str, password: str) -> AbstractContextManager[Session]:
    return connect(server, Password(user, password), ForestKind.AD)
