# SPDX-License-Identifier: Apache-2.0
"""``volact fleet list, show, history, view, audit``: what the inventory knows, without asking any machine."""

import argparse
from collections.abc import Sequence
from typing import Any

from volact.cli.environment import Environment
from volact.cli.fleet.opening import open_fleet, show_list, tell, verb
from volact.cli.options import add_family, between
from volact.fleet.inventory.filters import FIELDS, UNITS
from volact.fleet.inventory.inventory import MOST_ROWS, Machine, Page
from volact.fleet.inventory.views import View

DAY = UNITS["d"]
_TIMES = {name for name, field in FIELDS.items() if field.kind == "time"}
# What a narrow terminal can do without, first what is missed least.
EXPENDABLE = (
    "threshold", "count", "edition", "action", "contacted", "host", "os", "volact", "address", "channel", "key",
    "reach", "products",
)  # fmt: skip
BETWEEN = 2  # columns of a terminal between two columns of a table without lines
MOST_DETAIL = 160  # characters of an audit row on a terminal
_FIELDS_HELP = "\n".join(f"  {name:<13} {field.about}" for name, field in FIELDS.items())


def build(group: Any) -> None:
    shown = verb(
        group,
        "list",
        run_list,
        "list products and machines, filtered, sorted, grouped",
        "volact fleet list --filter 'state=notification,grace not tag=lab' --sort expires",
        "volact fleet list --machines --filter 'result!=ok' --columns name,result,last-error",
        "volact fleet list --group product,state",
        "volact fleet list --view 'berlin, soon' --json --limit 100000",
    )
    shown.epilog = f"{shown.epilog}\n\nfields:\n{_FIELDS_HELP}"
    shown.takes_minus = ("--sort",)  # type: ignore[attr-defined]
    shown.add_argument("--machines", action="store_true", help="a row a machine, not a row a product")
    shown.add_argument("--filter", metavar="EXPR", help="what to show, see below")
    shown.add_argument("--sort", type=_names, metavar="COLUMNS", help="in this order; -COLUMN the other way")
    shown.add_argument("--columns", type=_names, metavar="COLUMNS", help="which columns; also tags, last-error")
    shown.add_argument("--group", type=_names, metavar="COLUMNS", help="how many there are of each; also tag")
    shown.add_argument("--view", metavar="NAME", help="as saved with `volact fleet view save`")
    shown.add_argument("--limit", type=between(1, MOST_ROWS), default=100, metavar="N", help="at most so many (100)")
    shown.add_argument("--offset", type=between(0, 10**9), default=0, metavar="N", help="without the first N")
    one = verb(group, "show", run_show, "show everything about one machine", "volact fleet show pc7.example.com")
    one.add_argument("machine", metavar="MACHINE")
    past = verb(
        group,
        "history",
        run_history,
        "show what changed on machines, the newest first",
        "volact fleet history --days 7 --filter 'product=acme-cad'",
    )
    past.add_argument("--days", type=between(1, 36_500), default=30, help="back to so many days (default: %(default)s)")
    past.add_argument("--filter", default="", metavar="EXPR", help="of machines that fit")
    past.add_argument("--limit", type=between(1, MOST_ROWS), default=200, metavar="N", help="at most so many (200)")
    trail = verb(group, "audit", run_audit, "show who did what", "volact fleet audit --who anna --limit 20")
    trail.add_argument("--who", metavar="NAME", help="by this person or token only")
    trail.add_argument("--before", type=between(0, 2**31 - 1), metavar="ID", help="rows before this one")
    trail.add_argument("--limit", type=between(1, MOST_ROWS), default=50, metavar="N", help="at most so many (50)")
    _views(group)


