# SPDX-License-Identifier: Apache-2.0
"""``volact fleet proxy …``, ``export``, ``import`` and ``bundle …``: activation for machines that reach nobody, and the
files that are carried.  ``proxy confirm`` and ``bundle show`` need no fleet folder."""

import argparse
import os
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment, counted
from volact.cli.files import read_file, write_file
from volact.cli.fleet.opening import add_machines, chosen, folder_of, open_fleet, run_job, verb
from volact.cli.options import add_family
from volact.core.errors import InputError
from volact.core.exchange import MAX_FILE, RequestFile
from volact.fleet.activation import confirmations
from volact.fleet.activation.confirmations import Confirmation
from volact.fleet.exchange import bundle, transfer
from volact.fleet.exchange.transfer import Imported
from volact.fleet.folder import FILE as FLEET_FILE
from volact.fleet.keys import publisher
from volact.fleet.keys.publisher import KnownDefinition
from volact.sealing import keys
from volact.sealing.keys import LocalKey

MOST_CONFLICTS_SHOWN = 50
PRIVATE = 0o600


class ExportPassphraseError(InputError):
    code = "fleet-export-passphrase"
    fmt = "keys leave only under a passphrase of the file's own"
    remedy = "give one with --bundle-passphrase-file, or leave the keys here: --without-keys"


def build(group: Any) -> None:
    about = "activate machines that reach no publisher: collect, confirm, apply; backups of activations"
    inner = add_family(group, "proxy", about)
    _proxy_verbs(inner)
    _backup_verbs(inner)
    _add_export(group, "volact fleet")
    _add_import(group, "volact fleet")
    files = add_family(group, "bundle", "what is carried between two fleets: show, export, import")
    show = verb(
        files, "show", run_show, "say what a bundle is and who signed it", "volact fleet bundle show lab.volbundle"
    )
    show.add_argument("file", metavar="FILE")
    verb(files, "signer", run_signer, "show the fingerprint that this fleet signs with", "volact fleet bundle signer")
    _add_export(files, "volact fleet bundle")
    _add_import(files, "volact fleet bundle")


def _proxy_verbs(inner: Any) -> None:
    collect = verb(
        inner,
        "collect",
        run_collect,
        "collect the requests of machines with a MAK or retail key",
        "volact fleet proxy collect --filter 'tag=lab'",
    )
    collect.add_argument("--product", metavar="PRODUCT", help="this product only")
    collect.add_argument("--force", action="store_true", help="also of what is licensed already")
    add_machines(collect, "every machine")

    confirm = verb(
        inner,
        "confirm",
        run_confirm,
        "have requests answered by their publishers; needs no fleet, only the publisher",
        "volact fleet proxy confirm lab.volbundle -o answers.volbundle",
        "volact fleet proxy confirm forest.volreq -o forest.volans     # a directory's or a host's request file",
    )
    confirm.add_argument("file", metavar="FILE", help="a bundle of requests, or one request file")
    confirm.add_argument("-o", "--output", metavar="FILE", required=True, help="where the answers go")
    confirm.add_argument("--publisher", metavar="URL", help="the publisher's service (default: as the requests say)")

    apply = verb(
        inner,
        "apply",
        run_apply,
        "bring imported answers to their machines",
        "volact fleet proxy apply",
        secret=True,
    )
    apply.add_argument("--keep", action="store_true", help="let machines seal a backup to the vault afterwards")
    add_machines(apply, "those whose answers wait")

    listed = verb(inner, "list", run_list, "list requests and what became of them", "volact fleet proxy list ws1")
    listed.add_argument("machine", metavar="MACHINE", nargs="?", help="of this machine only")
    listed.add_argument("--waiting", action="store_true", help="only those that wait for an answer")


def _backup_verbs(inner: Any) -> None:
    keep = verb(
        inner,
        "backup",
        run_backup,
        "let machines seal their identity and perpetual licences to the vault",
        "volact fleet proxy backup --filter 'channel=mak'",
        secret=True,
    )
    add_machines(keep, "every machine")
    back = verb(
        inner,
        "restore",
        run_restore,
        "license reimaged machines again from their backups, without asking the publisher",
        "volact fleet proxy restore ws1 ws2",
        secret=True,
    )
    add_machines(back)


