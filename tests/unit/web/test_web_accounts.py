# SPDX-License-Identifier: Apache-2.0
"""Logins, sessions and what administrators do to accounts."""

from dataclasses import dataclass, replace

import pyotp
import pytest
from sqlalchemy import inspect, select

from volact.testing.clock import FakeClock
from volact.web.access import credentials
from volact.web.access.accounts import IDLE_SECONDS, LONGEST_SECONDS, Accounts, Caller, Identity
from volact.web.access.attempts import delay
from volact.web.access.records import Stage
from volact.web.access.schema import ACCOUNT, METADATA, SESSION
from volact.web.access.store import WebStore
from volact.web.errors import (
    AccountForeignError,
    AccountNameError,
    AccountTakenError,
    LastAdministratorError,
    LoginCodeError,
    LoginDelayedError,
    LoginFailedError,
    LoginLinkError,
    PasswordUnfitError,
    RoleUnknownError,
    SecretFileError,
)

HERE, THERE = Caller("192.0.2.1", "a browser"), Caller("198.51.100.7", "another")
PASSWORD = "correct horse battery"
NEW = "a sentence to remember"


@pytest.fixture
def clock():
    return FakeClock(1_800_000_000)


@pytest.fixture
def accounts(tmp_path, clock):
    store = WebStore.open(tmp_path / "web.db")
    yield Accounts(store, clock, bytes(32), title="Tests")
    store.close()


@pytest.fixture
def ann(accounts):
    return accounts.add("Ann", "administrator", "tests", password=PASSWORD)


def enrolled(accounts, clock) -> str:
    """Through the whole first login; returns the authenticator's secret."""
    login = accounts.log_in("ann", PASSWORD, HERE)
    login = accounts.set_own_password(login.session, None, NEW, HERE)
    secret = credentials.new_totp()
    accounts.enrol(login.session, secret, pyotp.TOTP(secret).at(clock()), HERE)
    return secret


def test_a_first_login_goes_through_password_and_authenticator(accounts, ann, clock):
    first = accounts.log_in(" ANN ", PASSWORD, HERE)
    assert first.session.stage is Stage.PASSWORD
    second = accounts.set_own_password(first.session, None, NEW, HERE)
    assert second.session.stage is Stage.ENROL
    secret = credentials.new_totp()
    third, codes = accounts.enrol(second.session, secret, pyotp.TOTP(secret).at(clock()), HERE)
    assert third.session.stage is Stage.FULL
    assert len(set(codes)) == 10
    assert len({first.token, second.token, third.token}) == 3
    assert accounts.find(first.token) is accounts.find(second.token) is None
    assert accounts.find(third.token).account.name == "ann"


def test_each_step_of_a_login_has_a_new_session(accounts, ann, clock):
    secret = enrolled(accounts, clock)
    clock.advance(60)
    before = accounts.log_in("ann", NEW, HERE)
    assert before.session.stage is Stage.CODE
    after = accounts.give_code(before.session, pyotp.TOTP(secret).at(clock()), HERE)
    assert accounts.find(before.token) is None
    assert accounts.find(after.token).stage is Stage.FULL


def test_a_code_is_taken_once(accounts, ann, clock):
    secret = enrolled(accounts, clock)
    clock.advance(60)
    code = pyotp.TOTP(secret).at(clock())
    accounts.give_code(accounts.log_in("ann", NEW, HERE).session, code, HERE)
    for late in (0, 30):
        clock.advance(late)
        with pytest.raises(LoginCodeError):
            accounts.give_code(accounts.log_in("ann", NEW, THERE).session, code, THERE)


def test_a_recovery_code_is_taken_once_in_any_spelling(accounts, ann, clock):
    login = accounts.log_in("ann", PASSWORD, HERE)
    login = accounts.set_own_password(login.session, None, NEW, HERE)
    secret = credentials.new_totp()
    _, codes = accounts.enrol(login.session, secret, pyotp.TOTP(secret).at(clock()), HERE)
    typed = codes[0].upper().replace("-", " ")
    assert accounts.give_code(accounts.log_in("ann", NEW, HERE).session, typed, HERE).session.stage is Stage.FULL
    with pytest.raises(LoginCodeError):
        accounts.give_code(accounts.log_in("ann", NEW, HERE).session, typed, HERE)


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("nobody", PASSWORD), ("", ""), ("ann", "x" * 5000)])
def test_all_wrong_logins_are_told_the_same(accounts, ann, name, password):
    with pytest.raises(LoginFailedError) as caught:
        accounts.log_in(name, password, HERE)
    assert str(caught.value) == "name or password is wrong"


