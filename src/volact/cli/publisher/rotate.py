# SPDX-License-Identifier: Apache-2.0
"""``volact publisher rotate``: a new issuing CA and new keys of the service, under the same root or under a new one."""

import argparse
from pathlib import Path

from volact.cli.environment import Environment
from volact.cli.publisher.hardware import add_token_options, tokens_given
from volact.cli.publisher.shared import Verbs, actor, add_family, add_verb, folder, read_passphrase
from volact.publisher.folder import hardware
from volact.publisher.folder.hardware import KeyMaker
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.folder.rotation import RootKeyAwayError, rotate, rotate_root
from volact.sealing import certificates, keys
from volact.sealing.jws import SigningKey


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
    _add_options(parser)
    parser = add_verb(
        family,
        "root",
        _root,
        "make a new root that the present one certifies, and a new issuing CA and keys of the service under it",
        """
volact publisher rotate root --root-key /media/offline/root.key
volact publisher rotate root --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --token acme --pin-file pin.txt""",
        passphrase=True,
    )
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root-key", metavar="FILE", help="the root's key, or its reference (default: in the folder)")
    parser.add_argument(
        "--root-passphrase-file", metavar="FILE", help="its passphrase, where it is another one than the service's"
    )
    add_token_options(parser)


def _root(args: argparse.Namespace, env: Environment) -> int:
    publisher, root_key, maker = _opened(args, env)
    before = publisher.newest_fingerprint
    made = certificates.fingerprint(rotate_root(publisher, root_key, maker, env.clock(), actor(env)))
    after = PublisherFolder.open(publisher.path)
    if args.json:
        env.write_json(
            {"root": made, "before": before, "publisher": after.fingerprint, "root_key": str(after.root_key)}
        )
        return 0
    env.facts([("New root", made), ("Certified by", before), ("Publisher", after.fingerprint)])
    env.say("products that embed an earlier root go on; new ones may embed the new one")
    env.hint("add a new version of each product, so that its definition joins the roots")
    env.hint("a running service takes the new keys within seconds")
    env.hint(f"take the new root's key {after.root_key} offline, and keep the old one until no product needs it")
    return 0


def _opened(args: argparse.Namespace, env: Environment) -> tuple[PublisherFolder, SigningKey, KeyMaker]:
    publisher = PublisherFolder.open(folder(args, env))
    passphrase = read_passphrase(args, env)
    publisher.open_keys(passphrase)  # the new keys get the passphrase that the others have
    file = Path(args.root_key) if args.root_key else publisher.root_key
    if not args.root_key and not file.exists():
        raise RootKeyAwayError(path=str(file))
    of_root = keys.read_passphrase(Path(args.root_passphrase_file)) if args.root_passphrase_file else passphrase
    return publisher, hardware.load(file, of_root), KeyMaker(passphrase, tokens_given(args))


def _issuing(args: argparse.Namespace, env: Environment) -> int:
    publisher, root_key, maker = _opened(args, env)
    made = rotate(publisher, root_key, maker, env.clock(), actor(env))
    ends_at = int(made.not_valid_after_utc.timestamp())
    if args.json:
        env.write_json({"serial": f"{made.serial_number:x}", "ends_at": env.json_time(ends_at)})
        return 0
    env.say(f"made a new issuing CA, until {env.show_time(ends_at)}; what the old one signed stays good")
    env.hint("a running service takes the new keys within seconds; what it signs until then stays good, too")
    env.hint(f"take the root's key offline again, and delete the old keys in {publisher.path / 'old'} when all is well")
    return 0
