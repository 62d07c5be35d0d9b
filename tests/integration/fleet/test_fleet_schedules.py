# SPDX-License-Identifier: Apache-2.0
"""Schedules do what they say at their time, once, and reports arrive by a real mail server."""

import asyncio
import email
import email.policy
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session
from cryptography.hazmat.primitives import serialization
from sqlalchemy import update

from support.clock import Clock
from support.fleet_rows import NOW, fill
from volact.core.errors import InputError, VolactError
from volact.fleet.api import Fleet
from volact.fleet.figures.forecast import DAY
from volact.fleet.reach.errors import MachineUnreachableError
from volact.fleet.schedules import schedule
from volact.fleet.schedules.automation import Automation, ScheduledJobError
from volact.fleet.schedules.kinds import ScheduleArgumentError, ScheduleKindError
from volact.fleet.schedules.mail import MailAddressUnfitError, MailSettings, MailSettingUnfitError
from volact.fleet.schema import SCHEDULES
from volact.sealing.keys import LocalKey

CLONES = {"report": "clones", "mail_to": ["it@example.com"]}


class Postbox:
    """What the mail server took; ``refuse``: its answer to every recipient."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.refuse = ""

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        self.messages.append(found)
        return "250 taken"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


@pytest.fixture
def fleet(tmp_path: Path, clock: Clock) -> Iterator[Fleet]:
    with Fleet.init(tmp_path / "fleet", who="tester", clock=clock) as made:
        fill(made.store, 200)
        yield made


@contextmanager
def mail_server(port: int, **how: Any) -> Iterator[Postbox]:
    box = Postbox()
    server = Controller(box, hostname="127.0.0.1", port=port, **how)
    server.start()
    try:
        yield box
    finally:
        server.stop()


@pytest.fixture
def box(fleet: Fleet, pick_port: Callable[[], int]) -> Iterator[Postbox]:
    port = pick_port()
    fleet.set_mail(MailSettings("127.0.0.1", "volact@example.com", port, "none"))
    with mail_server(port) as box:
        yield box


def run_due(fleet: Fleet, name: str | None = None) -> list[tuple[str, str | None]]:
    done = asyncio.run(fleet.schedule_run(name))
    return [(one.name, error.code if error else None) for one, error in done]


def test_a_report_arrives_by_mail_at_its_time_with_its_files(fleet: Fleet, clock: Clock, box: Postbox) -> None:
    arguments = {"report": "overview", "mail_to": ["it@example.com", "cio@example.com"], "formats": ["pdf", "xlsx"]}
    made = fleet.schedule_add("monday", "0 7 * * mon", "report", arguments, zone="UTC")
    assert run_due(fleet) == []
    assert made.next_at is not None
    clock.now = made.next_at
    assert run_due(fleet) == [("monday", None)]
    assert run_due(fleet) == []
    (message,) = box.messages
    assert message["To"] == "it@example.com, cio@example.com"
    assert message["Subject"].startswith("Licence overview: machines 200, licensed ")
    files = {part.get_filename(): part.get_content() for part in message.iter_attachments()}
    assert [str(name).rpartition(".")[2] for name in files] == ["pdf", "xlsx"]
    assert next(iter(files.values())).startswith(b"%PDF")
    body = message.get_body(("plain",))
    assert body is not None
    assert "200 machines run 2 products" in body.get_content()
    (after,) = fleet.schedules()
    assert (after.last_result, after.next_at) == ("ok", made.next_at + 7 * DAY)
    assert "scheduled-report" in [row.act for row in fleet.audit()]


def test_what_was_missed_is_caught_up_once(fleet: Fleet, clock: Clock, box: Postbox) -> None:
    fleet.schedule_add("daily", "@daily", "report", CLONES, zone="UTC")
    clock.now += 9 * DAY
    assert run_due(fleet) == [("daily", None)]
    assert run_due(fleet) == []
    assert len(box.messages) == 1


def test_a_run_that_its_process_did_not_survive_is_taken_up_as_the_same_run(
    fleet: Fleet, clock: Clock, box: Postbox
) -> None:
    made = fleet.schedule_add(
        "daily", "@daily", "report", {"report": "clones", "mail_to": ["it@example.com"]}, zone="UTC"
    )
    clock.now = made.next_at or 0
    asyncio.run(_mail_and_die(fleet))
    assert run_due(fleet) == []  # as long as nobody knows that it is dead
    clock.now += schedule.LEASE_SECONDS + 1
    assert run_due(fleet) == [("daily", None)]
    first, second = box.messages
    assert first["Message-ID"] == second["Message-ID"]


def test_two_processes_never_take_one_run(fleet: Fleet, clock: Clock) -> None:
    made = fleet.schedule_add("daily", "@daily", "refresh", zone="UTC")
    now = made.next_at or 0
    with fleet.store.write() as conn:
        assert schedule.take(conn, "one", now) is not None
        assert schedule.take(conn, "two", now) is None
        taken = schedule.take(conn, "two", now, is_dead=lambda worker: worker == "one")
        assert taken is not None
        assert not schedule.finish(conn, taken, "one", now)
        assert schedule.finish(conn, taken, "two", now)


def test_a_scheduled_job_is_made_once_and_its_trouble_is_the_result(fleet: Fleet, clock: Clock) -> None:
    made = fleet.schedule_add("nightly", "@daily", "refresh", {"filter": "name=pc000001.example.net"}, zone="UTC")
    fleet.reach = _unreachable
    clock.now = made.next_at or 0
    assert run_due(fleet) == [("nightly", ScheduledJobError.code)]
    (job,) = fleet.jobs()
    assert (job.kind, job.made_by, job.counts) == ("refresh", made.run, {"failed": 1})
    with fleet.store.write() as conn:  # as if the tool had died before it wrote down that the run was over
        conn.execute(update(SCHEDULES).values(next_at=made.next_at, running_by="gone", running_until=0))
    run_due(fleet)
    assert len(fleet.jobs()) == 1


def test_bringing_answers_where_none_wait_is_a_run_that_went_well(fleet: Fleet, clock: Clock) -> None:
    made = fleet.schedule_add("bring", "@daily", "proxy-apply", zone="UTC")
    clock.now = made.next_at or 0
    assert run_due(fleet) == [("bring", None)]
    assert fleet.jobs() == []


def test_a_schedule_of_every_machine_acts_on_every_machine(fleet: Fleet, clock: Clock) -> None:
    made = fleet.schedule_add("all", "@daily", "activate", {"all": True}, zone="UTC")
    fleet.reach = _unreachable
    clock.now = made.next_at or 0
    run_due(fleet)
    assert fleet.jobs()[0].total == fleet.list_machines().total > 1


def test_a_disabled_schedule_rests_and_can_still_be_run_by_name(fleet: Fleet, clock: Clock, box: Postbox) -> None:
    fleet.schedule_add("daily", "@daily", "report", CLONES, zone="UTC")
    fleet.schedule_enable("daily", enabled=False)
    clock.now += 2 * DAY
    assert run_due(fleet) == []
    assert run_due(fleet, "daily") == [("daily", None)]
    again = fleet.schedule_enable("daily")
    assert again.next_at is not None
    assert again.next_at > clock.now


def test_reports_can_go_into_a_folder(fleet: Fleet, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    arguments = {"report": "overview", "folder": str(tmp_path / "out"), "formats": ["csv"]}
    fleet.schedule_add("daily", "@daily", "report", arguments, zone="UTC")
    assert run_due(fleet, "daily") == [("daily", None)]
    (path,) = (tmp_path / "out").iterdir()
    assert path.read_bytes().startswith(b"\xef\xbb\xbfproduct,")


def test_the_service_runs_schedules_and_jobs_until_it_is_stopped(fleet: Fleet, clock: Clock, box: Postbox) -> None:
    made = fleet.schedule_add(
        "daily", "@daily", "report", {"report": "clones", "mail_to": ["it@example.com"]}, zone="UTC"
    )
    clock.now = made.next_at or 0
    fleet.reach, fleet.poll_seconds = _unreachable, 0.05
    job = fleet.refresh(names=["pc000001.example.net"], wait=False)

    async def serve() -> None:
        stop = asyncio.Event()
        work = asyncio.create_task(Automation(fleet).serve(stop))
        async with asyncio.timeout(30):
            while not box.messages or fleet.job(job.id).finished == 0:  # noqa: ASYNC110 - rows have no event
                await asyncio.sleep(0.02)
        stop.set()
        await work

    asyncio.run(serve())
    assert fleet.job(job.id).counts == {"failed": 1}


@pytest.mark.parametrize(
    ("kind", "arguments", "error"),
    [
        ("format-c", {}, ScheduleKindError),
        ("report", {"mail_to": ["it@example.com"]}, ScheduleArgumentError),
        ("report", {"report": "overview"}, ScheduleArgumentError),
        ("report", {"report": "overview", "mail_to": ["it@example.com\nBcc: all@example.com"]}, MailAddressUnfitError),
        ("report", {"report": "compliance", "filter": "tag=x", "mail_to": ["a@b.example"]}, ScheduleArgumentError),
        ("report", {"report": "overview", "folder": "here"}, ScheduleArgumentError),
        ("refresh", {"mail_to": ["it@example.com"]}, ScheduleArgumentError),
        ("refresh", {"password": "x"}, ScheduleArgumentError),
    ],
)
def test_what_cannot_be_scheduled_is_refused_when_it_is_added(
    fleet: Fleet, kind: str, arguments: dict[str, Any], error: type[VolactError]
) -> None:
    with pytest.raises(error):
        fleet.schedule_add("x", "@daily", kind, arguments)
    assert not fleet.schedules()


def test_a_recipient_that_the_server_refuses_is_named(fleet: Fleet, box: Postbox) -> None:
    box.refuse = "550 nobody of that name"
    fleet.schedule_add("daily", "@daily", "report", CLONES)
    assert run_due(fleet, "daily") == [("daily", "mail-refused")]
    (after,) = fleet.schedules()
    assert after.last_error is not None
    assert "nobody of that name" in after.last_error


def test_a_mail_server_that_is_away_is_named(fleet: Fleet, pick_port: Callable[[], int]) -> None:
    fleet.set_mail(MailSettings("127.0.0.1", "volact@example.com", pick_port(), "none"))
    fleet.schedule_add("daily", "@daily", "report", CLONES)
    assert run_due(fleet, "daily") == [("daily", "mail-server-unreachable")]


@pytest.mark.needs("openssl")
def test_a_login_goes_over_tls_and_a_wrong_password_is_named(
    fleet: Fleet, tmp_path: Path, pick_port: Callable[[], int], make_certificate: Callable[[Path], tuple[Path, Path]]
) -> None:
    certificate, key = make_certificate(tmp_path)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate, key)
    fleet.mail_tls = ssl.create_default_context(cafile=str(certificate))
    password = tmp_path / "password"

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"fleet", b"right"), handled=False)

    port = pick_port()
    fleet.set_mail(MailSettings("localhost", "volact@example.com", port, "starttls", "fleet", str(password)))
    fleet.schedule_add("daily", "@daily", "report", CLONES)
    with mail_server(port, tls_context=server_side, require_starttls=True, authenticator=authenticate,
                     auth_required=True) as box:  # fmt: skip
        password.write_text("wrong\n")
        assert run_due(fleet, "daily") == [("daily", "mail-login-refused")]
        password.write_text("right\n")
        assert run_due(fleet, "daily") == [("daily", None)]
        assert len(box.messages) == 1
    assert "right" not in str(fleet.audit()) + str(fleet.schedules())


def test_a_login_in_clear_text_is_refused() -> None:
    with pytest.raises(MailSettingUnfitError, match="clear text"):
        MailSettings("mail.example.com", "volact@example.com", 25, "none", "fleet", "/run/password").check()


@pytest.fixture
def make_certificate() -> Callable[[Path], tuple[Path, Path]]:
    """A certificate of ``localhost`` that vouches for itself."""

    def make(folder: Path) -> tuple[Path, Path]:
        certificate, key = folder / "mail.pem", folder / "mail.key"
        made = LocalKey.generate().private
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key.write_bytes(pem)
        files: list[str | Path] = ["-key", key, "-out", certificate]
        words = ["openssl", "req", "-x509", *files, "-days", "2", "-subj", "/CN=localhost"]
        subprocess.run([*words, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
        return certificate, key

    return make


async def _mail_and_die(fleet: Fleet) -> None:
    """A run whose process ends after the mail was taken, and before that was written down."""
    automation = Automation(fleet, worker="dead:0:0:0")
    with fleet.store.write() as conn:
        taken = schedule.take(conn, automation.worker, fleet.clock())
    assert taken is not None
    await automation._report(taken)


def _unreachable() -> Any:
    class Reach:
        @asynccontextmanager
        async def session(self, target: Any) -> Any:
            raise MachineUnreachableError(machine=target.name, why="no route", address=target.name)
            yield

    @asynccontextmanager
    async def opened() -> Any:
        yield Reach()

    return opened()


BODIES = (
    {"report": "overview", "folder": 5}, {"report": "overview", "folder": ["/x"]}, {"report": "overview", "mail_to": 5},
    {"report": "overview", "mail_to": [5]}, {"report": ["x"], "mail_to": ["a@example.com"]},
    {"report": "overview", "mail_to": ["a@example.com"], "days": "x"},
    {"report": "overview", "mail_to": ["a@example.com"], "formats": 5},
    {"report": "overview", "mail_to": "a@example.com"}, {"report": "overview", "mail_to": ["a@x.y\r\nBcc: b@x.y"]},
)  # fmt: skip


@pytest.mark.parametrize("arguments", BODIES, ids=str)
def test_arguments_of_any_shape_are_taken_or_refused_by_name(fleet: Fleet, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        fleet.schedule_add("x", "@daily", "report", arguments)


@pytest.mark.parametrize(
    "arguments", [{"arguments": 5}, {"arguments": {"mak": 5}}, {"filter": 5}, {"all": "x"}], ids=str
)
def test_arguments_of_a_job_are_texts_and_flags(fleet: Fleet, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        fleet.schedule_add("x", "@daily", "activate", arguments)


def test_a_run_that_ends_by_a_fault_ends_no_other(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that nobody foresaw is that schedule's result."""
    fleet.schedule_add("broken", "@daily", "refresh", zone="UTC")

    def fault(*_args: object, **_how: object) -> int:
        raise ValueError("not foreseen")

    monkeypatch.setattr(type(fleet), "make_job", fault)
    ((_, error),) = asyncio.run(fleet.schedule_run("broken"))
    assert error is not None
    assert error.code == "schedule-fault"
    assert fleet.schedules()[0].last_result == "schedule-fault"