def test_wrong_attempts_cost_growing_time_and_never_the_account(accounts, ann, clock):
    for _ in range(5):
        with pytest.raises(LoginFailedError):
            accounts.log_in("ann", "wrong", HERE)
    with pytest.raises(LoginDelayedError) as caught:
        accounts.log_in("ann", PASSWORD, HERE)
    assert caught.value.seconds == 1
    clock.advance(1)
    assert accounts.log_in("ann", PASSWORD, HERE)
    assert accounts.log_in("ann", PASSWORD, HERE), "a right password ends the waiting"


def test_who_guesses_from_elsewhere_keeps_the_owner_out_for_half_a_minute_at_most(accounts, ann, clock):
    for attempt in range(40):
        with pytest.raises((LoginFailedError, LoginDelayedError)):
            accounts.log_in("ann", "wrong", Caller(f"203.0.113.{attempt}"))
        clock.advance(30)
    assert accounts.log_in("ann", PASSWORD, HERE)


def test_one_address_is_slowed_down_for_all_accounts(accounts, ann):
    for number in range(5):
        with pytest.raises(LoginFailedError):
            accounts.log_in(f"user{number}", "wrong", Caller(f"2001:db8::{number}"))
    with pytest.raises(LoginDelayedError):
        accounts.log_in("another", "wrong", Caller("2001:db8::ffff"))
    assert accounts.log_in("ann", PASSWORD, HERE)


def test_delays_double_up_to_their_most():
    assert [delay(number) for number in (0, 4, 5, 6, 7, 8, 40)] == [0, 0, 1, 2, 4, 8, 900]


