# SPDX-License-Identifier: Apache-2.0
"""The mail server is set in the browser as at the command line, its password is never seen again and never sent
elsewhere, and a test mail goes through a real server."""

import email
import email.policy
import socket
import stat
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session

from support.console import Console
from support.web_client import WebClient
from volact.fleet.api import Fleet
from volact.fleet.schedules.mail import MailSettings

PATH = "/administration/mail"
PASSWORD = "five brown foxes"
WRONG = (
    ({"sender": "nobody"}, "is not a mail address"),
    ({"server": "two words"}, "server is not a host"),
    ({"port": "70000"}, "a whole number from 1 to 65535"),
    ({"password": "x"}, "a password needs its user"),
    ({"server": "mail.example.com", "user": "fleet", "password": "x"}, "cross the network in clear text"),
    ({"user": "fleet", "password": "one\ntwo"}, "one line of at most"),
)


class Postbox:
    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        if not session.authenticated:
            return "530 log in first"
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        self.messages.append(found)
        return "250 taken"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.init(tmp_path / "fleet") as made:
        yield made


@pytest.fixture
def client(fleet: Fleet, tmp_path: Path) -> Iterator[WebClient]:
    with Console(tmp_path).client("admin") as client:
        yield client


@pytest.fixture
def port(pick_port: Callable[[], int]) -> int:
    return pick_port()


@pytest.fixture
def box(port: int) -> Iterator[Postbox]:
    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"fleet", PASSWORD.encode()), handled=False)

    box = Postbox()
    server = Controller(box, hostname="127.0.0.1", port=port, authenticator=authenticate, auth_require_tls=False)
    server.start()
    yield box
    server.stop()


def save(client: WebClient, **fields: Any) -> str:
    given = {"server": "localhost", "sender": "volact@example.com", "security": "none", "user": "", "password": ""}
    return client.send(client.get(PATH), PATH, **given | fields).text


def try_it(client: WebClient, to: str = "ann@example.com") -> str:
    return client.send(client.get(PATH), f"{PATH}/test", to=to).text


def test_a_test_mail_goes_through_the_server_with_its_login(
    client: WebClient, fleet: Fleet, box: Postbox, port: int
) -> None:
    shown = save(client, server="127.0.0.1", port=port, user="fleet", password=PASSWORD)
    assert "Reports are mailed through 127.0.0.1." in shown
    assert "The mail server took a mail to ann@example.com" in try_it(client)
    (message,) = box.messages
    assert (message["To"], message["From"]) == ("ann@example.com", "volact@example.com")
    assert message["Subject"] == "Test mail of Volact console"
    assert [row.act for row in fleet.audit()] == ["set-mail"]


def test_what_the_server_says_is_shown(client: WebClient, box: Postbox, port: int) -> None:
    save(client, server="127.0.0.1", port=port, user="fleet", password="another one")
    assert "refused the login of fleet" in try_it(client)
    assert box.messages == []
    assert "mail-login-refused" in client.get("/administration/audit").text


def test_the_password_is_kept_as_the_command_line_keeps_it_and_never_shown(client: WebClient, fleet: Fleet) -> None:
    save(client, security="tls", user="fleet", password=PASSWORD)
    kept = Path(fleet.mail_settings().password_file)
    assert fleet.mail_settings().password() == PASSWORD
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert PASSWORD not in client.get(PATH).text
    save(client, security="tls", user="fleet", sender="it@example.com")
    assert fleet.mail_settings().password() == PASSWORD
    assert fleet.mail_settings().sender == "it@example.com"
    save(client, security="tls")
    assert not kept.exists()
    assert fleet.mail_settings().password() is None


def test_a_password_that_is_kept_is_not_sent_elsewhere(client: WebClient, fleet: Fleet, tmp_path: Path) -> None:
    """One that the command line named, too."""
    (tmp_path / "password").write_text(PASSWORD)
    before = MailSettings("localhost", "volact@example.com", 0, "tls", "fleet", str(tmp_path / "password"))
    fleet.set_mail(before)
    for changed in ({"server": "evil.example"}, {"user": "other"}, {"security": "none"}, {"port": "2525"}):
        shown = save(client, **{"security": "tls", "user": "fleet"} | changed)
        assert "type the password of this user at this server" in shown, changed
        assert fleet.mail_settings() == before
    save(client, security="tls", user="fleet")
    assert fleet.mail_settings() == before


def test_what_does_not_fit_is_said_and_nothing_is_kept(client: WebClient, fleet: Fleet) -> None:
    for wrong, said in WRONG:
        assert said in save(client, **wrong)
    assert [one.name for one in fleet.folder.path.iterdir() if "mail" in one.name] == []
    assert "Once a server is saved" in client.get(PATH).text


def test_a_server_that_does_not_answer_costs_seconds_not_the_page(
    client: WebClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volact.console.pages.mail.SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        save(client, server="127.0.0.1", port=silent.getsockname()[1])
        assert "no answer within" in try_it(client)
