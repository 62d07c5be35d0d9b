# SPDX-License-Identifier: Apache-2.0
"""The outgoing mail server of the fleet's reports, as `volact fleet set-mail` has it, and a mail that tries it.

The password is written and never shown: it goes into a file of its own in the fleet's folder, and stays there only as
long as it is for the server and the user that it was typed for, so that nobody has it sent elsewhere.
"""

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path

from starlette.responses import Response

from volact.console.pages.fleet.begin import needs_fleet
from volact.console.pages.parts import fleet_of
from volact.core.errors import VolactError
from volact.fleet.api import Fleet
from volact.fleet.schedules import mail
from volact.fleet.schedules.mail import (
    MAX_PASSWORD,
    SECURITIES,
    MailAddressUnfitError,
    MailNotSetError,
    MailServerError,
    MailSettings,
)
from volact.sealing import keys
from volact.web.access.roles import ADMINISTER
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

PATH = "/administration/mail"
HELP = "guide/console#mail"
PASSWORD_FILE = "mail-password"  # noqa: S105 - where it is, not what it is
PASSWORD_WANTED = "type the password of this user at this server"  # noqa: S105 - a sentence
SECONDS = 8.0  # of a test: a page must not take longer
CHOICES = (
    ("starttls", "STARTTLS, port 587"),
    ("tls", "TLS from the beginning, port 465"),
    ("none", "none, port 25, without a login"),
)


def show(visit: Visit) -> Response:
    return _show(visit, None, None)


def save(visit: Visit) -> Response:
    fleet, form = fleet_of(visit), Form(visit.form)
    typed = str(form.values.pop("password", ""))
    wanted = MailSettings(
        form.text("server", most=253),
        form.text("sender", most=mail.MAX_TEXT),
        form.integer("port", least=1, most=65535, required=False) or 0,
        form.choice("security", SECURITIES),
        form.text("user", most=mail.MAX_TEXT, required=False),
    )
    kept = _kept_password(fleet, wanted)
    if wanted.user and not typed and kept is None:
        form.errors["password"] = PASSWORD_WANTED
    if typed and not wanted.user:
        form.errors["user"] = "a password needs its user"
    if len(typed.encode()) > MAX_PASSWORD or not typed.isprintable():
        form.errors["password"] = f"one line of at most {MAX_PASSWORD} characters"
    if form.valid:
        try:
            _keep(fleet, wanted, typed, kept)
        except MailAddressUnfitError as exc:
            form.fail(exc, "sender")
        except VolactError as exc:
            form.fail(exc)
        else:
            visit.note("mail-set", f"{wanted.server} as {wanted.user or 'nobody'}")
            return visit.redirect(PATH, f"Reports are mailed through {wanted.server}.")
    return _show(visit, form, None)


def test(visit: Visit) -> Response:
    """Sends a mail by the settings as they are kept; what the server says is shown in its own words."""
    fleet, form = fleet_of(visit), Form(visit.form)
    to = form.text("to", most=mail.MAX_TEXT)
    if form.valid:
        try:
            _send(fleet, mail.check_address(to), visit.now, visit.site.title)
        except MailAddressUnfitError as exc:
            form.fail(exc, "to")
        except VolactError as exc:
            visit.note("mail-test", to, exc.code)
            form.fail(exc)
        else:
            visit.note("mail-test", to)
            return visit.redirect(PATH, f"The mail server took a mail to {to}. Look whether it arrives.")
    return _show(visit, None, form)


PAGES = (
    needs_fleet(Page(PATH, show, ADMINISTER, "Mail", group="Administration", menu=True, icon="envelope", help=HELP)),
    Page(PATH, save, ADMINISTER, "Mail", ("POST",), acts="mail-set", help=HELP),
    Page(f"{PATH}/test", test, ADMINISTER, "Mail", ("POST",), acts="mail-test", help=HELP),
)


def _keep(fleet: Fleet, wanted: MailSettings, typed: str, kept: str | None) -> None:
    """What does not fit is refused before the password of now is overwritten."""
    own = (fleet.folder.path / PASSWORD_FILE).absolute()
    file = (str(own) if typed else kept or "") if wanted.user else ""
    settings = replace(wanted, password_file=file).check()
    if typed:
        keys.write_file(own, typed.encode() + b"\n")
    fleet.set_mail(settings)
    if file != str(own):
        own.unlink(missing_ok=True)


def _kept_password(fleet: Fleet, wanted: MailSettings) -> str | None:
    """The file of the password that is kept, where it is for this server and user, and as safe on its way."""
    now = _settings(fleet)
    if now is None or not now.user:
        return None
    same = (now.address, now.user, now.security) == (wanted.address, wanted.user, wanted.security)
    return now.password_file if same else None


def _settings(fleet: Fleet) -> MailSettings | None:
    try:
        return fleet.mail_settings()
    except MailNotSetError:
        return None


def _send(fleet: Fleet, to: str, now: int, title: str) -> None:
    settings = fleet.mail_settings()
    id_ = f"test.{now}.{secrets.token_hex(8)}@{settings.sender.rpartition('@')[2]}"
    message = mail.compose_test(title, settings.sender, to, now, id_)

    async def send() -> None:
        await asyncio.wait_for(mail.send(settings, message, fleet.mail_tls), SECONDS)

    try:
        asyncio.run(send())
    except TimeoutError:
        server = "{}:{}".format(*settings.address)
        raise MailServerError(server=server, why=f"no answer within {SECONDS:.0f} seconds") from None


def _show(visit: Visit, form: Form | None, tried: Form | None) -> Response:
    settings = _settings(fleet_of(visit))
    if form is None:
        start = settings or MailSettings("", "")
        form = Form(
            None, server=start.server, sender=start.sender, port=start.port or "", security=start.security,
            user=start.user,
        )  # fmt: skip
    fits = form.valid and (tried is None or tried.valid)
    file = settings.password_file if settings else ""
    return visit.render(
        "mail.html", 200 if fits else 422, settings=settings, form=form, tried=tried or Form(), choices=CHOICES,
        elsewhere=file if Path(file).name != PASSWORD_FILE else "",
    )  # fmt: skip
