# SPDX-License-Identifier: Apache-2.0
"""``volact publisher activations`` and ``ledger``: what was done, and that nobody changed the record of it."""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO

from volact.cli.environment import Environment
from volact.cli.publisher.shared import Verbs, add_family, add_verb, open_publisher
from volact.cli.publisher.streams import new_file, open_file
from volact.core.encoding import MAX_INT
from volact.publisher.administration.publisher import Publisher
from volact.publisher.rows.ledger import Comparison, Row, read_export
from volact.publisher.rules.issuing import IssuedKey
from volact.publisher.rules.pools import Activation
from volact.publisher.store import PublisherStore

MAX_LINE = 1024**2  # of an export; rows are hundreds of bytes
MAX_RECEIPT = 1024**2
BAR_ROWS = 1000  # between two steps of the bar


def build(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "activations",
        _activations,
        "list the hosts and machines that were activated",
        """
volact publisher activations
volact publisher activations --key 33GJK --json""",
    )
    parser.add_argument("--key", metavar="KEY", help="only those of one key, by the key, its end or its ID")
    family = add_family(verbs, "ledger", "the record of every act, each row chained to the one before")
    add_verb(family, "list", _list, "list every act", "volact publisher ledger list --json")
    parser = add_verb(
        family,
        "verify",
        _verify,
        "find rows that were changed, removed or put in",
        """
volact publisher ledger verify
volact publisher ledger verify --against last-month.jsonl
volact publisher ledger verify --against acme-cad.vollicence""",
    )
    parser.add_argument(
        "--against",
        metavar="FILE",
        help="an earlier export, or a licence that the publisher issued: the ledger's beginning as it was then",
    )
    parser = add_verb(
        family,
        "export",
        _export,
        "write the ledger, one JSON object a line; keep it elsewhere, for `verify --against`",
        """
volact publisher ledger export -o ledger.jsonl
volact publisher ledger export --from 4712 -o since-then.jsonl""",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: stdout)")
    parser.add_argument(
        "--from", dest="first", type=_row, default=1, metavar="ROW",
        help="from this row on: one more than the last one of an earlier export (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--to", dest="last", type=_row, metavar="ROW", help="up to this row (default: all)")


