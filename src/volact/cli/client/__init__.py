# SPDX-License-Identifier: Apache-2.0
"""``volact client``: the licensing service of this machine, for its administrator.

This file is the table of verbs; what they do is in the files beside it, which are imported when a verb runs.
``activate`` and ``check`` exit with 0 only for what is licensed, so that scripts need not read anything.
Guide: docs/guide/client.md.
"""

import argparse
import importlib
from collections.abc import Sequence
from typing import Any

from volact.cli.environment import Environment
from volact.cli.options import add_verb, between, path, root_fingerprint, verbs

MOST_VERSION = 2**31 - 1
ROOT: dict[str, Any] = {
    "required": True,
    "type": root_fingerprint,
    "metavar": "sha256:…",
    "help": "the publisher's root, as the product embeds it",
}


def build(parser: argparse.ArgumentParser) -> None:
    group = verbs(parser)
    _products_and_keys(group)
    _activation(group)
    _telephone(group)
    _carrying(group)
    _looking(group)
    _service(group)
    _images(group)


def _products_and_keys(group: Any) -> None:
    add = _verb(
        group,
        "add-product",
        "installing.add_product",
        "add a product by the definition that came with it",
        about="A definition never introduces trust by itself: the root comes with the product, on another\n"
        "way than the file.  A newer definition of the same root replaces the older one; an older\n"
        "one, or one of another root, is refused.",
        examples=("volact client add-product acme-cad.volproduct --root sha256:5f0c… --min-version 3",),
    )
    add.add_argument("file", metavar="FILE", help="the product's definition (.volproduct)")
    add.add_argument("--root", **ROOT)
    add.add_argument("--min-version", **_version("refuse older definitions than this"))

    remove = _verb(
        group,
        "remove-product",
        "installing.remove_product",
        "forget a product, its licence included",
        examples=("volact client remove-product acme-cad",),
    )
    remove.add_argument("product", metavar="PRODUCT")

    key = _verb(
        group,
        "install-key",
        "installing.install_key",
        "install a product key",
        "ipk",
        "inpkey",
        about="A typing error is located by its group; nothing is installed then.  A key replaces the one before.",
        examples=(
            "volact client install-key acme-cad --generic                    # the definition's own volume key",
            "volact client install-key acme-cad --generic --edition server   # where there are several",
            "volact client install-key acme-cad --guest                      # in a virtual machine's image",
            "volact client install-key acme-cad - < key.txt                  # a key that no process list shows",
            "volact client ipk acme-cad XXXXX-XXXXX-XXXXX-XXXXX-XXXXX",
        ),
    )
    key.add_argument("product", metavar="PRODUCT")
    key.add_argument(
        "key", metavar="KEY", nargs="*", help="the key in any spelling, also as several words; - reads standard input"
    )
    key.add_argument("--generic", action="store_true", help="the volume key that is part of the product's definition")
    key.add_argument("--guest", action="store_true", help="the same for virtual machines that their host licenses")
    key.add_argument("--edition", metavar="EDITION", help="which edition, where a key fits several")

    remove = _verb(
        group,
        "remove-key",
        "installing.remove_key",
        "remove the product key",
        "upk",
        "unpkey",
        about="The licence stays stored: with the key back, it counts again.",
        examples=("volact client remove-key acme-cad",),
    )
    remove.add_argument("product", metavar="PRODUCT")


