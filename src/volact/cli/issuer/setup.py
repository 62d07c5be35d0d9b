# SPDX-License-Identifier: Apache-2.0
"""Making a host, giving it products and host keys."""

import argparse
import sys
from functools import partial
from typing import Any

from volact.cli.environment import Environment
from volact.cli.files import read_token
from volact.cli.issuer.common import Hosting
from volact.cli.options import add_verb, root_fingerprint
from volact.issuer.activation import SUITES
from volact.sealing import jws


def build(group: Any, hosting: Hosting[Any, Any]) -> None:
    noun, command = hosting.kind.noun, hosting.kind.command
    init = add_verb(
        group,
        "init",
        f"make a {noun}'s folder with its database and passphrase",
        partial(run_init, hosting),
        examples=[f"{command} init", f"{command} init --dir /srv/volact --passphrase-file /run/credentials/volact"],
    )
    hosting.add_passphrase(init)
    product = add_verb(
        group,
        "add-product",
        "add a product definition, or a newer version of one, to the host",
        partial(run_add_product, hosting),
        examples=[f"{command} add-product acme-cad.volproduct --root sha256:1f0c…"],
    )
    product.add_argument("file", metavar="FILE", help="the .volproduct file that came with the product (-: stdin)")
    product.add_argument(
        "--root",
        type=root_fingerprint,
        metavar="sha256:…",
        help="the publisher's root fingerprint, as the publisher tells you; needed once",
    )
    install = add_verb(
        group,
        "install-key",
        f"install a {noun} key; activate it afterwards",
        partial(run_install_key, hosting),
        aliases=["ipk"],
        examples=[f"{command} install-key - < key.txt", f"{command} install-key AAAAA-BBBBB-CCCCC-DDDDD-EEEEE"],
    )
    install.add_argument("key", metavar="KEY", help="the key, or - to read it from standard input")
    install.add_argument(
        "--suite", choices=SUITES, default=SUITES[0], help="how requests are sealed to this host (default: %(default)s)"
    )
    hosting.add_passphrase(install)
    remove = add_verb(
        group,
        "remove-key",
        "remove a host key with its certificate",
        partial(run_remove_key, hosting),
        aliases=["upk"],
        examples=[f"{command} remove-key 7K4RT"],
    )
    remove.add_argument("key", metavar="LAST5", help="the last five symbols of the key")


def run_init(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    path, kind = env.folder(hosting.role, args.dir), hosting.kind
    passphrase_file = hosting.passphrase_file(args, env)
    hosting.folder.create(path, passphrase_file, lambda made: hosting.open_store(made).close())
    if env.json:
        env.write_json({"folder": str(path)})
    else:
        env.say(f"made a {kind.noun} in {path}")
        env.hint(f"add a product: `{kind.command} add-product FILE --root sha256:…`")
    return 0


def run_add_product(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    folder = hosting.open_folder(args, env)
    token = read_token(args.file, jws.MAX_TOKEN)
    trusted = folder.add_product(token, args.root)
    definition = trusted.definition
    if env.json:
        env.write_json({"product": definition.product, "version": definition.version, "root": definition.root})
    else:
        env.say(f"added {definition.product}, version {definition.version}, of {definition.publisher}")
    return 0


def run_install_key(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    with hosting.opened(args, env) as (folder, store):
        host_key = folder.install_key(_key_text(args.key, env, hosting.kind.noun), args.suite)
        data = {"key": host_key.key.partial, "group": host_key.key.group, "product": host_key.product}
        store.log(env.clock(), "info", "host-key-installed", data)
    if env.json:
        env.write_json({**data, "activated": host_key.activated})
    else:
        env.say(f"installed the host key ending in {host_key.key.partial}, for product group {host_key.key.group}")
        if not host_key.activated:
            env.hint(f"activate it: `{hosting.kind.command} activate`")
    return 0


def run_remove_key(hosting: Hosting[Any, Any], args: argparse.Namespace, env: Environment) -> int:
    with hosting.opened(args, env) as (folder, store):
        host_key = folder.host_key(args.key)
        folder.remove_key(host_key)
        store.log(env.clock(), "warning", "host-key-removed", {"key": host_key.key.partial})
    if env.json:
        env.write_json({"removed": host_key.key.partial})
    else:
        env.say(f"removed the host key ending in {host_key.key.partial}")
    return 0


def _key_text(given: str, env: Environment, noun: str) -> str:
    """The key, not necessarily from the argument list, which other users of the machine can read."""
    if given != "-":
        return given
    return env.stdin.readline() if env.stdin is not sys.stdin or not env.stdin.isatty() else _ask(noun)


def _ask(noun: str) -> str:
    from getpass import getpass

    return getpass(f"{noun} key: ")
