# SPDX-License-Identifier: Apache-2.0
"""``volact publisher activations`` and ``ledger``: what was done, and that nobody changed the record of it."""

import argparse
import json
from typing import Any

from volact.cli.environment import Environment
from volact.cli.files import read_file, write_file
from volact.cli.publisher.shared import Verbs, add_family, add_verb, open_publisher
from volact.publisher.issuing import IssuedKey
from volact.publisher.ledger import Row, check_against, check_checkpoint, read_export
from volact.publisher.pools import Activation

MAX_EXPORT = 1024**3


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
        "volact publisher ledger export -o ledger.jsonl",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: stdout)")


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
    data = read_file(args.against, MAX_EXPORT) if args.against else b""
    with open_publisher(args, env) as publisher:
        checkpoint = publisher.read_checkpoint(data) if _is_token(data) else None
        exported = read_export(data) if checkpoint is None else {checkpoint.size: checkpoint.head}
        rows = publisher.store.check_ledger()
    if checkpoint is not None:
        check_checkpoint(rows, checkpoint)
    check_against(rows, exported)
    head = rows[-1].hash if rows else None
    if args.json:
        env.write_json({"rows": len(rows), "head": head, "compared": len(exported)})
        return 0
    env.facts((("Rows", f"{len(rows)}, all whole"), ("Head", head), *_compared(exported)))
    return 0


def _is_token(data: bytes) -> bool:
    """A signed receipt, and not an export, which is JSON."""
    return data[:1] not in (b"{", b"") and data.count(b".") == 2


def _export(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        rows = publisher.store.check_ledger()
    lines = [row.to_line() for row in rows]
    if args.output:
        write_file(args.output, "".join(f"{line}\n" for line in lines).encode())
        env.say(f"wrote {len(lines)} rows to {args.output}")
        if args.json:
            env.write_json({"rows": len(rows), "head": rows[-1].hash if rows else None, "output": args.output})
        return 0
    for line in lines:
        env.write(line)
    return 0


def _compared(exported: dict[int, str]) -> tuple[tuple[str, object], ...]:
    return (("Compared", f"{len(exported)} rows, all the same"),) if exported else ()


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