def _activation(group: Any) -> None:
    activate = _verb(
        group,
        "activate",
        "activating.activate",
        "ask an issuer for a licence now",
        "ato",
        "act",
        about="Volume keys ask KMS hosts: the configured host, else the last good one, then those that\n"
        "DNS names; other keys ask the publisher.  A failed attempt never changes a stored licence.\n"
        "Exit code 0: every product is licensed.  1: one is not, for instance while the count is\n"
        "below the threshold.",
        examples=(
            "volact client activate",
            "volact client ato acme-cad --host kms1.example.com:1688",
            "volact client activate acme-cad --json",
        ),
    )
    activate.add_argument("products", metavar="PRODUCT", nargs="*", help="default: every product that has a key")
    where = activate.add_mutually_exclusive_group()
    where.add_argument("--host", metavar="NAME[:PORT]", help="this KMS host, whatever is configured or published")
    where.add_argument("--publisher", metavar="URL", help="this publisher's service")

    back = _verb(
        group,
        "deactivate",
        "deactivate.deactivate",
        "give the activation of a MAK or retail key back",
        about="The licence and the key leave this machine at once, and the publisher gets a proof of it, over the\n"
        "network or as a file.  If it cannot be reached, the proof is kept for the next try.",
        examples=(
            "volact client deactivate acme-cad",
            "volact client deactivate acme-cad --file machine7.volreturn     # without a network",
        ),
    )
    back.add_argument("product", metavar="PRODUCT")
    how = back.add_mutually_exclusive_group()
    how.add_argument("--file", metavar="FILE", help="write the proof, to be carried to the publisher")
    how.add_argument("--publisher", metavar="URL", help="this publisher's service")

    left = _verb(
        group,
        "remaining",
        "deactivate.remaining",
        "ask the publisher how many activations of the installed key are left",
        examples=("volact client remaining acme-cad --json",),
    )
    left.add_argument("product", metavar="PRODUCT")
    left.add_argument("--publisher", metavar="URL", help="this publisher's service")

    host = _verb(
        group,
        "set-host",
        "installing.set_host",
        "choose where to look for KMS hosts",
        "skms",
        "sethst",
        examples=(
            "volact client set-host kms1.example.com        # this host only, no DNS records",
            "volact client skms '[2001:db8::5]:1700'",
            "volact client set-host --domain example.com    # the SRV records of this domain",
            "volact client set-host --resolver 192.0.2.53 --no-caching",
        ),
    )
    host.add_argument("host", metavar="NAME[:PORT]", nargs="?", help="this host and no other")
    host.add_argument("--domain", metavar="D", help="look up _volact._tcp in this domain, not in the DNS suffixes")
    host.add_argument("--resolver", metavar="IP[:PORT]", help="ask this DNS server instead of the system's")
    host.add_argument("--publisher", metavar="URL", help="the publisher's service, instead of the definition's")
    host.add_argument(
        "--mdns",
        action=argparse.BooleanOptionalAction,
        help="ask by multicast where DNS names no host (default: only on networks without DNS)",
    )
    host.add_argument("--caching", action=argparse.BooleanOptionalAction, help="try the last good host first (default)")

    _verb(
        group,
        "clear-host",
        "installing.clear_host",
        "back to discovery by DNS, all settings cleared",
        "ckms",
        "remhst",
        examples=("volact client clear-host",),
    )


def _telephone(group: Any) -> None:
    shown = _verb(
        group,
        "installation-id",
        "phone.installation_id",
        "show the digits to read out for an activation by telephone",
        "dti",
        "dinstid",
        about="For MAK and retail keys.  Each group has a check digit: a mistake is located at its group.\n"
        "The same digits are shown again for 14 days, while key and hardware are the same.",
        examples=("volact client installation-id acme-cad", "volact client installation-id acme-cad --qr"),
    )
    shown.add_argument("product", metavar="PRODUCT")
    form = shown.add_mutually_exclusive_group()
    form.add_argument("--qr", action="store_true", help="as a QR code, with the digits below it")
    form.add_argument("--text", action="store_true", help="in one line, to paste")
    shown.add_argument("--new", action="store_true", help="other digits than the last time")

    apply = _verb(
        group,
        "apply",
        "phone.apply",
        "type the confirmation ID that the publisher's desk answered with",
        "atp",
        "actcid",
        about="Without ID it is asked for group by group, and a wrong group is named at once.\n"
        "Exit code: 0 licensed; 1 not.",
        examples=(
            "volact client apply acme-cad",
            "volact client apply acme-cad - < confirmation.txt",
            "volact client apply acme-cad --file confirmation.txt",
            "volact client apply acme-cad --answer answer.json     # what answers `volact client request`",
        ),
    )
    apply.add_argument("product", metavar="PRODUCT")
    apply.add_argument(
        "confirmation", metavar="ID", nargs="*", help="all its digits, also as several words; - reads standard input"
    )
    apply.add_argument("--file", metavar="FILE", help="read the digits from a file")
    apply.add_argument("--answer", metavar="FILE", help="the publisher's answer to `request`; - reads standard input")