def _add_export(group: Any, said: str) -> None:
    export = verb(
        group,
        "export",
        run_export,
        "write a bundle: by default the waiting requests, without keys and names",
        f"{said} export -o lab.volbundle",
        f"{said} export --without-keys -o inventory.volbundle",
        f"{said} export --everything --bundle-passphrase-file p.txt -o all.volbundle",
        secret=True,
    )
    export.add_argument("-o", "--output", metavar="FILE", required=True, help="the bundle to write")
    what = export.add_mutually_exclusive_group()
    what.add_argument("--proxy-only", action="store_true", help="waiting requests under random references (default)")
    what.add_argument("--without-keys", action="store_true", help="the inventory, without keys")
    what.add_argument("--everything", action="store_true", help="the inventory, with keys and backups, encrypted")
    export.add_argument("--bundle-passphrase-file", metavar="FILE", help="first line: what encrypts the keys in it")
    export.add_argument("--machine", action="append", metavar="NAME", help="requests of these machines only")


def _add_import(group: Any, said: str) -> None:
    take = verb(
        group,
        "import",
        run_import,
        "take a bundle in: answers, or an inventory; the file wins, and conflicts are listed",
        f"{said} import answers.volbundle",
        f"{said} import lab.volbundle --signer sha256:… --dry-run",
        secret=True,
    )
    take.add_argument("file", metavar="FILE")
    take.add_argument("--signer", metavar="sha256:…", help="vouch for the fleet that signed an inventory, from now on")
    take.add_argument("--bundle-passphrase-file", metavar="FILE", help="first line: what decrypts the keys in it")
    take.add_argument("--dry-run", action="store_true", help="list what would change, and change nothing")


def run_collect(args: argparse.Namespace, env: Environment) -> int:
    return run_job(
        args,
        env,
        lambda fleet: fleet.proxy_collect(
            **chosen(args),
            product=args.product,
            force=args.force,
            wait=False,
            dry_run=args.dry_run,
        ),
    )


def run_apply(args: argparse.Namespace, env: Environment) -> int:
    how = {"keep": args.keep, "wait": False, "dry_run": args.dry_run}
    return run_job(args, env, lambda fleet: fleet.proxy_apply(**chosen(args), **how))


def run_backup(args: argparse.Namespace, env: Environment) -> int:
    return run_job(args, env, lambda fleet: fleet.backup(**chosen(args), wait=False, dry_run=args.dry_run))


def run_restore(args: argparse.Namespace, env: Environment) -> int:
    return run_job(args, env, lambda fleet: fleet.restore(**chosen(args), wait=False, dry_run=args.dry_run))


