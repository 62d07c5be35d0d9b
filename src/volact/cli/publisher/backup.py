# SPDX-License-Identifier: Apache-2.0
"""``volact publisher backup`` and ``restore``."""

import argparse
from pathlib import Path

from volact import __version__
from volact.cli.environment import Environment
from volact.cli.publisher.shared import Verbs, add_verb, folder
from volact.publisher.folder import backup as room


def build(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "backup",
        _backup,
        "write folder and database, of one moment, into one file; the service may go on",
        "volact publisher backup /backup/acme-2027-03-01.volbackup",
    )
    parser.add_argument("file", metavar="FILE", help="a new file")
    parser = add_verb(
        verbs,
        "restore",
        _restore,
        "make a publisher from a backup, and verify its ledger",
        """
volact publisher restore /backup/acme-2027-03-01.volbackup --dir /srv/acme
volact publisher restore acme.volbackup --database postgresql://volact@db.acme.example/licensing""",
    )
    parser.add_argument("file", metavar="FILE", help="what `backup` wrote")
    parser.add_argument("--database", metavar="URL", help="an empty PostgreSQL database, where it is another by now")


def _backup(args: argparse.Namespace, env: Environment) -> int:
    contents = room.backup(folder(args, env), Path(args.file), env.clock(), __version__)
    size = Path(args.file).stat().st_size
    if args.json:
        env.write_json({"output": args.file, "files": len(contents.files), "bytes": size})
        return 0
    env.say(f"wrote {len(contents.files)} files, {size} bytes, to {args.file}")
    env.hint("keep the passphrase in another place; keys in a token are backed up by the token's own means")
    return 0


def _restore(args: argparse.Namespace, env: Environment) -> int:
    restored = room.restore(Path(args.file), folder(args, env), args.database)
    contents = restored.contents
    if args.json:
        shown = {"dir": str(restored.folder.path), "root": restored.folder.fingerprint, "rows": restored.rows}
        env.write_json({**shown, "head": restored.head, "made_at": env.json_time(contents.made_at)})
        return 0
    env.facts(
        (
            ("Publisher", restored.folder.name),
            ("Folder", restored.folder.path),
            ("Backup of", env.show_time(contents.made_at)),
            ("Root fingerprint", restored.folder.fingerprint),
            ("Ledger", f"{restored.rows} rows, all whole"),
            ("Head", restored.head),
        )
    )
    env.hint("what happened after the backup is not in it: `volact publisher ledger verify --against` a later receipt")
    return 0
