# SPDX-License-Identifier: Apache-2.0
"""``volact fleet report`` and ``agreements``: what the inventory says, on the terminal and as files."""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.cli.files import read_file, write_file
from volact.cli.fleet.opening import open_fleet, show_list, tell
from volact.cli.options import add_family, add_verb, between
from volact.core.errors import InputError
from volact.fleet.keys import agreements, office
from volact.fleet.keys.agreements import Bought
from volact.fleet.reports.asked import DEFAULT_DAYS
from volact.fleet.reports.catalogue import REPORTS, ReportKind
from volact.fleet.reports.data import as_dict
from volact.fleet.reports.render import FORMATS, FontNotHeededError, find_format, format_of_file
from volact.fleet.reports.report import BarChart, Report, show

MOST_DAYS = 3650
MOST_SHOWN = 200  # rows on a terminal; a pipe gets them all
BAR = 40  # characters of the longest


class ReportArgumentError(InputError):
    code = "report-argument-unfit"
    fmt = "the report {report} does not heed {option}"
    remedy = "leave it out; `volact fleet report` lists what each heeds"


def build(verbs: Any) -> None:
    parser = add_verb(
        verbs,
        "report",
        "a report of the fleet: on the terminal, or as JSON, CSV, XLSX, HTML or PDF",
        _report,
        examples=(
            "volact fleet report                               # which there are",
            "volact fleet report overview",
            "volact fleet report expiring --days 60 --filter 'tag=berlin'",
            "volact fleet report consumption -o mak.pdf        # the format by the file's ending",
            "volact fleet report changes --since 2026-11-01 --format csv > changes.csv",
        ),
    )
    parser.add_argument("name", nargs="?", metavar="REPORT", help=", ".join(REPORTS))
    parser.add_argument("--filter", default="", metavar="FILTER", help="only these machines, as in `volact fleet list`")
    parser.add_argument("--days", type=between(1, MOST_DAYS), metavar="N", help=f"expiring: so soon ({DEFAULT_DAYS})")
    parser.add_argument("--since", type=day, metavar="DATE", help="changes, hosts, consumption: from that day on")
    parser.add_argument("--format", choices=tuple(FORMATS), help="another format than the terminal's table")
    parser.add_argument("-o", "--output", metavar="FILE", help="write a file, in the format of its ending")
    font = "PDF: a font for letters that its own lacks, before this computer's; can be given again"
    parser.add_argument("--font", action="append", default=[], metavar="FILE", help=font)
    _build_agreements(verbs)


def _build_agreements(verbs: Any) -> None:
    family = add_family(verbs, "agreements", "what was bought, for the report `compliance`")
    parser = add_verb(
        family,
        "import",
        "take agreements from a file, over those of the same names",
        _agreements_import,
        examples=(
            "volact fleet agreements import bought.csv    # agreement,group,quantity,product,publisher,starts,ends",
            "volact publisher agreement list --json | volact fleet agreements import -",
        ),
    )
    parser.add_argument("file", metavar="FILE", help="CSV or JSON; - is the standard input")
    parser = add_verb(
        family,
        "fetch",
        "take agreements from the publisher's HTTP API, over those of the same names",
        _agreements_fetch,
        examples=(
            "volact fleet agreements fetch --publisher https://api.acme.example --token-file /etc/volact/acme-token",
        ),
    )
    parser.add_argument("--publisher", required=True, metavar="URL", help="where the publisher's API is")
    needs = "first line: a token of your organisation with the scope agreements:read"
    parser.add_argument("--token-file", required=True, metavar="FILE", help=needs)
    parser.add_argument(
        "--ca-file", metavar="FILE", help="the authority of its certificate (PEM), where it is your own"
    )
    add_verb(family, "list", "list the agreements", _agreements_list, examples=("volact fleet agreements list",))
    parser = add_verb(
        family,
        "remove",
        "forget an agreement",
        _agreements_remove,
        examples=("volact fleet agreements remove EA-2025",),
    )
    parser.add_argument("name", metavar="NAME")


def day(text: str) -> int:
    """The first second of a day that was given as YYYY-MM-DD, UTC."""
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a date as 2027-12-31") from None


def _report(args: argparse.Namespace, env: Environment) -> int:
    if args.name is None:
        return _list(env)
    with open_fleet(args, env) as fleet:
        _check(args, REPORTS.get(args.name))
        report = fleet.report(args.name, filter=args.filter, days=args.days or DEFAULT_DAYS, since=args.since or 0)
    fonts = tuple(Path(one) for one in args.font)
    if args.output:
        kind = find_format(args.format) if args.format else format_of_file(args.output)
        write_file(args.output, kind.render(report, fonts))
        env.say(f"wrote {args.output}")
        if args.json:
            env.write_json({"report": report.name, "output": args.output, "format": kind.name})
    elif args.format and args.format != "json":
        _write_bytes(find_format(args.format).render(report, fonts), env)
    elif fonts:
        raise FontNotHeededError(format="a table")
    elif args.json or args.format == "json":
        env.write_json(as_dict(report))
    else:
        _show(report, env)
    return 0


