# SPDX-License-Identifier: Apache-2.0
"""Reports by mail: the settings of the outgoing mail server, a report as a message, and its sending (SMTP).

    mail.json    server, security, sender, user and the path of the file that holds the password; in the fleet's folder

A login never crosses a network in clear text.  What the server says is told in its own words, and the password in none.
Guide: docs/guide/fleet-reports.md.
"""

import os
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape
from pathlib import Path
from typing import Self

import aiosmtplib

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, InputError, TransportError
from volact.fleet.reports.render import find_format
from volact.fleet.reports.report import Kind, Report, moment, show
from volact.sealing import keys

FILE = "mail.json"
FORMAT = 1
MAX_TEXT = 300
MAX_PASSWORD = 1000
MOST_RECIPIENTS = 50
MOST_BYTES = 20 * 1024 * 1024  # of all attachments: mail servers commonly take 25 MB
TIMEOUT = 60
SECURITIES = {"starttls": 587, "tls": 465, "none": 25}  # and the port of each
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class MailNotSetError(ConfigError):
    code = "mail-not-set"
    fmt = "no mail server is set"
    remedy = "run `volact fleet set-mail --server HOST --from ADDRESS`"


class MailSettingUnfitError(InputError):
    code = "mail-setting-unfit"
    fmt = "{name} is not {expected}"
    remedy = "see `volact fleet set-mail --help`; nothing was changed"


class MailAddressUnfitError(InputError):
    code = "mail-address-unfit"
    fmt = "{address} is not a mail address"
    remedy = "give it as name@example.org"


class MailPasswordError(ConfigError):
    code = "mail-password-unreadable"
    fmt = "cannot read the mail server's password from {path}: {why}"
    remedy = "put the password into that file, readable by the account that runs the fleet tool"


class MailServerError(TransportError):
    code = "mail-server-unreachable"
    fmt = "cannot reach the mail server {server}: {why}"
    remedy = "check its name, port and --security with `volact fleet set-mail`, and that the network lets it through"


class MailLoginError(TransportError):
    code = "mail-login-refused"
    fmt = "the mail server {server} refused the login of {user}: {why}"
    remedy = "check --user and the password's file with `volact fleet set-mail`"


class MailRefusedError(TransportError):
    code = "mail-refused"
    fmt = "the mail server {server} did not take the message: {why}"
    remedy = "check the sender and the recipients; the server's log says more"


class MailTooLargeError(ConfigError):
    code = "mail-too-large"
    fmt = "the report's files are {size} bytes, a mail takes {most}"
    remedy = "mail HTML or PDF, which are cut at a page's length, and fetch CSV and XLSX with `volact fleet report`"


