# SPDX-License-Identifier: Apache-2.0
"""``volact publisher oem``: what the publisher does for makers of computers, and a maker in its own folder."""

import argparse
from typing import Any

from volact.cli.environment import Environment
from volact.cli.files import read_file, write_file
from volact.cli.options import between
from volact.cli.publisher.shared import (
    Verbs,
    actor,
    add_family,
    add_verb,
    day,
    group_teller,
    open_publisher,
    read_passphrase,
)
from volact.core.errors import ConfigError, InputError
from volact.core.fingerprint import Trait
from volact.core.marker import MOST_NAME, Model, OemMarker, device_hash
from volact.publisher.administration import oem
from volact.publisher.administration.oem import MAX_REQUEST, MakerFolder
from volact.sealing import certificates

MOST_DAYS = 3650
MAX_PEM = 64 * 1024


class MarkerOptionsError(ConfigError):
    code = "marker-options"
    fmt = "a marker's model needs both --manufacturer and --product-name"
    remedy = "take both from the computer: /sys/class/dmi/id/sys_vendor and product_name"


class DeviceUnfitError(InputError):
    code = "device-unfit"
    fmt = "{text!r} identifies no device: it is a placeholder, or not a {what}"
    remedy = "take it from the computer itself: /sys/class/dmi/id/product_uuid or product_serial"


def build(verbs: Verbs) -> None:
    family = add_family(verbs, "oem", "makers of computers: certify them, and sign markers as one of them")
    _build_publisher(family)
    _build_maker(family)


def _build_publisher(family: Verbs) -> None:
    parser = add_verb(
        family,
        "certify",
        _certify,
        "certify a maker's key for product groups",
        'volact publisher oem certify "Contoso PCs" --request contoso.csr --group clients -o contoso.pem',
        passphrase=True,
    )
    parser.add_argument("maker", metavar="MAKER", help="its name, as licences show it")
    parser.add_argument("--request", metavar="FILE", required=True, help="what `oem request` wrote")
    parser.add_argument("--group", action="append", required=True, metavar="GROUP", help="by name or number; repeated")
    parser.add_argument("--days", type=between(1, MOST_DAYS), default=365, help="how long it may sign markers")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="for the maker")
    add_verb(family, "list", _list, "list the makers that were certified", "volact publisher oem list --json")
    parser = add_verb(
        family,
        "revoke",
        _revoke,
        "revoke a maker's keys, from a date on",
        'volact publisher oem revoke "Contoso PCs" --since 2027-03-01 --reason "key stolen"',
    )
    parser.add_argument("maker", metavar="MAKER")
    parser.add_argument("--since", type=day, metavar="YYYY-MM-DD", help="markers made from this day on (default: now)")
    parser.add_argument("--reason", default="", help="why, for the ledger")


def _build_maker(family: Verbs) -> None:
    parser = add_verb(
        family,
        "request",
        _request,
        "as a maker: make a folder with a key, and the request to have it certified",
        'volact publisher oem request "Contoso PCs" --dir ./oem -o contoso.csr',
        passphrase=True,
    )
    parser.add_argument("maker", metavar="MAKER", help="its name")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="for the publisher")
    parser = add_verb(
        family,
        "install",
        _install,
        "as a maker: keep the certificate that the publisher sent",
        "volact publisher oem install contoso.pem --dir ./oem --root sha256:…",
        passphrase=True,
    )
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--root", metavar="sha256:…", help="the publisher's root, where you know it another way")
    parser = add_verb(
        family,
        "marker",
        _marker,
        "as a maker: sign a marker, for a model or for one device",
        """
volact publisher oem marker --dir ./oem --manufacturer Contoso --product-name "Book 14" --group 102 -o book14.volmarker
volact publisher oem marker --dir ./oem --uuid 4c4c4544-… --group 102 --acpi device.aml --oem-id CONTSO""",
        passphrase=True,
    )
    parser.add_argument("--manufacturer", metavar="TEXT", help="SMBIOS type 1, as the computer says it")
    parser.add_argument("--product-name", metavar="TEXT", help="likewise")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--uuid", help="of one device")
    one.add_argument("--serial", help="of one device")
    parser.add_argument("--group", action="append", type=between(1, 65535), required=True, help="number; repeated")
    parser.add_argument("--edition", action="append", default=[], help="only this edition of the groups; repeated")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the marker's text to FILE (default: stdout)")
    parser.add_argument("--acpi", metavar="FILE", help="write a whole ACPI table with signature VLCT")
    parser.add_argument("--oem-id", default="VOLACT", help="of the table (default: %(default)s)")
    parser.add_argument("--table-id", default="MARKER", help="of the table (default: %(default)s)")
    parser.add_argument("--smbios", metavar="FILE", help="write the string for an SMBIOS structure of type 11")


