# SPDX-License-Identifier: Apache-2.0
"""``member``: how this computer reaches its directory, where its keytab does not say it all."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from volact.cli.directory.shared import LdapOptionsError
from volact.cli.environment import Environment
from volact.cli.options import add_verb
from volact.client.folder.files import find_folder
from volact.core.errors import InputError, VolactError
from volact.directory.door import DirectoryDoor, DoorSettings
from volact.directory.locate import SYSTEM_KEYTAB, is_site, parse_servers
from volact.directory.plug import SETTINGS, SITE
from volact.directory.settings import MemberSettingsError, load_settings, save_settings
from volact.directory.site import load_site


class SiteNameError(InputError):
    code = "directory-site-name"
    fmt = "{text!r} cannot be the name of a site"
    remedy = "write it as Active Directory Sites and Services shows it: letters, digits and hyphens"


def build(group: Any) -> None:
    verb = add_verb(
        group,
        "member",
        "show or set how this computer reaches its directory",
        run,
        examples=[
            "volact directory member                        # what it is now",
            "volact directory member --keytab /etc/volact/machine.keytab",
            "volact directory member --base dc=example,dc=com --server ldap.example.com --ca-file ca.pem \\",
            "    --user cn=pc1,ou=machines,dc=example,dc=com --password-file /etc/volact/ldap.secret",
            "volact directory member --site Branch          # where only a read-only domain controller is reached",
            "volact directory member --off                  # activate without the directory",
        ],
    )
    verb.add_argument("--keytab", metavar="FILE", help=f"the computer's Kerberos keys (default: {SYSTEM_KEYTAB})")
    verb.add_argument("--domain", metavar="DOMAIN", help="its domain (default: the keytab's)")
    verb.add_argument("--site", metavar="SITE", help="its site, whose controllers are asked first (default: found)")
    verb.add_argument(
        "--server", metavar="NAME[:PORT],…", help="this server, or the first that is up (default: by DNS)"
    )
    verb.add_argument("--base", metavar="DN", help="a plain LDAP directory, below this entry")
    verb.add_argument("--ca-file", metavar="FILE", help="the authority of its TLS certificate")
    verb.add_argument("--user", metavar="DN", help="the computer's account in it")
    verb.add_argument("--password-file", metavar="FILE", help="whose first line is that account's password")
    switch = verb.add_mutually_exclusive_group()
    switch.add_argument("--off", action="store_true", help="do not ask a directory")
    switch.add_argument("--default", action="store_true", help="as a computer that was told nothing")


def run(args: argparse.Namespace, env: Environment) -> int:
    """The folder is the client's: what is set here is what its licensing service reads."""
    path = find_folder(env.variables, args.dir) / SETTINGS
    wanted = _wanted(args)
    if args.off:
        save_settings(path, None)
    elif args.default:
        path.unlink(missing_ok=True)
    elif wanted:
        save_settings(path, replace(_kept(path, wanted), **wanted))
    return _show(env, load_settings(path), load_site(path.with_name(SITE)))


def _kept(path: Path, wanted: dict[str, Any]) -> DoorSettings:
    """What stays of the settings before: all that was not said anew, unless it is of the other kind of directory."""
    try:
        before = load_settings(path) or DoorSettings()
    except MemberSettingsError:  # damaged: what is said now replaces it
        return DoorSettings()
    of_domains = any(name in wanted for name in ("keytab", "domain", "site"))
    return DoorSettings() if "base" in wanted or (before.base is not None and of_domains) else before


def _wanted(args: argparse.Namespace) -> dict[str, Any]:
    wanted = {name: getattr(args, name) for name in ("domain", "base", "user") if getattr(args, name)}
    for name in ("keytab", "ca_file", "password_file"):
        if getattr(args, name):
            wanted[name] = Path(getattr(args, name)).resolve()
    if args.site:
        if not is_site(args.site):
            raise SiteNameError(text=args.site)
        wanted["site"] = args.site
    if args.server:
        parse_servers(args.server)
        wanted["server"], wanted["port"] = args.server, None
    missing = [name for name in ("server", "ca_file", "user", "password_file") if name not in wanted]
    if args.base and missing:
        raise LdapOptionsError(missing=", ".join(f"--{name.replace('_', '-')}" for name in missing))
    return wanted


def _show(env: Environment, settings: DoorSettings | None, found: str | None) -> int:
    account, why = None, "the directory is not asked: `volact directory member --default` changes that"
    if settings is not None:
        try:
            account, why = DirectoryDoor(settings).account(), ""
        except VolactError as exc:
            why = str(exc)
    values = {name: str(value) for name, value in asdict(settings).items() if value is not None} if settings else {}
    looks = settings is not None and settings.site is settings.server is settings.base is None
    if env.json:
        known = {"enabled": settings is not None, "account": account, "why": why or None}
        env.write_json({**known, "site_found": found if looks else None, **values})
        return 0
    facts = [("account", account), *((name.replace("_", " "), value) for name, value in values.items())]
    env.facts([*facts, ("site", f"{found}, found by the forest's subnets")] if account and looks and found else facts)
    if why:
        env.say(why)
    return 0
