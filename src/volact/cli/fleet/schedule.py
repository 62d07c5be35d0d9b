# SPDX-License-Identifier: Apache-2.0
"""``volact fleet schedule`` and ``set-mail``: what runs by itself, and where reports are mailed through."""

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.cli.fleet.opening import open_fleet, show_list, tell, verb
from volact.cli.options import add_family, add_verb, between
from volact.fleet.reports.catalogue import REPORTS
from volact.fleet.reports.render import FORMATS
from volact.fleet.schedules.kinds import JOB_KINDS, KINDS, REPORT, ScheduleArgumentError
from volact.fleet.schedules.mail import SECURITIES, MailSettings
from volact.fleet.schedules.schedule import Schedule


def build(verbs: Any) -> None:
    family = add_family(
        verbs, "schedule", "what runs by itself, in `serve` or by `run-due`: refresh, reports by mail, jobs"
    )
    _build_add(family)
    add_verb(family, "list", "list the schedules", _list, examples=("volact fleet schedule list",))
    for word, help_text, run in (
        ("remove", "end a schedule", _remove),
        ("enable", "let it run again, from its next time on", _enable),
        ("disable", "let it wait until it is enabled", _enable),
        ("run", "run it now, whatever its time", _run),
    ):
        parser = verb(family, word, run, help_text, f"volact fleet schedule {word} nightly", secret=word == "run")
        parser.add_argument("name", metavar="NAME")
        parser.set_defaults(word=word)
    example = "*/5 * * * * volact fleet schedule run-due         in a crontab, in place of `volact fleet serve`"
    parser = verb(family, "run-due", _run, "run everything that is due, then end", example, secret=True)
    parser.set_defaults(name=None)
    _build_mail(verbs)


def _build_add(family: Any) -> None:
    parser = add_verb(
        family,
        "add",
        "run something at cron's times",
        _add,
        examples=(
            'volact fleet schedule add nightly --cron "0 2 * * *" refresh',
            'volact fleet schedule add pools --cron "30 2 * * *" keys-refresh',
            'volact fleet schedule add monday --cron "0 7 * * mon" report overview --mail-to it@example.com',
            "volact fleet schedule add laptops --cron @daily activate --filter 'tag=laptops and not state=licensed'",
        ),
    )
    parser.add_argument("name", metavar="NAME", help="one word")
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    parser.add_argument("report", metavar="REPORT", nargs="?", help=f"with report: {', '.join(REPORTS)}")
    parser.add_argument("--cron", required=True, metavar="TIMES", help="minute hour day month weekday, or @daily …")
    parser.add_argument("--time-zone", metavar="ZONE", help="of these times (default: this computer's)")
    parser.add_argument("--filter", default="", metavar="FILTER", help="only these machines, as in `volact fleet list`")
    parser.add_argument("--all", action="store_true", help="every machine, for what changes something on machines")
    parser.add_argument("--days", type=between(1, 3650), metavar="N", help="report expiring: so soon")
    parser.add_argument("--since-days", type=between(1, 3650), metavar="N", help="report changes: the last N days")
    parser.add_argument("--format", action="append", choices=tuple(FORMATS), help="of the report's files (html, pdf)")
    parser.add_argument("--mail-to", action="append", metavar="ADDRESS", help="mail the report; can be given again")
    parser.add_argument("--folder", metavar="DIR", help="write the report's files there")
    options = f"an option of {', '.join(JOB_KINDS)}"
    parser.add_argument("--set", action="append", default=[], type=_pair, metavar="NAME=VALUE", help=options)


def _build_mail(verbs: Any) -> None:
    parser = add_verb(
        verbs,
        "set-mail",
        "set the server that reports are mailed through",
        _set_mail,
        examples=(
            "volact fleet set-mail --server mail.example.com --from volact@example.com",
            "volact fleet set-mail --server smtp.example.com --security tls --from fleet@example.com --user fleet "
            "--mail-password-file /etc/volact/mail",
        ),
    )
    parser.add_argument("--server", required=True, metavar="HOST", help="the mail server")
    parser.add_argument(
        "--port", type=between(1, 65535), default=0, metavar="N", help="default: as the security has it"
    )
    parser.add_argument("--security", choices=tuple(SECURITIES), default="starttls", help="default: %(default)s")
    parser.add_argument("--from", dest="sender", required=True, metavar="ADDRESS", help="whom the mails are from")
    parser.add_argument("--user", default="", help="where the server wants a login")
    parser.add_argument("--mail-password-file", default="", metavar="FILE", help="first line: the login's password")


def _add(args: argparse.Namespace, env: Environment) -> int:
    if args.kind != REPORT and args.report is not None:
        raise ScheduleArgumentError(name=args.report, expected=f"possible after {args.kind}")
    arguments: dict[str, Any] = {
        "report": args.report,
        "filter": args.filter,
        "all": args.all,
        "days": args.days,
        "since_days": args.since_days,
        "formats": args.format,
        "mail_to": args.mail_to,
        "folder": os.path.abspath(args.folder) if args.folder else None,  # noqa: PTH100 - links stay as they are
        "arguments": dict(args.set),
    }
    with open_fleet(args, env) as fleet:
        made = fleet.schedule_add(args.name, args.cron, args.kind, arguments, zone=args.time_zone)
    return tell(env, made.to_json(), f"{made.name} runs next at {env.show_time(made.next_at)}")


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        found = fleet.schedules()
    columns = ("schedule", "cron", "zone", "what", "next", "last", "result")
    return show_list(env, found, columns, lambda one: _row(one, env))


def _remove(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        fleet.schedule_remove(args.name)
    return tell(env, {"removed": args.name}, f"removed {args.name}")


def _enable(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        made = fleet.schedule_enable(args.name, enabled=args.word == "enable")
    return tell(env, made.to_json(), f"{made.name} is {args.word}d")


def _run(args: argparse.Namespace, env: Environment) -> int:
    """One that fails is told and does not keep the others; then the code is 1."""
    with open_fleet(args, env) as fleet:
        done = asyncio.run(fleet.schedule_run(args.name))
    for one, error in done:
        if error is not None:
            env.say(f"{one.name} failed: {error}")
            env.hint(error.hint)
        else:
            env.say(f"{one.name} ran well")
    if args.json:
        env.write_json([{"name": one.name, "error": error.to_dict() if error else None} for one, error in done])
    elif not done:
        env.say("nothing is due")
    return 1 if any(error for _, error in done) else 0


def _set_mail(args: argparse.Namespace, env: Environment) -> int:
    password = str(Path(args.mail_password_file).absolute()) if args.mail_password_file else ""
    settings = MailSettings(args.server, args.sender, args.port, args.security, args.user, password).check()
    with open_fleet(args, env) as fleet:
        fleet.set_mail(settings)
    host, port = settings.address
    shown = {"server": host, "port": port, "security": settings.security, "from": settings.sender}
    return tell(env, shown, f"reports are mailed through {settings.server}")


def _row(one: Schedule, env: Environment) -> Sequence[object]:
    return (
        one.name,
        one.times.expression,
        one.times.zone,
        " ".join(filter(None, (one.kind, one.arguments.get("report")))),
        env.show_time(one.next_at) if one.enabled else "disabled",
        env.show_time(one.last_at),
        one.last_error or one.last_result,
    )


def _pair(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    words = {"true": True, "false": False}
    return name.replace("-", "_"), words.get(value.lower(), value)