def run_list(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet, fleet.store.read() as conn:
        if args.waiting:
            names = [args.machine] if args.machine else None
            found = confirmations.waiting(conn, env.clock(), names)
        else:
            found = confirmations.listed(conn, args.machine)
    if env.json:
        env.write_json({"requests": [one.to_json() for one in found]})
        return 0
    columns = ["machine", "product", "key", "state", "collected", "result", "reference"]
    env.table(columns, [_row(one, env) for one in found])
    return 0


def run_confirm(args: argparse.Namespace, env: Environment) -> int:
    data = read_file(args.file, bundle.MAX_FILE)
    if not data.startswith(bundle.MAGIC):
        return _confirm_file(args, env, data)
    requests = bundle.parse(data)
    known, key = _here(args, env)
    with env.progress("requests", requests.manifest.rows) as bar:
        service = transfer.known_service(known, args.publisher)
        made = transfer.confirm(requests, service, key, env.clock(), os.urandom, progress=bar)
    write_file(args.output, made.data, PRIVATE)
    if env.json:
        env.write_json({"answers": args.output, "answered": made.answered, "problems": dict(made.problems)})
    else:
        env.write(f"{made.answered} of {requests.manifest.rows} requests answered")
        for code, number in sorted(made.problems.items()):
            env.say(f"{number} were not: {code}")
        env.hint(f"carry {args.output} back, then `volact fleet import {args.output}`")
    return 1 if made.problems else 0


def run_export(args: argparse.Namespace, env: Environment) -> int:
    kind = "full" if args.everything else "inventory" if args.without_keys else "requests"
    passphrase = _bundle_passphrase(args)
    if kind == "full" and passphrase is None:
        raise ExportPassphraseError()
    with open_fleet(args, env) as fleet:
        made = fleet.export(kind, machines=args.machine, passphrase=passphrase)
        signer = bundle.fingerprint(bundle.signing_key(fleet.folder.keys))
    write_file(args.output, made.data, PRIVATE)
    shown = {"bundle": args.output, "id": made.id, "kind": str(made.kind), "rows": made.rows, "signer": signer}
    if env.json:
        env.write_json(shown)
        return 0
    env.write(f"wrote {made.rows} {'requests' if kind == 'requests' else 'rows'} to {args.output}")
    if kind == "requests":
        env.hint(f"where the publisher can be reached: `volact fleet proxy confirm {args.output} -o answers.volbundle`")
    else:
        env.hint(f"where it is imported: `volact fleet import {args.output} --signer {signer}`")
    return 0


def run_import(args: argparse.Namespace, env: Environment) -> int:
    data = read_file(args.file, bundle.MAX_FILE)
    with open_fleet(args, env) as fleet:
        made = fleet.import_bundle(data, signer=args.signer, passphrase=_bundle_passphrase(args), dry_run=args.dry_run)
    if env.json:
        env.write_json({**made.to_json(), "dry_run": args.dry_run})
        return 0
    _show_import(made, env, dry_run=args.dry_run)
    return 0


def run_show(args: argparse.Namespace, env: Environment) -> int:
    manifest = bundle.parse(read_file(args.file, bundle.MAX_FILE)).manifest
    shown = {
        "kind": str(manifest.kind),
        "rows": manifest.rows,
        "id": manifest.id.hex(),
        "made_at": env.json_time(manifest.made_at) if env.json else env.show_time(manifest.made_at),
        "signer": manifest.signer,
        "reply_to": manifest.reply_to.hex() if manifest.reply_to else None,
    }
    env.write_json(shown) if env.json else env.facts([(name.replace("_", " "), value) for name, value in shown.items()])
    return 0


def run_signer(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        signer = bundle.fingerprint(bundle.signing_key(fleet.folder.keys))
    env.write_json({"signer": signer}) if env.json else env.write(signer)
    return 0


def _confirm_file(args: argparse.Namespace, env: Environment, data: bytes) -> int:
    """One request file, as a forest's, a host's or a machine's administrator wrote it."""
    request = RequestFile.from_bytes(data[: MAX_FILE + 1])
    known, _ = _here(args, env)
    url = next((one.url for one in known if one.root == request.root and one.product == request.product), None)
    target = KnownDefinition(request.root, request.product, 0, args.publisher or url, "")
    answer = publisher.confirm(request, publisher.service_of(target))
    write_file(args.output, answer.to_bytes())
    env.write_json({"answer": args.output, "product": request.product}) if env.json else env.say(f"wrote {args.output}")
    return 0


def _row(one: Confirmation, env: Environment) -> list[object]:
    collected = env.show_time(one.collected_at)
    return [one.machine, one.product, one.partial_key, one.state, collected, one.result, one.reference]


def _here(args: argparse.Namespace, env: Environment) -> tuple[list[KnownDefinition], LocalKey]:
    """The definitions and the signing key of the fleet on this computer; where there is none, a key for this once."""
    if not (folder_of(args, env) / FLEET_FILE).is_file():
        return [], LocalKey.generate()
    with open_fleet(args, env) as fleet:
        return list(fleet.definitions()), bundle.signing_key(fleet.folder.keys)


def _bundle_passphrase(args: argparse.Namespace) -> bytes | None:
    return keys.read_passphrase(Path(args.bundle_passphrase_file)) if args.bundle_passphrase_file else None


def _show_import(made: Imported, env: Environment, *, dry_run: bool) -> None:
    counts = [(f"new {name}", number) for name, number in sorted(made.added.items())]
    counts += [(f"changed {name}", number) for name, number in sorted(made.changed.items())]
    counts += [(f"left out: {name}", number) for name, number in sorted(made.left_out.items())]
    counts += [(f"without an answer: {code}", number) for code, number in sorted(made.problems.items())]
    if made.unknown:
        counts.append(("for another database", made.unknown))
    env.facts(counts or [("changed", "nothing")], title="This would be imported" if dry_run else "")
    if made.conflicts:
        shown = made.conflicts[:MOST_CONFLICTS_SHOWN]
        rows = [[one.table, one.row, one.column, one.was, one.became] for one in shown]
        env.table(["table", "row", "column", "was", "is by the file"], rows, title=_conflicts(made.conflict_count))
    if made.added.get("answers") and not dry_run:
        env.hint("bring them to the machines: `volact fleet proxy apply`")


def _conflicts(number: int) -> str:
    return f"{counted(number, 'conflict')}: the file wins"
