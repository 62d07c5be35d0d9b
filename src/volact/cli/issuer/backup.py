# SPDX-License-Identifier: Apache-2.0
"""``backup`` and ``restore`` of a KMS host or a VM host."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from volact import __version__
from volact.cli.environment import Environment, counted
from volact.cli.issuer.common import Hosting
from volact.cli.options import add_verb
from volact.issuer.folder import IssuerFolder
from volact.sql import archive
from volact.sql.archive import Contents

PASSPHRASE = "passphrase"  # noqa: S105 - a file's name
STAMP = "stamp"


def build(group: Any, hosting: Hosting[Any, Any]) -> None:
    noun, command, role = hosting.kind.noun, hosting.kind.command, hosting.role
    verb = add_verb(
        group,
        "backup",
        "write folder and database, of one moment, into one file; the host may go on serving",
        partial(run_backup, hosting),
        examples=[f"{command} backup /backup/{role}1.volbackup"],
    )
    verb.add_argument("file", metavar="FILE", help="a new file")
    verb.add_argument(
        "--with-passphrase",
        action="store_true",
        help="with the folder's own passphrase: then the file is a secret",
    )
    verb = add_verb(
        group,
        "restore",
        f"make a {noun} from a backup, and open what is in it",
        partial(run_restore, hosting),
        examples=[f"{command} restore /backup/{role}1.volbackup --passphrase-file /run/credentials/volact"],
    )
    verb.add_argument("file", metavar="FILE", help="what `backup` wrote")
    hosting.add_passphrase(verb)


def run_backup(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    folder: IssuerFolder = hosting.open_folder(args, env)
    out = frozenset({STAMP} if args.with_passphrase else {STAMP, PASSPHRASE})
    target = Path(args.file)
    contents = archive.write(
        target, folder.path, folder.database, hosting.role, env.clock(), __version__, leave_out=out
    )
    size = target.stat().st_size
    if env.json:
        env.write_json({"output": args.file, "files": len(contents.files), "bytes": size})
        return 0
    env.say(f"wrote {len(contents.files)} files, {size} bytes, to {args.file}")
    if not args.with_passphrase:
        env.hint("the passphrase is not in it: keep it in another place")
    return 0


def run_restore(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    path, opened = env.folder(hosting.role, args.dir), [False]
    passphrase_file = hosting.passphrase_file(args, env)

    def place(_contents: Contents, folder: Path) -> Path:
        made: IssuerFolder = hosting.folder(folder)
        made.make_whole()
        return made.database

    def check(folder: Path) -> None:
        opened[0] = _check(hosting, hosting.folder(folder, passphrase_file).check())

    contents = archive.restore(Path(args.file), path, hosting.role, place, check)
    keys = len(hosting.folder(path).host_keys())
    if env.json:
        about = {"dir": str(path), "keys": keys, "opened": opened[0], "made_at": env.json_time(contents.made_at)}
        env.write_json(about)
        return 0
    held = counted(keys, "host key")
    env.say(f"restored a {hosting.kind.noun} with {held} in {path}, as of {env.show_time(contents.made_at)}")
    if not opened[0]:
        env.hint(f"its keys were not tried: put the passphrase into {path / PASSPHRASE}, or name it when you serve")
    return 0


def _check(hosting: Hosting[Any, Any], folder: IssuerFolder) -> bool:
    """Definitions verify, the database opens, and, where the passphrase is at hand, so does every key."""
    folder.products()
    hosting.open_store(folder).close()
    host_keys = folder.host_keys()
    if not folder.has_passphrase:
        return False
    passphrase = folder.passphrase()
    for key in host_keys:
        key.signing_key(passphrase)
        key.opening_key(passphrase)
    return True