def _certify(args: argparse.Namespace, env: Environment) -> int:
    request = read_file(args.request, MAX_REQUEST)
    with open_publisher(args, env) as publisher:
        groups = [publisher.find_group(group) for group in args.group]
        keys = publisher.folder.open_keys(read_passphrase(args, env))
        pem = oem.certify(publisher, keys, request, args.maker, groups, env.clock(), actor(env), args.days)
        told = group_teller(publisher)
    write_file(args.output, pem)
    if args.json:
        env.write_json({"maker": args.maker, "groups": sorted(groups), "output": args.output})
    else:
        env.say(f"certified {args.maker} for product groups {', '.join(map(told, sorted(groups)))}: {args.output}")
        env.hint("send it to the maker, and the root's fingerprint on another way: `volact publisher certificate`")
    return 0


def _list(args: argparse.Namespace, env: Environment) -> int:
    with open_publisher(args, env) as publisher:
        found, told = oem.makers(publisher), group_teller(publisher)
    if args.json:
        env.write_json([_as_json(one, env) for one in found])
        return 0
    rows = [
        (
            one.name, ", ".join(map(told, one.groups)), env.show_time(one.certified_at), env.show_time(one.ends_at),
            env.show_time(one.revoked_at), one.signer[:16],
        )
        for one in found
    ]  # fmt: skip
    env.table(("maker", "groups", "certified", "may sign until", "revoked from", "key"), rows)
    return 0


def _as_json(one: oem.Maker, env: Environment) -> dict[str, Any]:
    return {
        "maker": one.name,
        "groups": list(one.groups),
        "signer": one.signer,
        "certified_at": env.json_time(one.certified_at),
        "ends_at": env.json_time(one.ends_at),
        "revoked_at": env.json_time(one.revoked_at),
    }


def _revoke(args: argparse.Namespace, env: Environment) -> int:
    now = env.clock()
    since = now if args.since is None else args.since
    with open_publisher(args, env) as publisher:
        revoked = oem.revoke(publisher, args.maker, since, args.reason, now, actor(env))
    if args.json:
        env.write_json({"revoked": list(revoked.signers), "since": env.json_time(since), "epoch": revoked.epoch})
    else:
        env.say(f"revoked {len(revoked.signers)} keys of {args.maker} from {env.show_time(since)} on")
        env.hint("computers learn of it from a revocation status: `volact publisher status export -o FILE`")
    return 0


def _request(args: argparse.Namespace, env: Environment) -> int:
    passphrase = read_passphrase(args, env, new=True)
    made = MakerFolder.create(env.folder("oem", args.dir), args.maker, passphrase)
    write_file(args.output, made.request(passphrase))
    if args.json:
        env.write_json({"maker": made.name, "dir": str(made.path), "output": args.output})
    else:
        env.say(f"made a key in {made.path}, and its request {args.output}")
        env.hint("send the request to the publisher")
    return 0


def _install(args: argparse.Namespace, env: Environment) -> int:
    made = MakerFolder.open(env.folder("oem", args.dir))
    passphrase, pem = read_passphrase(args, env), read_file(args.file, MAX_PEM)
    issuer = made.install(pem, passphrase, args.root)
    root = certificates.fingerprint(issuer.root)
    if args.json:
        env.write_json({"maker": issuer.grant.organisation, "groups": sorted(issuer.grant.groups), "root": root})
    else:
        groups = ", ".join(map(str, sorted(issuer.grant.groups)))
        until = env.show_time(issuer.ends_at)
        env.say(f"certified as {issuer.grant.organisation} for product groups {groups} until {until}")
        env.hint(f"compare the publisher's root with what it told you: {root}")
    return 0


def _marker(args: argparse.Namespace, env: Environment) -> int:
    made = MakerFolder.open(env.folder("oem", args.dir))
    marker = OemMarker(env.clock(), frozenset(args.group), _model(args), _device(args), frozenset(args.edition))
    token = made.sign(marker, read_passphrase(args, env))
    table = oem.acpi_table(token, args.oem_id, args.table_id) if args.acpi else b""
    string = oem.smbios_string(token).encode()
    for path, data in ((args.output, token.encode()), (args.acpi, table), (args.smbios, string)):
        if path:
            write_file(path, data)
            env.say(f"wrote {path}, for {marker.made_for}")
    if args.json:
        env.write_json({"marker": token, "made_for": marker.made_for, "groups": sorted(marker.groups)})
    elif not (args.output or args.acpi or args.smbios):
        env.write(token)
    return 0


def _model(args: argparse.Namespace) -> Model | None:
    given = (args.manufacturer, args.product_name)
    if given == (None, None):
        return None
    if None in given or not all(0 < len(text) <= MOST_NAME and text.isprintable() for text in given):
        raise MarkerOptionsError()
    return Model(*given)


def _device(args: argparse.Namespace) -> bytes | None:
    for trait, what, text in (
        (Trait.SMBIOS_UUID, "UUID", args.uuid),
        (Trait.SMBIOS_SERIAL, "serial number", args.serial),
    ):
        if text is not None:
            device = device_hash(trait, text)
            if device is None:
                raise DeviceUnfitError(text=text[:80], what=what)
            return device
    return None
