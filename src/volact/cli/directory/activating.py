# SPDX-License-Identifier: Apache-2.0
"""``activate``, ``installation-id``, ``apply`` and ``renew``: getting an activation object into the directory."""

import argparse
import secrets
import socket
from typing import Any

from volact.cli.digits import read_id, write_id
from volact.cli.directory.shared import add_connection, connected, folder_of, read_host_key
from volact.cli.environment import Environment
from volact.cli.files import FileUnwritableError, read_file, write_file
from volact.cli.options import add_verb, root_fingerprint
from volact.core.activation_object import ActivationObject, show_groups
from volact.core.errors import ConfigError, InputError
from volact.core.exchange import MAX_FILE, AnswerFile
from volact.core.fingerprint import Fingerprint
from volact.core.forest import Forest
from volact.core.phone import (
    CONFIRMATION,
    CONFIRMATION_GROUPS,
    REFERENCE_DIGITS,
    ConfirmationId,
    PhoneReferenceError,
    parse_confirmation_group,
    read_digits,
)
from volact.core.product_key import ProductKey
from volact.core.request import MOST_OBJECT_NAME
from volact.directory import activation, objects, phone, prepare
from volact.directory.activation import Wanted
from volact.directory.connection import Session
from volact.directory.errors import NotPreparedError
from volact.directory.folder import DirectoryFolder
from volact.directory.place import Place
from volact.sealing.jws import MAX_TOKEN
from volact.sealing.objects import TrustedObject
from volact.wire.client import Server as PublisherServer


class NoPublisherUrlError(ConfigError):
    code = "directory-no-publisher"
    fmt = "the definition of {product} names no activation service of its publisher"
    remedy = "name it (--publisher URL), or go by file: `volact directory installation-id`"


class ObjectNameError(InputError):
    code = "object-name"
    fmt = "{name!r} cannot be the name of an activation object"
    remedy = f"use at most {MOST_OBJECT_NAME} printable characters"


class RootMissingError(ConfigError):
    code = "directory-root-missing"
    fmt = "a definition says itself whose it is, and whoever made it chose what it says"
    remedy = "give the publisher's root as the publisher tells it: --root sha256:…"


def build(group: Any) -> None:
    activate = add_verb(
        group,
        "activate",
        "have the publisher make an activation object for this forest, and store it",
        run_activate,
        examples=[
            "volact directory activate --definition acme.volproduct --root sha256:… --name 'Head office'",
            "volact directory activate --key-file host.key --publisher http://activation.acme.example:1690",
        ],
    )
    request = add_verb(
        group,
        "installation-id",
        "show the digits to read to the publisher's desk; or write a request to carry there",
        run_request,
        aliases=["request"],
        examples=[
            "volact directory installation-id --key-file host.key        # digits: read them out …",
            "volact directory apply                                      # … and type what the desk answers",
            "volact directory installation-id --key-file host.key -o forest.volreq       # a file instead",
            "volact publisher answer forest.volreq -o forest.volans      # the publisher answers it",
            "volact directory apply forest.volans                        # and the answer is applied",
        ],
    )
    form = request.add_mutually_exclusive_group()
    form.add_argument("-o", "--output", metavar="FILE", help="write a request file to carry, and show no digits")
    form.add_argument("--text", action="store_true", help="print the digits in one line, to paste")
    form.add_argument("--qr", action="store_true", help="print them as a QR code, with the digits below it")
    request.add_argument("--new", action="store_true", help="other digits, where those shown before are not answered")
    for verb in (activate, request):
        verb.add_argument("--name", default="", metavar="NAME", help="what to call the object; it stays so")
        _add_key(verb)
    apply = add_verb(
        group,
        "apply",
        "store the activation object that digits or an answer file make",
        run_apply,
        examples=[
            "volact directory apply                                      # the digits are asked for, group by group",
            "volact directory apply 0072385-9925617-…                    # or given at once; - reads them from stdin",
            "volact directory apply forest.volans                        # the answer file",
        ],
    )
    apply.add_argument("answer", metavar="ID|FILE", nargs="*", help="a confirmation ID, or an answer file")
    apply.add_argument("--replace", metavar="OBJECT", help="then remove this object, which the new one renews")
    renew = add_verb(
        group,
        "renew",
        "replace an activation object by one of the same name that lasts anew",
        run_renew,
        examples=["volact directory renew 'Head office' --key-file host.key"],
    )
    renew.add_argument("object", metavar="OBJECT", help="its name or ID")
    _add_key(renew)
    for verb in (activate, renew):
        verb.add_argument("--publisher", metavar="URL", help="the publisher's service (default: the definition's)")
    for verb in (activate, request, apply, renew):
        add_connection(verb)