def test_a_session_ends_when_it_is_idle_and_in_any_case(accounts, ann, clock):
    token = accounts.use_link(accounts.make_link("ann", "tests"), HERE).token
    clock.advance(IDLE_SECONDS - 1)
    assert accounts.find(token)
    clock.advance(IDLE_SECONDS + 1)
    assert accounts.find(token) is None
    token = accounts.use_link(accounts.make_link("ann", "tests"), HERE).token
    for _ in range(LONGEST_SECONDS // 1000 + 1):
        found = accounts.find(token)
        clock.advance(1000)
    assert found is None or accounts.find(token) is None


def test_what_a_page_asks_by_itself_does_not_keep_a_session_alive(accounts, ann, clock):
    token = accounts.use_link(accounts.make_link("ann", "tests"), HERE).token
    for _ in range(IDLE_SECONDS // 100):
        assert accounts.find(token, attended=False)
        clock.advance(100)
    clock.advance(1)
    assert accounts.find(token, attended=False) is None


def test_a_login_link_is_good_once_and_for_a_quarter_of_an_hour(accounts, ann, clock):
    link = accounts.make_link("ann", "tests")
    assert accounts.use_link(link, HERE).session.stage is Stage.FULL
    late = accounts.make_link("ann", "tests")
    clock.advance(901)
    for wrong in (link, late, "", "x" * 43):
        with pytest.raises(LoginLinkError):
            accounts.use_link(wrong, HERE)


@pytest.mark.parametrize("act", ["disable", "remove", "reset_totp", "set_role", "set_password"])
def test_what_is_done_to_an_account_ends_its_sessions_and_links(accounts, ann, act):
    accounts.add("bob", "administrator", "tests", password=PASSWORD)
    token = accounts.use_link(accounts.make_link("bob", "tests"), HERE).token
    link = accounts.make_link("bob", "tests")
    more = {"set_role": ("viewer",), "set_password": (NEW,)}.get(act, ())
    getattr(accounts, act)("bob", *more, "tests")
    assert accounts.find(token) is None
    with pytest.raises(LoginLinkError):
        accounts.use_link(link, HERE)


def test_the_last_administrator_stays(accounts, ann):
    accounts.add("bob", "viewer", "tests", password=None)
    for act in (accounts.disable, accounts.remove):
        with pytest.raises(LastAdministratorError):
            act("ann", "tests")
    with pytest.raises(LastAdministratorError):
        accounts.set_role("ann", "viewer", "tests")
    accounts.set_role("bob", "administrator", "tests")
    accounts.disable("ann", "tests")
    with pytest.raises(LoginFailedError):
        accounts.log_in("ann", PASSWORD, HERE)


@pytest.mark.parametrize("name", ["", " ", "a/b", "../x", "ann\n", "é", "x" * 65, "<b>"])
def test_names_of_accounts_are_plain(accounts, name):
    with pytest.raises(AccountNameError):
        accounts.add(name if name != "ann\n" else "an\nn", "viewer", "tests", password=None)


@pytest.mark.parametrize(
    "password", ["short", "aaaaaaaaaaaaaaaa", "password1234", "ann-the-ann", "x" * 257, "ann.smith-is-it"]
)
def test_weak_passwords_are_refused(accounts, password):
    with pytest.raises(PasswordUnfitError):
        accounts.add("ann.smith", "viewer", "tests", password=password)


def test_an_account_is_made_once_and_with_a_role_that_exists(accounts, ann):
    with pytest.raises(AccountTakenError):
        accounts.add("ann", "viewer", "tests", password=None)
    with pytest.raises(RoleUnknownError):
        accounts.add("bob", "king", "tests", password=None)


def test_the_database_holds_no_secret_in_clear(accounts, ann, clock):
    secret = enrolled(accounts, clock)
    token = accounts.use_link(accounts.make_link("ann", "tests"), HERE).token
    with accounts.store.engine.connect() as conn:
        rows = [*conn.execute(select(ACCOUNT)), *conn.execute(select(SESSION))]
    stored = repr(rows)
    for clear in (PASSWORD, NEW, secret, token):
        assert clear not in stored
    assert "$argon2id$" in stored


def test_every_act_is_in_the_audit_with_who_from_where_and_the_result(accounts, ann):
    with pytest.raises(LoginFailedError):
        accounts.log_in("ann", "wrong", HERE)
    accounts.use_link(accounts.make_link("ann", "root"), THERE)
    rows, total = accounts.store.audit()
    told = [(row.account, row.act, row.result, row.address) for row in rows]
    assert told == [
        ("ann", "login", "done", "198.51.100.7"),
        ("root", "login-link", "done", "command line"),
        ("ann", "login", "login-failed", "192.0.2.1"),
        ("tests", "account-added", "done", "command line"),
    ]
    assert total == 4


def test_the_tables_are_those_that_the_migrations_make(accounts):
    found = inspect(accounts.store.engine)
    for table in METADATA.sorted_tables:
        made = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
        assert made == {column.name: bool(column.nullable) for column in table.columns}
        indexes = {index["name"] for index in found.get_indexes(table.name)}
        assert indexes == {index.name for index in table.indexes}


def test_the_key_of_a_site_is_made_once_and_never_replaced(tmp_path):
    path = tmp_path / "web.key"
    assert credentials.read_secret(path) == credentials.read_secret(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("damaged")
    with pytest.raises(SecretFileError):
        credentials.read_secret(path)


def test_an_authenticator_of_another_account_or_key_opens_nothing():
    sealed = credentials.encrypt(bytes(32), "ann", "SECRET")
    assert credentials.decrypt(bytes(32), "ann", sealed) == "SECRET"
    assert credentials.decrypt(bytes(32), "bob", sealed) is None
    assert credentials.decrypt(b"\x01" * 32, "ann", sealed) is None
    assert credentials.decrypt(bytes(32), "ann", b"") is None


# ---- accounts that are kept elsewhere


@dataclass(frozen=True)
class Directory:
    """Knows one password, as an LDAP directory does."""

    name: str = "ldap"
    label: str = "Contoso"

    def check(self, name: str, password: str) -> Identity | None:
        return Identity(name, "", ()) if password == PASSWORD else None

    def role(self, identity: Identity) -> str:
        return "operator"


def test_a_directory_s_account_has_its_authenticator_here(accounts, clock):
    accounts = replace(accounts, backends=(Directory(),))
    login = accounts.log_in("olga", PASSWORD, HERE)
    assert login.session.stage is Stage.ENROL
    secret = credentials.new_totp()
    accounts.enrol(login.session, secret, pyotp.TOTP(secret).at(clock()), HERE)
    clock.advance(60)
    login = accounts.log_in("olga", PASSWORD, HERE)
    assert login.session.stage is Stage.CODE
    assert accounts.give_code(login.session, pyotp.TOTP(secret).at(clock()), HERE).session.stage is Stage.FULL


def test_a_provider_s_account_has_the_provider_s_second_factor_and_none_here(accounts, clock):
    session = accounts.vouched("oidc", Identity("olga", "", ()), "operator", HERE).session
    assert session.stage is Stage.FULL
    secret = credentials.new_totp()
    with pytest.raises(AccountForeignError):
        accounts.enrol(session, secret, pyotp.TOTP(secret).at(clock()), HERE)
    assert accounts.store.account("olga").totp is None


def test_an_account_that_is_kept_elsewhere_gets_no_way_in_around_it(accounts):
    accounts.vouched("oidc", Identity("olga", "", ()), "operator", HERE)
    with pytest.raises(AccountForeignError):
        accounts.make_link("olga", "tests")
    with pytest.raises(AccountForeignError):
        accounts.set_role("olga", "administrator", "tests")
    with pytest.raises(AccountForeignError):
        accounts.set_password("olga", NEW, "tests")
    with pytest.raises(AccountForeignError):
        accounts.reset_totp("olga", "tests")