def _carrying(group: Any) -> None:
    asked = _verb(
        group,
        "request",
        "carrying.request",
        "make a sealed request that somebody else brings to the publisher",
        about="For MAK and retail keys on machines that reach no publisher.  Only the publisher can read it, and\n"
        "only this machine the answer.  The same request is given again while key and hardware are the same.",
        examples=("volact client request acme-cad --file request.json", "volact client request acme-cad --json"),
    )
    asked.add_argument("product", metavar="PRODUCT")
    asked.add_argument("--file", metavar="FILE", help="write the request to a file")
    asked.add_argument("--new", action="store_true", help="another request than the last time")

    kept = _verb(
        group,
        "backup",
        "carrying.make_backup",
        "seal this machine's key and perpetual licences to a vault, for the day it is set up anew",
        about="Restored on the same hardware, they license again without asking the publisher.",
        examples=("volact client backup --to x25519:…",),
    )
    kept.add_argument(
        "--to", required=True, metavar="x25519:…", help="the vault's public key (`volact fleet keys vault`)"
    )

    back = _verb(
        group,
        "restore",
        "carrying.restore",
        "put a backup back that the vault has opened; only on the hardware it was made on",
        about="Exit code: 0 every product in it is licensed; 1 not.",
        examples=("volact client restore - < opened-backup.json",),
    )
    back.add_argument("file", metavar="FILE", help="the opened backup; - reads standard input")


def _looking(group: Any) -> None:
    _verb(
        group,
        "status",
        "looking.status",
        "every product's state in a table",
        "dli",
        "dstatus",
        examples=("volact client status", "volact client status --json"),
    )
    info = _verb(
        group,
        "info",
        "looking.info",
        "everything about one product",
        "dlv",
        "dstatusall",
        examples=("volact client info acme-cad",),
    )
    info.add_argument("product", metavar="PRODUCT")

    expiry = _verb(
        group,
        "expiry",
        "looking.expiry",
        "when the present state ends",
        "xpr",
        examples=("volact client expiry", "volact client xpr acme-cad"),
    )
    expiry.add_argument("product", metavar="PRODUCT", nargs="?", help="default: every product")

    licence = _verb(
        group,
        "licence",
        "looking.licence",
        "print the stored licence, a compact JWS",
        examples=("volact client licence acme-cad > acme-cad.vollicence",),
    )
    licence.add_argument("product", metavar="PRODUCT")

    check = _verb(
        group,
        "check",
        "checking.check_product",
        "what the product itself sees; exit code 0 if licensed",
        about="With -- COMMAND it starts the command in its own place, unless the policy says limit or block; the\n"
        "command finds VOLACT_STATE, VOLACT_LICENSED, VOLACT_ENFORCEMENT, … in its environment.\n"
        "Exit code: the command's, or 1 where it was not started; without a command 0 licensed, 1 not.",
        examples=(
            "volact client check acme-cad --root sha256:5f0c… && echo licensed",
            "volact client check acme-cad --root sha256:5f0c… --wait 60         # as a container's readiness probe",
            "volact client check acme-cad --root sha256:5f0c… -- /opt/acme/cad drawing.dwg",
        ),
    )
    check.add_argument("product", metavar="PRODUCT")
    check.add_argument("--root", **ROOT)
    check.add_argument("--min-version", **_version("as the product embeds it"))
    check.add_argument("--wait", type=between(0, 86400), default=0, metavar="SECONDS", help="wait until it is licensed")
    check.set_defaults(command=None)
    vars(check)["takes_command"] = True  # what stands after -- is not ours to parse
    check.usage = (
        "volact client check [-h] [--dir DIR] [--json] --root sha256:… [--min-version N] [--wait SECONDS]\n"
        "                           PRODUCT [-- COMMAND ...]"
    )


