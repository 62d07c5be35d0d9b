# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/phone.json, for other implementations of telephone activation.

Deterministic: the same code writes the same bytes, which a test demands.  Each vector that must fail names its error.

    python tools/make_phone_vectors.py [FILE]
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from volact.core.errors import VolactError
from volact.core.fingerprint import Fingerprint
from volact.core.phone import (
    CONFIRMATION_GROUPS,
    INSTALLATION_GROUPS,
    ConfirmationId,
    InstallationId,
    Subject,
    format_groups,
    message,
)
from volact.core.product_key import Channel
from volact.sealing.confirmation import ORDER, PhoneKey, verify_confirmation

FILE = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "phone.json"

ROOT = "sha256:" + "a7" * 32
SUBJECT = Subject(ROOT, "acme-cad", "professional", 101, "74bd4d74d9f0a7f44769a6b042d03194")
SERVER = Subject(ROOT, "acme-cad", "server", 65535, "f7918e2d54c6c6f0b728d17780e48713")
MACHINE = bytes(range(32))
PLAIN = Fingerprint({"machine-id": b"\x11" * 16, "smbios-uuid": b"\x22" * 16})
OTHER = Fingerprint({"machine-id": b"\x33" * 16})
NOW = 1_800_000_000
KEY = PhoneKey.derive(b"volact phone key for test vectors")
OTHER_KEY = PhoneKey.derive(b"volact phone key of another publisher")

CASES = [
    ("mak", SUBJECT, Channel.MAK, MACHINE, PLAIN, NOW, 0x1234),
    ("retail, no traits", SERVER, Channel.RETAIL, MACHINE[::-1], Fingerprint({}), NOW, 0xFFFF),
    ("first day, serial 0", SUBJECT, Channel.RETAIL, bytes(32), OTHER, 0, 0),
    ("last day", SUBJECT, Channel.MAK, b"\xff" * 32, PLAIN, 65535 * 86400, 1),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, default=FILE)
    vectors = {
        "spec": "docs/spec/phone.md",
        "public": KEY.public.hex(),
        "secret": f"{KEY.secret:064x}",
        "activations": [activation(*case) for case in CASES],
        "accepted": accepted(),
        "refused_installation_ids": refused_installation_ids(),
        "refused_confirmation_ids": refused_confirmation_ids(),
        "forged": forged(),
    }
    parser.parse_args().file.write_text(json.dumps(vectors, indent=2) + "\n", encoding="utf-8")


def activation(
    name: str, subject: Subject, channel: Channel, machine: bytes, seen: Fingerprint, now: int, serial: int
) -> dict[str, Any]:
    installation = InstallationId.new(subject, channel, machine, seen, now, serial)
    signed = message(subject, installation)
    return {
        "name": name,
        "root": subject.root,
        "product": subject.product,
        "edition": subject.edition,
        "group": subject.group,
        "key_id": subject.key_id,
        "channel": str(channel),
        "machine": machine.hex(),
        "fingerprint": seen.to_claim(),
        "now": now,
        "serial": serial,
        "bytes": installation.to_bytes().hex(),
        "installation_id": str(installation),
        "message": signed.hex(),
        "reference": installation.reference,
        "confirmation_id": str(ConfirmationId(installation.reference, KEY.sign(signed))),
    }


