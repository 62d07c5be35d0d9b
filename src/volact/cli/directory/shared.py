# SPDX-License-Identifier: Apache-2.0
"""What the verbs of ``volact directory`` share: which directory, and as whom."""

import argparse
import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from volact.cli.environment import Environment
from volact.core.errors import ConfigError, InputError, VolactError
from volact.core.forest import ForestKind
from volact.core.product_key import ProductKey
from volact.directory.connection import Credentials, Password, Server, Session, Ticket, connect
from volact.directory.errors import DirectoryUnreachableError, KeytabError, NotMemberError
from volact.directory.folder import DirectoryFolder
from volact.directory.locate import (
    LDAP_PORT,
    LDAPS_PORT,
    find_controllers,
    machine_account,
    parse_servers,
    ticket_owner,
)
from volact.directory.place import Place, find_place

MAX_SECRET_FILE = 4096


class DomainMissingError(ConfigError):
    code = "directory-domain-missing"
    fmt = "it is not known which directory is meant"
    remedy = "name the domain (--domain ad.example.com) or a server (--server dc1.ad.example.com)"


class LdapOptionsError(ConfigError):
    code = "directory-ldap-options"
    fmt = "a plain LDAP directory (--base) needs {missing}"
    remedy = "give --server NAME, --ca-file FILE and --user DN"


class SecretMissingError(ConfigError):
    code = "directory-secret-missing"
    fmt = "{what} is needed and there is no terminal to ask at"
    remedy = "put it in the first line of a file that only you can read, and give {option} FILE"


class SecretFileError(InputError):
    code = "directory-secret-file"
    fmt = "cannot read {what} from {path}: {why}"
    remedy = "give a file whose first line it is"


def add_connection(verb: argparse.ArgumentParser) -> None:
    place = verb.add_argument_group("which directory, and as whom")
    place.add_argument(
        "--domain", metavar="DOMAIN", help="Active Directory domain (default: the user's, else the computer's)"
    )
    place.add_argument(
        "--server", metavar="NAME[:PORT],…", help="this server, or the first that is up (default: by DNS)"
    )
    place.add_argument("--base", metavar="DN", help="a plain LDAP directory, below this entry")
    place.add_argument("--ca-file", metavar="FILE", help="the authority of the directory's TLS certificate")
    place.add_argument("--user", metavar="NAME", help="NAME@DOMAIN or DN (default: the owner of the Kerberos ticket)")
    place.add_argument("--password-file", metavar="FILE", help="its first line is the user's password (else asked)")


@contextmanager
def connected(args: argparse.Namespace, env: Environment) -> Iterator[tuple[Session, Place]]:
    """A session with the directory that the options name, and the place in it."""
    with session(args, env) as opened:
        yield opened, find_place(opened, args.base)


@contextmanager
def session(args: argparse.Namespace, env: Environment) -> Iterator[Session]:
    credentials = _credentials(args, env)
    kind = ForestKind.AD if args.base is None else ForestKind.LDAP
    failed: VolactError | None = None
    for server in _servers(args, credentials):
        try:
            manager = connect(server, credentials, kind)
            opened = manager.__enter__()
        except DirectoryUnreachableError as exc:  # the next controller may be up
            failed = failed or exc
            continue
        try:
            yield opened
        finally:
            manager.__exit__(None, None, None)
        return
    raise failed or DomainMissingError()


def folder_of(args: argparse.Namespace, env: Environment) -> DirectoryFolder:
    return DirectoryFolder(env.folder("directory", args.dir))


def read_host_key(args: argparse.Namespace, env: Environment) -> ProductKey:
    """The KMS host key: from a file, from stdin, or at the prompt; never from the command line."""
    return ProductKey.parse(_secret(args.key_file, env, "KMS host key", "--key-file"))


def _credentials(args: argparse.Namespace, env: Environment) -> Credentials:
    if args.user is None:
        if args.base is not None:
            raise LdapOptionsError(missing="--user")
        return Ticket(str(ticket_owner() or ""))
    return Password(args.user, _secret(args.password_file, env, f"password of {args.user}", "--password-file"))


def _servers(args: argparse.Namespace, credentials: Credentials) -> list[Server]:
    tls = isinstance(credentials, Password)
    ca_file = Path(args.ca_file) if args.ca_file else None
    if args.server:
        default = LDAPS_PORT if tls else LDAP_PORT
        return [Server(name, port or default, tls, ca_file) for name, port in parse_servers(args.server)]
    if args.base is not None:
        raise LdapOptionsError(missing="--server")
    found = find_controllers(_domain(args, credentials))
    return [replace(one, port=LDAPS_PORT, tls=True, ca_file=ca_file) if tls else one for one in found]


def _domain(args: argparse.Namespace, credentials: Credentials) -> str:
    if args.domain:
        return str(args.domain)
    user = credentials.user if isinstance(credentials, Password) else str(credentials)
    if "@" in user:
        return user.rpartition("@")[2].lower()
    try:
        return machine_account().realm.lower()
    except (NotMemberError, KeytabError):  # the latter where who asks may not read it, as administrators may not
        raise DomainMissingError() from None


def _secret(path: str | None, env: Environment, what: str, option: str) -> str:
    if path == "-":
        return env.stdin.readline(MAX_SECRET_FILE).rstrip("\r\n")
    if path is not None:
        try:
            with Path(path).open(encoding="utf-8") as file:
                return file.readline(MAX_SECRET_FILE).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            why = getattr(exc, "strerror", None) or "it is not text"
            raise SecretFileError(what=what, path=path, why=why) from None
    if not env.stdin.isatty():
        raise SecretMissingError(what=what, option=option)
    return getpass.getpass(f"{what[0].upper()}{what[1:]}: ", stream=env.stderr)