def _views(group: Any) -> None:
    family = add_family(group, "view", "keep lists by name")
    save = verb(
        family,
        "save",
        run_view_save,
        "keep a list's filter, order, columns and grouping under a name",
        "volact fleet view save soon --filter 'expires<+30d' --sort expires",
    )
    save.add_argument("name", metavar="NAME")
    save.takes_minus = ("--sort",)  # type: ignore[attr-defined]
    save.add_argument("--filter", default="", metavar="EXPR", help="which rows, as of `volact fleet list`")
    for name, what in (("--sort", "their order"), ("--columns", "what is shown of each"), ("--group", "counted by")):
        save.add_argument(name, type=_names, default=(), metavar="COLUMNS", help=f"{what}, by columns")
    verb(family, "list", run_view_list, "list the saved views", "volact fleet view list")
    gone = verb(family, "remove", run_view_remove, "forget a view", "volact fleet view remove soon")
    gone.add_argument("name", metavar="NAME")


def run_list(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        view = View("")
        if args.view:
            view = fleet.view(args.view)
        text = view.filter if args.filter is None else args.filter
        by = args.group if args.group is not None else view.grouping
        if by:
            return _show_groups(by, fleet.group(by, filter=text), env)
        chosen = {
            "filter": text,
            "sort": view.sort if args.sort is None else args.sort,
            "columns": view.columns if args.columns is None else args.columns,
            "limit": args.limit,
            "offset": args.offset,
        }
        page = fleet.list_machines(**chosen) if args.machines else fleet.list(**chosen)
    return _show_page(page, args.offset, env, chosen=bool(chosen["columns"]))


def run_show(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        machine = fleet.show(args.machine)
    if env.json:
        env.write_json(_machine_json(machine, env))
        return 0
    row = machine.row
    env.facts(
        [(name.replace("_", " "), _value(name, value, env)) for name, value in row.items() if name != "id"]
        + [("tags", " ".join(machine.tags) or None)],
        title=row["name"],
    )
    columns = ("product", "edition", "channel", "partial_key", "state", "expires_at", "last_host", "reason_text")
    _table(columns, machine.products, env, "Products")
    _table(("at", "product", "state", "channel", "partial_key", "reason"), machine.history, env, "History")
    _table(("job_id", "kind", "state", "ended_at", "error_text"), machine.tasks, env, "Jobs")
    return 0


def run_history(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        since = env.clock() - args.days * DAY
        rows = fleet.history(since=since, filter=args.filter, limit=args.limit)
    columns = ("at", "name", "product", "state", "channel", "partial_key", "reason", "expires_at")
    if env.json:
        env.write_json([{name: _json_value(name, row[name], env) for name in columns} for row in rows])
        return 0
    _table(columns, rows, env)
    return 0


def run_audit(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        rows = fleet.audit(args.limit, args.before, args.who)
    if env.json:
        names = ("id", "who", "act", "object", "detail", "result")
        env.write_json([{"at": env.json_time(r.at), **{name: getattr(r, name) for name in names}} for r in rows])
        return 0
    cells = [(r.id, env.show_time(r.at), r.who, r.act, r.object, _detail(r.detail, env), r.result) for r in rows]
    env.table(("id", "time", "who", "act", "object", "detail", "result"), cells)
    return 0


def run_view_save(args: argparse.Namespace, env: Environment) -> int:
    chosen = {"filter": args.filter, "sort": args.sort, "columns": args.columns, "grouping": args.group}
    with open_fleet(args, env) as fleet:
        saved = fleet.view_save(args.name, **chosen)
    return tell(env, saved.to_json(), f"saved the view {saved.name}")


def run_view_list(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        found = fleet.views()
    columns = ("name", "filter", "sort", "columns", "group", "owner")
    return show_list(env, found, columns, _view_row)


def run_view_remove(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        fleet.view_remove(args.name)
    return tell(env, {"removed": args.name}, f"forgot the view {args.name}")


def _view_row(one: View) -> Sequence[object]:
    return one.name, one.filter, ",".join(one.sort), ",".join(one.columns), ",".join(one.grouping), one.owner


def _show_page(page: Page, offset: int, env: Environment, *, chosen: bool) -> int:
    """``chosen``: the columns were asked for, so none is left out."""
    if env.json:
        rows = [
            {
                name.replace("-", "_"): _json_value(name, value, env)
                for name, value in zip(page.columns, row, strict=True)
            }
            for row in page.rows
        ]
        env.write_json({"total": page.total, "rows": rows})
        return 0
    cells = [[_cell(name, value, env) for name, value in zip(page.columns, row, strict=True)] for row in page.rows]
    kept = range(len(page.columns)) if chosen else _fitting(page.columns, cells, env.width)
    if cells or not env.terminal:
        env.table([page.columns[place] for place in kept], [[row[place] for place in kept] for row in cells])
    if not page.rows:
        env.say("no more rows" if page.total else "nothing here fits")
    left = page.total - offset - len(page.rows)
    if left > 0:
        env.hint(f"{left} more: --offset {offset + len(page.rows)}, or a larger --limit")
    without = [name for place, name in enumerate(page.columns) if place not in kept and any(r[place] for r in cells)]
    if without:
        env.hint(f"no room for {', '.join(without)}: a wider window, or choose with --columns")
    return 0


def _cell(name: str, value: Any, env: Environment) -> str:
    if _is_time(name) and value is not None and env.terminal:
        return env.show_minute(value)
    shown = _value(name, value, env)
    return "" if shown is None else str(shown)


def _fitting(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Which columns a terminal has room for: those that hold something, as long as they fit."""
    kept = list(range(len(columns)))
    if width is None or not rows:
        return kept
    kept = [place for place in kept if place == 0 or any(row[place] for row in rows)]
    widths = [max(map(len, cells)) + BETWEEN for cells in zip(columns, *rows, strict=True)]
    for name in EXPENDABLE:
        if sum(widths[place] for place in kept) <= width:
            break
        kept = [place for place in kept if columns[place] != name]
    return kept


def _show_groups(by: Sequence[str], groups: Sequence[Any], env: Environment) -> int:
    if env.json:
        names = [name.replace("-", "_") for name in by]
        env.write_json(
            [
                dict(zip(names, g.values, strict=True))
                | {"machines": g.machines, "products": g.products, "licensed": g.licensed}
                for g in groups
            ]
        )
        return 0
    rows = [(*g.values, g.machines, g.products, g.licensed) for g in groups]
    env.table((*by, "machines", "products", "licensed"), rows)
    return 0


def _machine_json(machine: Machine, env: Environment) -> dict[str, Any]:
    def rows(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: _json_value(name, value, env) for name, value in row.items()} for row in found]

    return {
        **rows([machine.row])[0],
        "tags": machine.tags,
        "products": rows(machine.products),
        "history": rows(machine.history),
        "jobs": rows(machine.tasks),
    }


def _table(columns: Sequence[str], rows: Sequence[Any], env: Environment, title: str = "") -> None:
    cells = [[_value(name, row[name], env) for name in columns] for row in rows]
    env.table([name.replace("_", " ").removesuffix(" at") for name in columns], cells, title=title)


def _is_time(name: str) -> bool:
    return name in _TIMES or name == "at" or name.endswith("_at")


def _value(name: str, value: Any, env: Environment) -> Any:
    if value is None:
        return None
    if _is_time(name):
        return env.show_time(value)
    return value.hex() if isinstance(value, bytes) else value


def _json_value(name: str, value: Any, env: Environment) -> Any:
    if _is_time(name):
        return env.json_time(value)
    return value.hex() if isinstance(value, bytes) else value


def _detail(detail: Any, env: Environment) -> str:
    """A pipe and --json get all of it."""
    text = env.show_fields(detail)
    return text if not env.terminal or len(text) <= MOST_DETAIL else text[: MOST_DETAIL - 1] + "…"


def _names(text: str) -> tuple[str, ...]:
    """The type of an option that is a list of columns."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))
