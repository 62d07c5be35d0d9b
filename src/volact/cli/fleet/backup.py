# SPDX-License-Identifier: Apache-2.0
"""``volact fleet backup`` and ``restore``: of the tool itself; those of machines are ``volact fleet proxy backup``."""

import argparse
from pathlib import Path
from typing import Any

from volact import __version__
from volact.cli.environment import Environment
from volact.cli.fleet.opening import folder_of, verb
from volact.fleet import backup as room
from volact.fleet.api import PASSPHRASE_VARIABLE
from volact.fleet.keys import vault
from volact.sealing import keys


def build(group: Any) -> None:
    parser = verb(
        group,
        "backup",
        run_backup,
        "write the fleet tool's folder and database, of one moment, into one file; machines: `proxy backup`",
        "volact fleet backup /backup/fleet-2027-03-01.volbackup",
    )
    parser.add_argument("file", metavar="FILE", help="a new file")
    parser.add_argument(
        "--with-passphrase",
        action="store_true",
        help="with the vault's passphrase that the folder keeps: then the file is a secret",
    )
    parser = verb(
        group,
        "restore",
        run_restore,
        "make a fleet folder from a backup, and open what is in it; machines: `proxy restore`",
        "volact fleet restore /backup/fleet-2027-03-01.volbackup --dir /srv/fleet",
        "volact fleet restore fleet.volbackup --database postgresql://volact@db.example.com/fleet",
        secret=True,
    )
    parser.add_argument("file", metavar="FILE", help="what `backup` wrote")
    parser.add_argument("--database", metavar="URL", help="an empty PostgreSQL database, where it is another by now")


def run_backup(args: argparse.Namespace, env: Environment) -> int:
    target = Path(args.file)
    contents = room.backup(folder_of(args, env), target, env.clock(), __version__, with_passphrase=args.with_passphrase)
    size = target.stat().st_size
    if env.json:
        env.write_json({"output": args.file, "files": len(contents.files), "bytes": size})
        return 0
    env.say(f"wrote {len(contents.files)} files, {size} bytes, to {args.file}")
    if not args.with_passphrase:
        env.hint("the key vault's passphrase is not in it: keep it in another place")
    return 0


def run_restore(args: argparse.Namespace, env: Environment) -> int:
    file = args.passphrase_file or env.variables.get(PASSPHRASE_VARIABLE)
    passphrase = keys.read_passphrase(Path(file)) if file else None
    made = room.restore(Path(args.file), folder_of(args, env), args.database, passphrase)
    if env.json:
        about = {"dir": str(made.folder.path), "machines": made.machines, "keys": made.keys, "opened": made.opened}
        env.write_json({**about, "made_at": env.json_time(made.contents.made_at)})
        return 0
    what = f"{made.machines} machines and {made.keys} keys in {made.folder.path}"
    env.say(f"restored a fleet with {what}, as of {env.show_time(made.contents.made_at)}")
    if made.keys and not made.opened:
        where = vault.passphrase_file(made.folder)
        env.hint(f"its key vault was not tried: put the passphrase into {where}, or name it with --passphrase-file")
    return 0
