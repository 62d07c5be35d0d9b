# SPDX-License-Identifier: Apache-2.0
"""``volact publisher hardware``: where the signing keys are; and the options of ``init`` that put them there."""

import argparse
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.cli.publisher.shared import Verbs, add_family, add_verb, folder
from volact.core.errors import ConfigError, VolactError
from volact.publisher.folder.hardware import ROOT, SIGNING_KEYS, KeyState, tokens_of
from volact.publisher.folder.opening import PublisherFolder
from volact.sealing.pkcs11 import TokenPlace

OPTIONS = ("pkcs11_module", "token", "pin_file")


class TokenOptionsError(ConfigError):
    code = "token-options"
    fmt = "keys in a token need --pkcs11-module, --token and --pin-file; {missing} is missing"
    remedy = "give all three, or none of them to keep the keys in encrypted files"


def build(verbs: Verbs) -> None:
    family = add_family(verbs, "hardware", "the signing keys, in files or in PKCS#11 tokens")
    add_verb(
        family,
        "show",
        _show,
        "show where each signing key is, and let those in tokens sign",
        "volact publisher hardware show --json",
    )


def add_token_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("keys in a PKCS#11 token")
    group.add_argument("--pkcs11-module", metavar="PATH", help="the library that speaks to the token")
    group.add_argument("--token", metavar="LABEL", help="the token by its label")
    group.add_argument("--pin-file", metavar="FILE", help="first line: the token's user PIN; read at each start")
    group.add_argument(
        "--token-keys",
        metavar="NAMES",
        default=",".join(SIGNING_KEYS),
        help="which keys, joined by commas (default: %(default)s)",
    )
    group.add_argument("--root-token", metavar="LABEL", help="another token for the root's key, to be kept offline")
    group.add_argument("--root-pin-file", metavar="FILE", help="its PIN, where it has another")


def tokens_given(args: argparse.Namespace) -> dict[str, TokenPlace]:
    """The places of the keys that go into tokens, by the key's name."""
    given = [name for name in OPTIONS if getattr(args, name)]
    if not given and not args.root_token:
        return {}
    missing = next((name for name in OPTIONS if name not in given), None)
    if missing is not None:
        raise TokenOptionsError(missing=f"--{missing.replace('_', '-')}")
    pin_file = str(Path(args.pin_file).absolute())
    tokens = tokens_of(args.token_keys.split(","), TokenPlace(args.pkcs11_module, args.token, pin_file))
    if args.root_token:
        pin_file = str(Path(args.root_pin_file or args.pin_file).absolute())
        tokens[ROOT] = TokenPlace(args.pkcs11_module, args.root_token, pin_file)
    return tokens


def _show(args: argparse.Namespace, env: Environment) -> int:
    publisher = PublisherFolder.open(folder(args, env))
    states = [(state, _problem(state, certificate)) for state, certificate in publisher.signing_keys()]
    if args.json:
        env.write_json([_as_json(*one) for one in states])
    else:
        rows = [(state.name, state.place, _where(state), problem or "ok") for state, problem in states]
        env.table(("key", "in", "where", "state"), rows)
    return 1 if any(problem for state, problem in states if state.name != ROOT) else 0


def _problem(state: KeyState, certificate: Any) -> str:
    """Empty where all is well; the root's token is meant to be elsewhere most of the time."""
    try:
        state.probe(certificate)
    except VolactError as exc:
        return str(exc)
    return ""


def _where(state: KeyState) -> str:
    if state.reference is not None:
        place = state.reference.place
        return f"token {place.token!r} of {place.module}, ID {state.reference.id.hex()}"
    return str(state.path)


def _as_json(state: KeyState, problem: str) -> dict[str, Any]:
    reference = state.reference
    token = None
    if reference is not None:
        place = reference.place
        token = {"module": place.module, "label": place.token, "object": reference.label, "id": reference.id.hex()}
    return {"key": state.name, "in": state.place, "path": str(state.path), "token": token, "problem": problem or None}
