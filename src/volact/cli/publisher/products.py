# SPDX-License-Identifier: Apache-2.0
"""``volact publisher product``: add, export, list, show."""

import argparse

from volact.cli.environment import Environment
from volact.cli.files import read_file, write_file
from volact.cli.publisher.shared import Verbs, actor, add_family, add_verb, open_publisher, read_passphrase
from volact.core.definition import Edition, ProductDefinition
from volact.publisher.rules.catalogue import MAX_FILE


def build(verbs: Verbs) -> None:
    family = add_family(verbs, "product", "products and their signed definitions")
    parser = add_verb(
        family,
        "add",
        _add,
        "sign a product, or a new version of it, from its TOML file",
        """
volact publisher product add acme-cad.toml
volact publisher product add acme-cad.toml --passphrase-file pass.txt --json""",
        passphrase=True,
    )
    parser.add_argument("file", metavar="FILE.toml", help="docs/spec/product-definition.md shows a whole one")
    parser = add_verb(
        family,
        "export",
        _export,
        "write the signed definition that ships with the product",
        """
volact publisher product export acme-cad -o acme-cad.volproduct
volact publisher product export acme-cad --version 2 > old.volproduct""",
    )
    parser.add_argument("product", metavar="PRODUCT")
    parser.add_argument("--version", type=int, help="which version (default: the newest)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE (default: stdout)")
    add_verb(family, "list", _list, "list the products", "volact publisher product list --json")
    parser = add_verb(
        family,
        "show",
        _show,
        "show a product's editions, product groups, generic keys and thresholds",
        "volact publisher product show acme-cad",
    )
    parser.add_argument("product", metavar="PRODUCT")


def _add(args: argparse.Namespace, env: Environment) -> int:
    toml = read_file(args.file, MAX_FILE)
    with open_publisher(args, env) as publisher:
        keys = publisher.folder.open_keys(read_passphrase(args, env))
        definition = publisher.add_product(toml, keys, env.clock(), actor(env))
    if args.json:
        env.write_json(_as_json(definition))
        return 0
    env.say(f"added {definition.product} version {definition.version}")
    env.hint(f"next: `volact publisher product export {definition.product} -o {definition.product}.volproduct`")
    return 0


def _export(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        signed = publisher.store.version(args.product, args.version)
    about = {"product": signed.product, "version": signed.version, "output": args.output}
    if args.output:
        write_file(args.output, signed.token.encode() + b"\n")
        env.say(f"wrote version {signed.version} of {signed.product} to {args.output}")
    if args.json:
        env.write_json(about if args.output else {**about, "definition": signed.token})
    elif not args.output:
        env.write(signed.token)
    return 0


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        definitions = [publisher.definition(signed) for signed in publisher.store.newest_of_all()]
    if args.json:
        env.write_json([_summary(definition, env) for definition in definitions])
        return 0
    rows = [(d.product, d.name, d.version, len(d.editions), env.show_time(d.issued_at)) for d in definitions]
    env.table(("product", "name", "version", "editions", "signed"), rows)
    return 0


def _show(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        definition = publisher.newest(args.product)
    if args.json:
        env.write_json(_as_json(definition))
        return 0
    env.facts(
        (
            ("Product", definition.product),
            ("Name", definition.name),
            ("Version", definition.version),
            ("Root fingerprint", definition.root),
            ("Signed", env.show_time(definition.issued_at)),
        )
    )
    groups = [(group.number, group.name, group.parent) for group in definition.groups]
    env.table(("group", "name", "parent"), groups, "Product groups")
    names = {group.number: group.name for group in definition.groups}
    rows = [
        (e.id, e.name, e.kind, names[e.group], e.policy.threshold, channel, key)
        for e in definition.editions
        for channel, key in e.keys.items()
    ]
    env.table(("edition", "name", "kind", "group", "threshold", "channel", "generic key"), rows, "Editions")
    return 0


def _summary(definition: ProductDefinition, env: Environment) -> dict[str, object]:
    return {
        "product": definition.product,
        "name": definition.name,
        "version": definition.version,
        "editions": [edition.id for edition in definition.editions],
        "signed_at": env.json_time(definition.issued_at),
    }


def _as_json(definition: ProductDefinition) -> dict[str, object]:
    return {
        "product": definition.product,
        "name": definition.name,
        "version": definition.version,
        "publisher": definition.publisher,
        "root": definition.root,
        "url": definition.url,
        "signed_at": Environment.json_time(definition.issued_at),
        "groups": [{"number": g.number, "name": g.name, "parent": g.parent} for g in definition.groups],
        "editions": [_edition(edition) for edition in definition.editions],
    }


def _edition(edition: Edition) -> dict[str, object]:
    return {
        "id": edition.id,
        "name": edition.name,
        "kind": str(edition.kind),
        "group": edition.group,
        "threshold": edition.policy.threshold,
        "keys": {str(channel): str(key) for channel, key in edition.keys.items()},
        "policy": edition.policy.to_claim(),
    }
