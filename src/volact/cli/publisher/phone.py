# SPDX-License-Identifier: Apache-2.0
"""``volact publisher phone``: the desk.  Digits are typed along, the customer is shown, the answer is read out.

Each question that an option does not answer is asked for at the terminal; in a script it is an error.
"""

import argparse

from volact.cli.digits import read_id, write_id
from volact.cli.environment import Environment
from volact.cli.publisher.shared import Verbs, actor, add_verb, folder, open_publisher, read_passphrase
from volact.core.errors import ConfigError
from volact.core.phone import INSTALLATION_GROUPS, parse_installation_group
from volact.core.phone_site import AnyInstallationId, SiteKind, parse_installation_id
from volact.publisher.answering.phone import AnyCall, Call, Confirmed, PhoneDesk
from volact.publisher.answering.phone_sites import SiteCall, SiteConfirmed
from volact.publisher.folder import phone_key
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.rules.issuing import Kind

_KINDS = {
    Kind.ACTIVATED: "activated, one activation used",
    Kind.REACTIVATED: "this machine held an activation before",
    Kind.REPEATED: "the same answer as before: nothing was used",
}


_NOUNS = {SiteKind.KMS_HOST: "KMS host", SiteKind.VM_HOST: "VM host", SiteKind.FOREST: "forest"}
_COMMANDS = {SiteKind.KMS_HOST: "volact host", SiteKind.VM_HOST: "volact vm", SiteKind.FOREST: "volact directory"}


class AnswerMissingError(ConfigError):
    code = "phone-answer-missing"
    fmt = "{what} is needed and there is no terminal to ask at"
    remedy = "give {option}"


def build(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "phone",
        _phone,
        "answer a caller's installation ID with a confirmation ID",
        """
volact publisher phone
volact publisher phone --installation-id 0081687-2775743-… --key 33GJK --reason "no internet in the vault"
volact publisher phone --make-key""",
        passphrase=True,
    )
    parser.add_argument("--installation-id", metavar="ID", help="all its digits; - reads them from standard input")
    parser.add_argument("--key", metavar="KEY", help="the caller's product key, or its last five symbols")
    parser.add_argument("--reason", metavar="TEXT", help="who called and why, for the ledger")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="print the confirmation ID in one line, to paste")
    form.add_argument("--qr", action="store_true", help="print it as a QR code, with the digits below it")
    form.add_argument("--make-key", action="store_true", help="make the phone key of a publisher that has none")


def _phone(args: argparse.Namespace, env: Environment) -> int:
    if args.make_key:
        return _make_key(args, env)
    passphrase = read_passphrase(args, env)
    with open_publisher(args, env) as publisher:
        desk = PhoneDesk.open(publisher, phone_key.load(publisher.folder.path, passphrase))
        call: AnyCall = desk.look_up(_installation_id(args, env))
        if not env.json:
            _show_site_call(call, env) if isinstance(call, SiteCall) else _show_call(call, env)
        key = _answer(args.key, "--key", "The last five symbols of the key, as the caller reads them", env)
        reason = _answer(args.reason, "--reason", "Who called, and why by telephone", env)
        confirmed = desk.confirm(call, key, reason, env.clock(), actor(env))
    if isinstance(call, SiteCall):
        assert isinstance(confirmed, SiteConfirmed)
        _show_site(call, confirmed, args, env)
    else:
        assert isinstance(confirmed, Confirmed)
        _show(call, confirmed, args, env)
    return 0


def _make_key(args: argparse.Namespace, env: Environment) -> int:
    path = PublisherFolder.open(folder(args, env)).path
    public = phone_key.add(path, read_passphrase(args, env)).public
    if env.json:
        env.write_json({"phone_key": public.hex()})
    else:
        env.say("made the phone key")
        env.hint("add a new version of each product, so that its definition names the key")
    return 0


def _installation_id(args: argparse.Namespace, env: Environment) -> AnyInstallationId:
    if args.installation_id is None and not env.stdin.isatty():
        raise AnswerMissingError(what="the installation ID", option="--installation-id ID")
    return parse_installation_id(read_id(env, args.installation_id, INSTALLATION_GROUPS, parse_installation_group))


