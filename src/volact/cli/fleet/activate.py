# SPDX-License-Identifier: Apache-2.0
"""``volact fleet activate``: machines of every kind in one go, each product by its own way."""

import argparse
from typing import Any

from volact.cli.environment import Environment
from volact.cli.fleet.opening import add_machines, chosen, run_job, verb
from volact.fleet.activation.activate import Kms, Way

_KMS_HELP = "tell machines with a volume key where hosts are: auto (DNS), domain:NAME, or a host NAME[:PORT]"


def build(group: Any) -> None:
    activate = verb(
        group,
        "activate",
        run_activate,
        "activate machines, each product by its own way: KMS, directory, retail, MAK, proxy, backup",
        "volact fleet activate --filter 'state!=licensed'",
        "volact fleet activate --all                                  # what is licensed already is left alone",
        "volact fleet activate --kms kms1.example.com:1688 --filter 'tag=office'",
        "volact fleet activate --mak proxy --keep --filter 'tag=plant'    # machines that reach no publisher",
        secret=True,
    )
    activate.add_argument("--product", metavar="PRODUCT", help="this product only")
    activate.add_argument(
        "--mak",
        choices=[str(Way.INDEPENDENT), str(Way.PROXY)],
        default=str(Way.INDEPENDENT),
        help="who asks the publisher about MAK and retail keys: the machine (default), or the fleet for it",
    )
    activate.add_argument("--kms", metavar="WHERE", help=_KMS_HELP)
    activate.add_argument("--publisher", metavar="URL", help="the publisher's service (default: the definition's)")
    activate.add_argument("--keep", action="store_true", help="let machines seal a backup to the vault afterwards")
    activate.add_argument(
        "--no-restore", action="store_true", help="do not put backups of reimaged machines back first"
    )
    activate.add_argument("--force", action="store_true", help="also what is licensed already")
    add_machines(activate)


def run_activate(args: argparse.Namespace, env: Environment) -> int:
    kms, name = _kms(args.kms)
    options = {
        "product": args.product,
        "mak": args.mak,
        "kms": kms,
        "kms_name": name,
        "publisher": args.publisher,
        "restore": not args.no_restore,
        "keep": args.keep,
        "force": args.force,
    }
    return run_job(
        args,
        env,
        lambda fleet: fleet.activate(**chosen(args), wait=False, dry_run=args.dry_run, **options),
    )


def _kms(text: str | None) -> tuple[str, str | None]:
    """What was said about KMS hosts, as the job's options have it."""
    if text is None:
        return str(Kms.KEEP), None
    if text == Kms.AUTOMATIC:
        return str(Kms.AUTOMATIC), None
    kind, _, name = text.partition(":")
    if kind == Kms.DOMAIN:  # a host of that name is said with its port: there is no other "domain"
        return str(Kms.DOMAIN), name
    return str(Kms.HOST), text