def _service(group: Any) -> None:
    serve = _verb(
        group,
        "serve",
        "serving.serve",
        "run the licensing service: activate, renew and remind by itself, for every product",
        about="Sleeps until something is due.  After a failed attempt it answers changes of the network for 15\n"
        "minutes.  Products of any language ask its API, at a Unix socket.  SIGHUP: try again now.",
        examples=("volact client serve", "volact client serve --socket /run/acme/licence.sock"),
    )
    api = serve.add_mutually_exclusive_group()
    api.add_argument("--socket", metavar="PATH", help="where the local API listens (/run/volact/client.sock)")
    api.add_argument("--no-api", action="store_true", help="no local API")

    for verb, what, example in (
        ("install-service", "install the licensing service, and start it", "install-service --image /mnt/image"),
        ("remove-service", "stop the licensing service, and remove it", "remove-service"),
    ):
        one = _verb(
            group,
            verb,
            f"service.{verb.replace('-', '_')}",
            what,
            about="As this system starts such things: units of systemd, a daemon of launchd, or a scheduled task.",
            examples=(f"volact client {example}",),
        )
        one.add_argument("--image", type=path, metavar="DIR", help="in the file tree of a system, mounted here")
        one.add_argument("--program", metavar="PATH", help="how volact is started there (default: as it was now)")

    events = _verb(
        group,
        "events",
        "serving.events",
        "what the service and activations noted, oldest first",
        about="The same events are in the system's journal, under the IDs of docs/reference/events.md.",
        examples=("volact client events --last 20", "volact client events --product acme-cad --json"),
    )
    events.add_argument("--product", metavar="PRODUCT", help="of this product only")
    events.add_argument("--last", type=between(1, 100_000), default=1000, metavar="N", help="at most so many (1000)")


def _images(group: Any) -> None:
    prepare = _verb(
        group,
        "prepare",
        "preparing.prepare",
        "lay products, keys and settings of an answer file into this machine, or into an image",
        about="The whole file is checked before anything is changed; what is there already is brought up to date.\n"
        "In an image the grace period begins at the first start, which activates.",
        examples=(
            "volact client prepare answer.toml",
            "volact client prepare answer/ --image /mnt/image      # a folder with answer.toml and the definitions",
        ),
    )
    prepare.add_argument("file", metavar="FILE", help="the answer file, or a folder that holds answer.toml")
    prepare.add_argument("--image", type=path, metavar="DIR", help="the file tree of the system, mounted here")

    bind = _verb(
        group,
        "bind-tpm",
        "binding.bind_tpm",
        "make this machine's key in its TPM 2.0, so that a copied folder is of no use elsewhere",
        about="Before the first activation, or after `generalize`.  Needs the extra tpm.",
        examples=("volact client bind-tpm", "volact client bind-tpm --tcti swtpm:host=127.0.0.1,port=2321"),
    )
    bind.add_argument("--tcti", metavar="TCTI", help="how to reach the TPM (device:/dev/tpmrm0)")

    rearm = _verb(
        group,
        "rearm",
        "renewing.rearm",
        "let a product's grace period begin anew",
        about="As often as the product's policy allows (5 times), and once more after an activation.  What is\n"
        "licensed needs none.",
        examples=("volact client rearm acme-cad",),
    )
    rearm.add_argument("product", metavar="PRODUCT")

    general = _verb(
        group,
        "generalize",
        "renewing.generalize",
        "make this machine ready to be captured as an image",
        about="Takes away the machine's key and ID, its answers, and whom it asked.  Products, roots, keys and\n"
        "settings stay.  Each machine made from the image has an ID of its own from its first start on, and\n"
        "its grace period begins then, which uses up one rearm.",
        examples=("volact client generalize",),
    )
    general.add_argument("--force", action="store_true", help="also where a MAK or retail activation is lost by it")


def _version(help_text: str) -> dict[str, Any]:
    return {"type": between(0, MOST_VERSION), "default": 0, "metavar": "N", "help": help_text}


def _verb(
    group: Any, name: str, run: str, what: str, *aliases: str, about: str = "", examples: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """A verb; ``aliases`` are the names that administrators know from slmgr and ospp."""
    parser = add_verb(group, name, what, _Later(run), examples=examples, aliases=aliases)
    parser.description = "\n\n".join(part for part in (parser.description, about) if part)
    parser.set_defaults(parser=parser)
    return parser


class _Later:
    """A verb's function, ``module.function``, imported when it is called."""

    def __init__(self, name: str) -> None:
        self.module, self.function = name.split(".")

    def __call__(self, args: argparse.Namespace, env: Environment) -> int:
        code: int = getattr(importlib.import_module(f"{__name__}.{self.module}"), self.function)(args, env)
        return code