@dataclass(frozen=True, slots=True)
class MailSettings:
    """``password_file``: a path, read at each sending; ``port`` 0 is the usual one of ``security``."""

    server: str
    sender: str
    port: int = 0
    security: str = "starttls"
    user: str = ""
    password_file: str = ""

    def check(self) -> Self:
        """Itself; raises :class:`MailSettingUnfitError`, :class:`MailAddressUnfitError`."""
        check_address(self.sender)
        clear = self.security == "none" and bool(self.user) and self.server not in LOOPBACK
        for name, fits, expected in (
            ("server", _is_word(self.server), "a host's name or address"),
            ("port", 0 <= self.port <= 65535, "a port"),
            ("security", self.security in SECURITIES, "one of " + ", ".join(SECURITIES)),
            ("user", len(self.user) <= MAX_TEXT and self.user.isprintable(), "a user's name"),
            ("password-file", bool(self.password_file) == bool(self.user), "given together with --user"),
            ("security", not clear, "tls or starttls: a login would cross the network in clear text"),
        ):
            if not fits:
                raise MailSettingUnfitError(name=name, expected=expected)
        return self

    @property
    def address(self) -> tuple[str, int]:
        return self.server, self.port or SECURITIES[self.security]

    def password(self) -> str | None:
        """The file's first line."""
        if not self.user:
            return None
        try:
            with Path(self.password_file).open("rb") as file:
                data = file.read(MAX_PASSWORD + 1)
            text = data.decode().splitlines()[0] if data else ""
        except (OSError, UnicodeDecodeError) as exc:
            raise MailPasswordError(path=self.password_file, why=getattr(exc, "strerror", "") or "no text") from None
        if not text or len(data) > MAX_PASSWORD:
            raise MailPasswordError(path=self.password_file, why="it is empty, or too long")
        return text

    def save(self, folder: Path) -> None:
        keys.write_file(folder / FILE, dump_object({"v": FORMAT, **asdict(self.check())}) + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Raises :class:`MailNotSetError`."""
        if not (folder / FILE).is_file():
            raise MailNotSetError()
        claim = Fields(parse_object(keys.read_file(folder / FILE), FILE), FILE)
        claim.integer("v", least=FORMAT, most=FORMAT)
        return cls(
            claim.text("server"),
            claim.text("sender"),
            claim.integer("port", most=65535),
            claim.text("security"),
            claim.text("user", least=0),
            claim.text("password_file", least=0),
        ).check()


def check_address(text: str) -> str:
    """One address and nothing that could become a header of its own."""
    try:
        found = Address(addr_spec=text)
    except Exception:  # the standard library's parser raises several kinds
        raise MailAddressUnfitError(address=repr(text[:80])) from None
    if not found.domain or not found.username or not text.isprintable() or " " in text or len(text) > MAX_TEXT:
        raise MailAddressUnfitError(address=repr(text[:80]))
    return text


def check_recipients(addresses: Sequence[str]) -> tuple[str, ...]:
    if not 0 < len(addresses) <= MOST_RECIPIENTS:
        raise MailSettingUnfitError(name="mail-to", expected=f"1 to {MOST_RECIPIENTS} addresses")
    return tuple(map(check_address, addresses))


def compose(report: Report, formats: Sequence[str], sender: str, to: Sequence[str], message_id: str) -> EmailMessage:
    """The report's sentences and figures as the message, its files attached.  ``message_id``: the same for the same
    run, so that a mail that is sent again after a crash is known as the same."""
    message = EmailMessage()
    message["From"], message["To"] = sender, ", ".join(check_recipients(to))
    message["Subject"] = f"{report.title}: {headline(report)}"[:200]
    message["Date"] = format_datetime(moment(report.made_at))
    message["Message-ID"] = f"<{message_id}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers of holiday robots
    message.set_content(_text(report))
    message.add_alternative(_html(report), subtype="html")
    size = 0
    for name in formats:
        kind = find_format(name)
        data = kind.render(report)
        size += len(data)
        media = kind.media.partition(";")[0].split("/")
        message.add_attachment(data, maintype=media[0], subtype=media[1], filename=report.file_name(kind.ending))
    if size > MOST_BYTES:
        raise MailTooLargeError(size=size, most=MOST_BYTES)
    return message


def compose_test(title: str, sender: str, to: str, now: int, message_id: str) -> EmailMessage:
    """A short mail that only shows that mails arrive; ``title``: whose it is."""
    message = EmailMessage()
    message["From"], message["To"] = sender, check_address(to)
    message["Subject"] = f"Test mail of {title}"[:200]
    message["Date"] = format_datetime(moment(now))
    message["Message-ID"] = f"<{message_id}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(f"{title} can send its reports through this mail server.\n\nNobody needs to answer.\n")
    return message


def headline(report: Report) -> str:
    """The figures that matter, on one line."""
    return ", ".join(f"{figure.label.lower()} {figure.value}" for figure in report.figures[:3]) or "report"


async def send(settings: MailSettings, message: EmailMessage, tls: ssl.SSLContext | None = None) -> None:
    """Hands it to the server; raises one of the named errors, and nothing was sent then."""
    host, port = settings.address
    server = f"{host}:{port}"
    password = settings.password()
    try:
        refused, _ = await aiosmtplib.send(
            message,
            hostname=host,
            port=port,
            username=settings.user or None,
            password=password,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=tls or ssl.create_default_context(),
            timeout=TIMEOUT,
        )
    except aiosmtplib.SMTPAuthenticationError as exc:
        raise MailLoginError(server=server, user=settings.user, why=_said(exc)) from None
    except (aiosmtplib.SMTPRecipientsRefused, aiosmtplib.SMTPResponseException) as exc:
        raise MailRefusedError(server=server, why=_said(exc)) from None
    except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
        raise MailServerError(server=server, why=_said(exc)) from None
    if refused:
        raise MailRefusedError(server=server, why=f"it refused {', '.join(refused)}; the others got it")


def _text(report: Report) -> str:
    lines = [report.title, f"As of {show(Kind.TIME, report.made_at)} UTC", "", *report.summary, ""]
    width = max((len(figure.label) for figure in report.figures), default=0)
    lines += [f"{figure.label:<{width}}  {figure.value}" for figure in report.figures]
    return "\n".join(lines) + "\n"


def _html(report: Report) -> str:
    """What a mail program shows: no style sheet, no picture; the report itself is attached."""
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in report.summary)
    rows = "".join(
        f'<tr><td style="padding:2px 24px 2px 0">{escape(one.label)}</td><td><b>{escape(one.value)}</b></td></tr>'
        for one in report.figures
    )
    about = f"As of {show(Kind.TIME, report.made_at)} UTC"
    return f"<h2>{escape(report.title)}</h2><p>{about}</p>{sentences}<table>{rows}</table>"


def _said(exc: Exception) -> str:
    """The server's words: one printable line."""
    if isinstance(exc, aiosmtplib.SMTPRecipientsRefused):
        text = "; ".join(f"{one.recipient}: {one.message}" for one in exc.recipients)
    elif isinstance(cause := exc.__cause__ or exc, OSError) and cause.strerror:
        text = os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
    else:
        text = str(getattr(exc, "message", "") or exc)
    return "".join(char if char.isprintable() else " " for char in text)[:MAX_TEXT] or type(exc).__name__


def _is_word(text: str) -> bool:
    return 0 < len(text) <= 253 and text.isprintable() and not set(text) & set(" /@")