def run_activate(args: argparse.Namespace, env: Environment) -> int:
    folder = folder_of(args, env)
    key = _prepare_key(args, env, folder)
    with connected(args, env) as (session, place):
        objects.check_writable(session, place)
        made = _ask(args, env, folder, place, key, _name(args.name))
        dn = _store(session, place, made)
    return _show(env, made.object, dn)


def run_request(args: argparse.Namespace, env: Environment) -> int:
    folder = folder_of(args, env)
    key = _prepare_key(args, env, folder)
    with connected(args, env) as (_, place):
        wanted = _wanted(env, folder, place, key, _name(args.name))
    return _write_request(args, env, folder, wanted) if args.output else _show_digits(args, env, folder, wanted)


def run_apply(args: argparse.Namespace, env: Environment) -> int:
    folder = folder_of(args, env)
    by_file = bool(args.answer) and not _is_digits(" ".join(args.answer))
    made = _read_file(args, folder) if by_file else _read_digits(args, env, folder)
    with connected(args, env) as (session, place):
        made.object.check(_forest(place), min(made.object.groups), env.clock())
        old = objects.find_object(session, place, args.replace) if args.replace else None
        dn = _store(session, place, made)
        if old is not None:
            session.delete(old.dn)
    folder.remove_pending(made.object.id)
    folder.remove_call(made.object.id)
    return _show(env, made.object, dn)


def _write_request(args: argparse.Namespace, env: Environment, folder: DirectoryFolder, wanted: Wanted) -> int:
    before = set(folder.pendings())
    request = activation.write_request(folder, wanted, env.clock())
    try:
        write_file(args.output, request.to_bytes())
    except FileUnwritableError:
        for new in set(folder.pendings()) - before:  # nobody can answer what was written nowhere
            folder.remove_pending(new)
        raise
    if env.json:
        env.write_json({"request": args.output, "forest": wanted.forest.to_claim()})
        return 0
    env.say(f"wrote the request for {wanted.forest.name} to {args.output}")
    env.hint("bring it to the publisher, and its answer back: `volact directory apply FILE`")
    return 0


def _show_digits(args: argparse.Namespace, env: Environment, folder: DirectoryFolder, wanted: Wanted) -> int:
    call = phone.installation_id(folder, wanted, env.clock(), secrets.token_bytes, new=args.new)
    groups = call.installation.groups
    if env.json:
        about = {"forest": call.forest.to_claim(), "product": call.product, "product_groups": sorted(call.groups)}
        env.write_json({"installation_id": str(call.installation), "groups": list(groups), **about})
        return 0
    write_id(env, groups, text=args.text, qr=args.qr)
    env.hint(f"read these {len(groups)} groups to the publisher's desk, with the last five symbols of the host key")
    env.hint("then type what it answers: `volact directory apply`")
    return 0


def _read_file(args: argparse.Namespace, folder: DirectoryFolder) -> TrustedObject:
    return activation.read_answer(folder, AnswerFile.from_bytes(read_file(" ".join(args.answer), MAX_FILE)))