def accepted() -> list[dict[str, str]]:
    text = str(the_installation())
    spellings = [
        ("no hyphens", text.replace("-", "")),
        ("six and one", "  ".join(f"{group[:6]}-{group[6]}" for group in text.split("-"))),
        ("rows", text.replace("-", "\n")),
        ("en dashes and no-break spaces", text.replace("-", "\u00a0\u2013\u00a0")),
        ("full-width digits", "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in text)),
        ("Arabic digits", "".join(chr(ord(c) - 0x30 + 0x0660) if c.isdigit() else c for c in text)),
        ("dots and commas", text.replace("-", "., ")),
    ]
    return [{"name": name, "text": spelling, "installation_id": text} for name, spelling in spellings]


def refused_installation_ids() -> list[dict[str, Any]]:
    groups = list(the_installation().groups)
    number = int.from_bytes(the_installation().to_bytes(), "big")
    texts = [
        ("empty", ""),
        ("a letter", "O" + "-".join(groups)[1:]),
        ("a digit lost", joined([*groups[:3], groups[3][1:], *groups[4:]])),
        ("a digit too many", joined([*groups[:3], "7" + groups[3], *groups[4:]])),
        ("a group lost", joined(groups[1:])),
        ("a wrong digit", joined([*groups[:4], other_digit(groups[4], 2), *groups[5:]])),
        ("a wrong check digit", joined([*groups[:4], other_digit(groups[4], 6), *groups[5:]])),
        ("two wrong groups", joined([other_digit(groups[0], 0), *groups[1:10], other_digit(groups[10], 3)])),
        ("groups exchanged", joined([groups[1], groups[0], *groups[2:]])),
        ("format 2", joined(format_groups(number ^ 0x30 << 208, INSTALLATION_GROUPS))),
        ("channel oem", joined(format_groups(number ^ 0x01 << 208, INSTALLATION_GROUPS))),
        ("larger than 216 bits", joined(format_groups(number | 1 << 216, INSTALLATION_GROUPS))),
    ]
    return [refused(name, InstallationId.parse, text) for name, text in texts]


def refused_confirmation_ids() -> list[dict[str, Any]]:
    groups = list(ConfirmationId(the_installation().reference, KEY.sign(b"")).groups)
    texts = [
        ("an installation ID", str(the_installation())),
        ("a wrong digit", joined([*groups[:19], other_digit(groups[19], 5)])),
        ("groups exchanged", joined([*groups[:7], groups[8], groups[7], *groups[9:]])),
        ("larger than 384 bits", joined(format_groups(10**116 - 1, CONFIRMATION_GROUPS))),
    ]
    return [refused(name, ConfirmationId.parse, text) for name, text in texts]


def forged() -> list[dict[str, str]]:
    """Well typed, and not the publisher's word for this machine and key."""
    mine = the_installation()
    signed, good = message(SUBJECT, mine), KEY.sign(message(SUBJECT, mine))
    cases = [
        ("of another machine", KEY.sign(message(SUBJECT, replace(mine, machine=MACHINE[::-1][:10])))),
        ("of another product key", KEY.sign(message(replace(SUBJECT, key_id=SERVER.key_id), mine))),
        ("of another edition", KEY.sign(message(replace(SUBJECT, edition="server"), mine))),
        ("of another product", KEY.sign(message(replace(SUBJECT, product="acme-cam"), mine))),
        ("of another product group", KEY.sign(message(replace(SUBJECT, group=102), mine))),
        ("of another publisher", KEY.sign(message(replace(SUBJECT, root="sha256:" + "a8" * 32), mine))),
        ("of another channel", KEY.sign(message(SUBJECT, replace(mine, channel=Channel.RETAIL)))),
        ("of another day", KEY.sign(message(SUBJECT, replace(mine, day=mine.day + 1)))),
        ("of another request", KEY.sign(message(SUBJECT, replace(mine, serial=mine.serial + 1)))),
        ("of other hardware", KEY.sign(message(SUBJECT, replace(mine, fingerprint=bytes(4))))),
        ("by another publisher's key", OTHER_KEY.sign(signed)),
        ("negated", bytes([good[0] ^ 0x20]) + good[1:]),
        ("the identity", b"\xc0" + bytes(47)),
        ("zeros", bytes(48)),
        ("not on the curve", b"\x80" + bytes(46) + b"\x01"),
        ("on the curve, outside the subgroup", b"\x80" + bytes(46) + b"\x04"),
        ("a coordinate not reduced", (int.from_bytes(b"\x9f" + b"\xff" * 47, "big")).to_bytes(48, "big")),
    ]
    return [case(name, mine, signature) for name, signature in cases]


def case(name: str, installation: InstallationId, signature: bytes) -> dict[str, str]:
    text = str(ConfirmationId(installation.reference, signature))
    try:
        verify_confirmation(KEY.public, message(SUBJECT, installation), signature)
    except VolactError as exc:
        return {"name": name, "confirmation_id": text, "error": exc.code}
    raise AssertionError(f"{name} was accepted")


def refused(name: str, parse: Any, text: str) -> dict[str, Any]:
    try:
        parse(text)
    except VolactError as exc:
        groups = {"groups": exc.fields["groups"]} if exc.fields.get("groups") else {}
        return {"name": name, "text": text, "error": exc.code, **groups}
    raise AssertionError(f"{name} was accepted")


def the_installation() -> InstallationId:
    return InstallationId.new(SUBJECT, Channel.MAK, MACHINE, PLAIN, NOW, 0x1234)


def joined(groups: Any) -> str:
    return "-".join(groups)


def other_digit(group: str, at: int) -> str:
    return group[:at] + str((int(group[at]) + 1) % 10) + group[at + 1 :]


if __name__ == "__main__":
    assert KEY.secret < ORDER
    main()