def _answer(given: str | None, option: str, question: str, env: Environment) -> str:
    if given is not None:
        return given
    if not env.stdin.isatty():
        raise AnswerMissingError(what=question[0].lower() + question[1:], option=option)
    env.stderr.write(f"{question}: ")
    env.stderr.flush()
    return env.stdin.readline().strip()


def _show_call(call: Call, env: Environment) -> None:
    """On stderr: it is for the operator, the data is the confirmation ID."""
    key, held = call.key, call.held
    env.say(f"customer: {key.organisation}")
    env.say(f"product: {call.definition.name}, {call.edition.name}")
    left = f"{key.remaining} of {key.activations} activations left"
    env.say(f"key: {key.channel} key ending in …{key.partial[-2:]}, {left}{_state(call)}")
    env.say(f"asked for on: {env.json_time(call.installation.requested_at)[:10]} (UTC)")  # type: ignore[index]
    if held is not None:
        env.say(f"this machine holds an activation since {env.show_time(held.first_at)}")


def _state(call: AnyCall) -> str:
    if call.key.blocked_at is None:
        return ""
    return f", blocked: {call.key.blocked_reason}" if call.key.blocked_reason else ", blocked"


def _show_site_call(call: SiteCall, env: Environment) -> None:
    key, what = call.key, _NOUNS[call.installation.kind]
    env.say(f"customer: {key.organisation}")
    names = {group.number: group.name for group in call.definition.groups}
    groups = ", ".join(f"{names[one]} ({one})" if one in names else str(one) for one in sorted(call.subject.groups))
    env.say(f"for a {what}: {call.definition.name}, product groups {groups}")
    env.say(f"key: {key.channel} key ending in …{key.partial[-2:]}, {_places(call)}{_state(call)}")
    env.say(f"asked for on: {env.json_time(call.installation.begins_at)[:10]} (UTC)")  # type: ignore[index]
    if call.held:
        env.say(f"this {what} has one of the places")


def _places(call: SiteCall) -> str:
    return f"{call.places} of {call.limit} {_NOUNS[call.installation.kind]}s in use"


def _show_site(call: SiteCall, confirmed: SiteConfirmed, args: argparse.Namespace, env: Environment) -> None:
    key, kind = confirmed.key, call.installation.kind
    if env.json:
        env.write_json(
            {
                "confirmation_id": str(confirmed.confirmation),
                "groups": list(confirmed.confirmation.groups),
                "kind": confirmed.kind,
                "for": kind,
                "organisation": key.organisation,
                "product": call.definition.product,
                "product_groups": sorted(call.subject.groups),
                "key_id": key.key_id,
                "partial": key.partial,
                "ends": env.json_time(confirmed.ends_at),
                "revocation_id": confirmed.revocation_id,
            }
        )
        return
    env.say(f"{confirmed.kind}, until {env.show_time(confirmed.ends_at)}")
    write_id(env, confirmed.confirmation.groups, text=args.text, qr=args.qr)
    if not (args.text or args.qr):
        env.hint(f"read it out group by group; the caller types it with `{_COMMANDS[kind]} apply`")


def _show(call: Call, confirmed: Confirmed, args: argparse.Namespace, env: Environment) -> None:
    groups, key = confirmed.confirmation.groups, confirmed.key
    if env.json:
        env.write_json(
            {
                "confirmation_id": str(confirmed.confirmation),
                "groups": list(groups),
                "kind": confirmed.kind,
                "organisation": key.organisation,
                "product": call.definition.product,
                "edition": call.edition.id,
                "key_id": key.key_id,
                "partial": key.partial,
                "remaining": key.remaining,
            }
        )
        return
    env.say(f"{_KINDS[confirmed.kind]}; {key.remaining} of {key.activations} are left")
    write_id(env, groups, text=args.text, qr=args.qr)
    if not (args.text or args.qr):
        env.hint("read it out group by group; the caller types it with `volact client apply PRODUCT`")
