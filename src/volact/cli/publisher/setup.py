# SPDX-License-Identifier: Apache-2.0
"""``volact publisher init`` and ``certificate``."""

import argparse

from volact.cli.environment import Environment
from volact.cli.files import write_file
from volact.cli.publisher.hardware import add_token_options, tokens_given
from volact.cli.publisher.shared import Verbs, actor, add_verb, folder, read_passphrase
from volact.publisher.folder.files import MAX_URL
from volact.publisher.folder.hardware import REFERENCE
from volact.publisher.folder.making import init
from volact.publisher.folder.opening import PublisherFolder
from volact.sealing import certificates
from volact.sealing.envelope import HYBRID, X25519
from volact.wire.client import Server, UrlError


def build(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "init",
        _init,
        "make a publisher: keys, certificates, database",
        """
volact publisher init --name "Acme Software" --url https://licensing.acme.example
volact publisher init --name "Acme Software" --dir ./publisher --passphrase-file pass.txt
volact publisher init --name "Acme Software" --database postgresql://volact@db.acme.example/publisher
volact publisher init --name "Acme Software" --pkcs11-module /usr/lib/softhsm/libsofthsm2.so \\
    --token acme --pin-file pin.txt""",
        passphrase=True,
    )
    parser.add_argument("--name", required=True, help="the publisher's name, as certificates show it")
    parser.add_argument("--url", help="where its activation service will be reached, for product definitions")
    parser.add_argument(
        "--suite", choices=(X25519, HYBRID), default=X25519, help="how requests are sealed to it (default: %(default)s)"
    )
    parser.add_argument(
        "--database", metavar="URL", help="postgresql://USER@HOST/DATABASE (default: a SQLite file in the folder)"
    )
    add_token_options(parser)
    parser = add_verb(
        verbs,
        "certificate",
        _certificate,
        "show the root's fingerprint, which products embed",
        """
volact publisher certificate
volact publisher certificate --pem
volact publisher certificate -o acme-root.pem""",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--pem", action="store_true", help="print the root certificate in PEM")
    form.add_argument("-o", "--output", metavar="FILE", help="write the root certificate in PEM to FILE")


def _init(args: argparse.Namespace, env: Environment) -> int:
    _check_url(args.url)
    passphrase = read_passphrase(args, env, new=True)
    made = init(
        folder(args, env), args.name, args.url, args.suite, passphrase, env.clock(), actor(env),
        database=args.database, tokens=tokens_given(args),
    )  # fmt: skip
    if args.json:
        env.write_json(_about(made))
        return 0
    env.facts(
        (
            ("Publisher", made.name),
            ("Folder", made.path),
            ("Root fingerprint", made.fingerprint),
            ("Address", made.url or "none: hosts activate by file, or are told the address"),
            ("Suite", made.suite),
        )
    )
    if made.root_key.suffix == REFERENCE:
        env.hint("keep the root's token offline: nothing but a new issuing CA and a new root need it")
    else:
        env.hint(f"move {made.root_key} to a safe place offline: nothing but a new issuing CA and a new root need it")
    env.hint("next: `volact publisher product add FILE.toml`; your products embed the root fingerprint")
    return 0


def _certificate(args: argparse.Namespace, env: Environment) -> int:
    publisher = PublisherFolder.open(folder(args, env))
    pem = certificates.pem(publisher.root)
    if args.output:
        write_file(args.output, pem)
        env.say(f"wrote {args.output}")
    if args.json:
        env.write_json({**_about(publisher), "pem": pem.decode()})
    elif args.pem:
        env.write(pem.decode().rstrip("\n"))
    else:
        env.write(publisher.fingerprint)
    return 0


def _about(publisher: PublisherFolder) -> dict[str, object]:
    return {
        "name": publisher.name,
        "dir": str(publisher.path),
        "root": publisher.fingerprint,
        "newest_root": publisher.newest_fingerprint,
        "url": publisher.url,
        "suite": publisher.suite,
        "root_key": str(publisher.root_key),
    }


def _check_url(url: str | None) -> None:
    if url is None:
        return
    Server.from_url(url)
    if len(url) > MAX_URL or not url.isprintable():
        raise UrlError(url=url[:MAX_URL])