def _check(args: argparse.Namespace, kind: ReportKind | None) -> None:
    given = {"machines": bool(args.filter), "days": args.days is not None, "since": args.since is not None}
    for word, option in (("machines", "--filter"), ("days", "--days"), ("since", "--since")):
        if kind is not None and given[word] and word not in kind.takes:
            raise ReportArgumentError(report=kind.name, option=option)


def _list(env: Environment) -> int:
    if env.json:
        env.write_json([{"name": one.name, "about": one.about, "takes": sorted(one.takes)} for one in REPORTS.values()])
        return 0
    options = {"machines": "--filter", "days": "--days", "since": "--since"}
    rows = [(one.name, one.about, " ".join(options[word] for word in sorted(one.takes))) for one in REPORTS.values()]
    env.table(("report", "what it tells", "heeds"), rows)
    return 0


def _show(report: Report, env: Environment) -> None:
    env.facts([(figure.label, figure.value) for figure in report.figures], report.title)
    if report.summary:
        env.write("")
    for sentence in report.summary:
        env.write(sentence)
    for chart in report.charts:
        if isinstance(chart, BarChart) and env.terminal:
            _bars(chart, env)
    shown = report.rows[:MOST_SHOWN] if env.terminal else report.rows
    rows = [[show(column.kind, value) for column, value in zip(report.columns, row, strict=True)] for row in shown]
    if not rows:
        env.say(report.empty[0].lower() + report.empty[1:].rstrip("."))
        return
    env.table([_heading(column.title) for column in report.columns], rows, report.table_title or report.title)
    if len(shown) < len(report.rows):
        env.say(f"{len(report.rows) - len(shown):,} further rows: write a file with -o report.xlsx, or use a pipe")


def _heading(title: str) -> str:
    """As the headings of all tables on a terminal are: small, but for names such as KMS or ID."""
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _bars(chart: BarChart, env: Environment) -> None:
    """Bars of letters; the series of one bar are told apart by shade."""
    totals = [sum(one.values[place] for one in chart.series) for place in range(len(chart.categories))]
    most = max(totals, default=0) or 1
    width = max((len(name) for name in chart.categories), default=0)
    shades = "█▓▒░▞"
    rows = []
    for place, name in enumerate(chart.categories):
        bar = "".join(
            shades[number % len(shades)] * round(one.values[place] / most * BAR)
            for number, one in enumerate(chart.series)
        )
        rows.append(f"{name:<{width}}  {bar} {totals[place]:,.0f}")
    legend = "   ".join(f"{shades[n % len(shades)]} {one.name}" for n, one in enumerate(chart.series))
    env.write("")
    env.write(chart.title + (f"      {legend}" if len(chart.series) > 1 else ""))
    for row in rows:
        env.write(row)


def _write_bytes(data: bytes, env: Environment) -> None:
    """Files are not text: past the stream's encoding, where the stream has such an end."""
    env.stdout.flush()
    raw = getattr(env.stdout, "buffer", None)
    if raw is not None:
        raw.write(data)
        raw.flush()
    else:
        env.stdout.write(data.decode("utf-8", "replace"))


def _agreements_import(args: argparse.Namespace, env: Environment) -> int:
    if args.file == "-":
        raw = getattr(env.stdin, "buffer", None)
        data = raw.read(agreements.MOST_BYTES + 1) if raw is not None else env.stdin.read().encode()
    else:
        data = read_file(args.file, agreements.MOST_BYTES)
    with open_fleet(args, env) as fleet:
        found = fleet.agreements_import(data, "standard input" if args.file == "-" else args.file)
    return _taken(env, found)


def _agreements_fetch(args: argparse.Namespace, env: Environment) -> int:
    token = office.read_token(Path(args.token_file))
    with open_fleet(args, env) as fleet:
        authorities = Path(args.ca_file) if args.ca_file else None
        found = fleet.agreements_fetch(args.publisher, token, ca_file=authorities)
    return _taken(env, found)


def _taken(env: Environment, found: Sequence[Bought]) -> int:
    names, licences = {one.name for one in found}, sum(one.quantity for one in found)
    said = f"took {len(names)} agreement{'s' if len(names) != 1 else ''} with {licences:,} licences"
    return tell(env, [one.to_json() for one in found], said)


def _agreements_list(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        found = fleet.agreements()
    columns = ("agreement", "group", "product", "licences", "publisher", "starts", "ends")
    return show_list(env, found, columns, lambda one: _row(one, env))


def _agreements_remove(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        fleet.agreements_remove(args.name)
    return tell(env, {"removed": args.name}, f"forgot agreement {args.name}")


def _row(one: Bought, env: Environment) -> Sequence[object]:
    dates = map(env.show_time, one.dates)
    return (one.name, one.product_group, one.product, one.quantity, one.publisher, *dates)
