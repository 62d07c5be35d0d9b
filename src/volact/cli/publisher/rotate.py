# SPDX-License-Identifier: Apache-2.0
"""``volact publisher rotate issuing``: a new issuing CA, and new keys of the service, under the same root."""

import argparse
from pathlib import Path

from volact.cli.environment import Environment
from volact.cli.publisher.hardware import add_token_options, tokens_given
from volact.cli.publisher.shared import Verbs, actor, add_family, add_verb, folder, read_passphrase
from volact.publisher import hardware
from volact.publisher.folder import PublisherFolder
from volact.publisher.hardware import KeyMaker
from volact.publisher.rotation import rotate
from volact.sealing import keys


def build(verbs: Verbs) -> None:
    family = add_family(verbs, "rotate", "new keys in the place of old ones")
    parser = add_verb(
        family,
        "issuing",
        _issuing,
        "make a new issuing CA and new keys of the service; the root's key is needed for it",
        """
volact publisher rotate issuing --root-key /media/offline/root.key
volact publisher rotate issuing --root-key root.key --root-passphrase-file root.txt""",
        passphrase=True,
    )
    parser.add_argument("--root-key", metavar="FILE", help="the root's key, or its reference (default: in the folder)")
    parser.add_argument(
        "--root-passphrase-file", metavar="FILE", help="its passphrase, where it is another one than the service's"
    )
    add_token_options(parser)


def _issuing(args: argparse.Namespace, env: Environment) -> int:
    publisher = PublisherFolder.open(folder(args, env))
    passphrase = read_passphrase(args, env)
    publisher.open_keys(passphrase)  # the new keys get the passphrase that the others have
    file = Path(args.root_key) if args.root_key else publisher.root_key
    of_root = keys.read_passphrase(Path(args.root_passphrase_file)) if args.root_passphrase_file else passphrase
    maker = KeyMaker(passphrase, tokens_given(args))
    made = rotate(publisher, hardware.load(file, of_root), maker, env.clock(), actor(env))
    ends_at = int(made.not_valid_after_utc.timestamp())
    if args.json:
        env.write_json({"serial": f"{made.serial_number:x}", "ends_at": env.json_time(ends_at)})
        return 0
    env.say(f"made a new issuing CA, until {env.show_time(ends_at)}; what the old one signed stays good")
    env.hint("start the service again: until then it signs with its old keys")
    env.hint(f"take the root's key offline again, and delete the old keys in {publisher.path / 'old'} when all is well")
    return 0