def _read_digits(args: argparse.Namespace, env: Environment, folder: DirectoryFolder) -> TrustedObject:
    references = {call.installation.reference for call in phone.waiting(folder)}

    def check(first: str) -> None:
        if int(first[:REFERENCE_DIGITS]) not in references:
            raise PhoneReferenceError()

    given = " ".join(args.answer) or None
    text = read_id(env, given, CONFIRMATION_GROUPS, parse_confirmation_group, check)
    return phone.read_confirmation(folder, ConfirmationId.parse(text))


def _is_digits(text: str) -> bool:
    """A file has a name with something else in it; - is the standard input."""
    try:
        return text == "-" or bool(read_digits(text, CONFIRMATION))
    except InputError:
        return False


def run_renew(args: argparse.Namespace, env: Environment) -> int:
    folder = folder_of(args, env)
    key = _prepare_key(args, env, folder)
    with connected(args, env) as (session, place):
        old = objects.find_object(session, place, args.object)
        objects.check_writable(session, place)
        made = _ask(args, env, folder, place, key, old.claimed.name if old.claimed else "")
        dn = _store(session, place, made)
        session.delete(old.dn)  # last: a member that reads meanwhile finds one of them
    return _show(env, made.object, dn)


def _add_key(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--key-file", metavar="FILE", help="its first line is the KMS host key (-: stdin; else asked)")
    verb.add_argument("--definition", metavar="FILE", help="a definition of the key's publisher, kept for next time")
    verb.add_argument(
        "--root", type=root_fingerprint, metavar="sha256:…", help="the publisher's root, as the publisher tells it"
    )


def _prepare_key(args: argparse.Namespace, env: Environment, folder: DirectoryFolder) -> ProductKey:
    if args.definition:
        if not args.root:
            raise RootMissingError()
        token = read_file(args.definition, MAX_TOKEN).decode("ascii", "replace")
        folder.add_definition(token, args.root)
    key = read_host_key(args, env)
    activation.definition_for(folder, key)
    return key


def _ask(
    args: argparse.Namespace, env: Environment, folder: DirectoryFolder, place: Place, key: ProductKey, name: str
) -> TrustedObject:
    definition = activation.definition_for(folder, key).definition
    url = args.publisher or definition.url
    if url is None:
        raise NoPublisherUrlError(product=definition.product)
    wanted = _wanted(env, folder, place, key, name)
    return activation.activate_online(folder, wanted, PublisherServer.from_url(url), env.clock())


def _wanted(env: Environment, folder: DirectoryFolder, place: Place, key: ProductKey, name: str) -> Wanted:
    root = activation.definition_for(folder, key).trust.fingerprint
    computer = env.hostname()
    full = computer if "." in computer else socket.getfqdn(computer)
    fingerprint = Fingerprint.of(env.traits(), bytes.fromhex(root.removeprefix("sha256:")))
    return Wanted(_forest(place), name, key, full, fingerprint)


def _forest(place: Place) -> Forest:
    if place.forest is None:
        raise NotPreparedError(dn=place.container)
    return place.forest


def _store(session: Session, place: Place, made: TrustedObject) -> str:
    standard = not prepare.is_extended(session, place)
    return objects.store_object(session, place, made.object, made.token, standard=standard)


def _name(text: str) -> str:
    if len(text) > MOST_OBJECT_NAME or not text.isprintable():
        raise ObjectNameError(name=text[:80])
    return text


def _show(env: Environment, made: ActivationObject, dn: str) -> int:
    if env.json:
        env.write_json(
            {
                "id": made.id,
                "name": made.name,
                "dn": dn,
                "forest": made.forest.name,
                "groups": sorted(made.groups),
                "expires": env.json_time(made.expires_at),
            }
        )
        return 0
    env.say(f"stored {dn}")
    env.say(f"it activates product groups {show_groups(made.groups)} in {made.forest.name}")
    env.say(f"it ends on {env.show_time(made.expires_at)}; renew it before: `volact directory renew`")
    env.hint("other domain controllers have it after replication; computers read it when they start")
    return 0