def _activations(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        key_id = publisher.find_key(args.key).key_id if args.key else None
        acts = publisher.store.host_activations(key_id)
        machines = publisher.store.activations(key_id)
        issued = publisher.store.keys()
    keys = {key.key_id: key for key in issued}
    if args.json:
        shown: list[dict[str, Any]] = [
            {
                "at": env.json_time(act.at),
                "kind": str(act.kind),
                "machine": act.machine.hex(),
                "name": act.name,
                "product": act.product,
                "key_id": act.key_id,
                "partial": act.partial,
                "organisation": act.organisation,
                "serial": act.serial,
                "ends_at": env.json_time(act.ends_at),
            }
            for act in acts
        ]
        shown += [_machine_json(one, keys[one.key_id], env) for one in machines]
        env.write_json(sorted(shown, key=lambda row: row["at"]))
        return 0
    rows = [
        (env.show_time(a.at), a.kind, a.name, a.machine.hex()[:16], a.partial, a.organisation, env.show_time(a.ends_at))
        for a in acts
    ]
    env.table(("time", "act", "host", "machine ID", "key", "organisation", "certificate ends"), rows, "Hosts")
    held = [
        (
            env.show_time(one.first_at), _machine_kind(one), one.name, one.machine.hex()[:16],
            keys[one.key_id].partial, keys[one.key_id].organisation, env.show_time(one.returned_at),
        )
        for one in machines
    ]  # fmt: skip
    env.table(("time", "act", "machine", "machine ID", "key", "organisation", "given back"), held, "Machines")
    return 0


def _machine_json(one: Activation, key: IssuedKey, env: Environment) -> dict[str, Any]:
    return {
        "at": env.json_time(one.first_at),
        "kind": _machine_kind(one),
        "machine": one.machine.hex(),
        "name": one.name,
        "product": one.product,
        "key_id": one.key_id,
        "partial": key.partial,
        "organisation": key.organisation,
        "serial": None,
        "ends_at": None,
    }


def _machine_kind(one: Activation) -> str:
    return "activated" if one.returned_at is None else "returned"


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        rows = publisher.store.ledger()
    if args.json:
        env.write_json([_as_json(row, env) for row in rows])
        return 0
    shown = [(row.seq, env.show_time(row.at), row.act, row.actor, _told(row, env)) for row in rows]
    env.table(("row", "time", "act", "by", "what"), shown)
    return 0


def _verify(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher, _comparison(args.against, publisher) as comparison:
        last = _check(publisher.store, env, comparison.see)
        comparison.finish()
    rows, head, compared = (last.seq if last else 0), (last.hash if last else None), comparison.compared
    if args.json:
        env.write_json({"rows": rows, "head": head, "compared": compared})
        return 0
    told = [("Compared", f"{compared} rows, all the same")] if compared else []
    env.facts((("Rows", f"{rows}, all whole"), ("Head", head), *told))
    return 0


@contextmanager
def _comparison(path: str | None, publisher: Publisher) -> Iterator[Comparison]:
    """With an export, read line by line; or with a receipt, which begins as no line of JSON does."""
    if path is None:
        yield Comparison.with_export(())
        return
    with open_file(path) as file:
        begin = file.read(1)
        if begin in (b"", b"{"):
            yield Comparison.with_export(read_export(_lines(begin, file)))
        else:
            yield Comparison.with_checkpoints([publisher.read_checkpoint(begin + file.read(MAX_RECEIPT))])


def _lines(begin: bytes, file: BinaryIO) -> Iterator[bytes]:
    while line := begin + file.readline(MAX_LINE):
        yield line
        begin = b""


def _check(store: PublisherStore, env: Environment, see: Callable[[Row], None] = lambda _: None) -> Row | None:
    """Verifies the ledger, with a progress bar."""
    end = store.last_row()
    with env.progress("verifying rows", end.seq if end else 0) as done:

        def seen(row: Row) -> None:
            see(row)
            if row.seq % BAR_ROWS == 0:
                done(row.seq)

        return store.check_ledger(seen)


def _export(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        end = _check(publisher.store, env)
        first, last = args.first, min(args.last or MAX_INT, end.seq if end else 0)
        if args.output:
            with new_file(args.output) as file:
                write = partial(_write_line, file)
                written, head = _write(publisher.store, first, last, env, write)
        else:
            written, head = _write(publisher.store, first, last, env, env.write)
    if args.output:
        env.say(f"wrote {written} rows to {args.output}")
        if args.json:
            env.write_json({"rows": written, "head": head, "output": args.output})
    return 0


def _write(
    store: PublisherStore, first: int, last: int, env: Environment, write: Callable[[str], object]
) -> tuple[int, str | None]:
    """Rows of a ledger that was verified: how many there were, and the hash of the last."""
    written, head = 0, None
    with env.progress("writing rows", max(0, last - first + 1)) as done:
        for written, row in enumerate(store.ledger_rows(first, last), 1):
            write(row.to_line())
            head = row.hash
            if written % BAR_ROWS == 0:
                done(written)
    return written, head


def _write_line(file: BinaryIO, line: str) -> None:
    file.write(f"{line}\n".encode())


def _row(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_INT:
        raise argparse.ArgumentTypeError(f"{text} is not the number of a row")
    return int(text)


def _as_json(row: Row, env: Environment) -> dict[str, Any]:
    return {**row.to_dict(), "at": env.json_time(row.at), "data": _data(row)}


def _told(row: Row, env: Environment) -> str:
    data = _data(row)
    return env.show_fields(data) if isinstance(data, dict) else row.data


def _data(row: Row) -> Any:
    """A row that was tampered with is still listed: `verify` is what refuses it."""
    try:
        return json.loads(row.data)
    except ValueError:
        return row.data
