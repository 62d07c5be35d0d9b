# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/counter.json: what a TPM says of its counter, for other implementations (docs/spec/returns.md).

The statements have a TPM's layout and are signed in software, by a key that every reader has to believe from its public
area alone; whose TPM it is, the endorsement says.  Signatures are randomised, so the file is made once and kept.

    python tools/make_counter_vectors.py [--renew] [FOLDER]
"""

import argparse
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import make_sealing_vectors as base
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from volact.core.counter import Attested
from volact.core.encoding import MAX_INT
from volact.sealing.attestation import qualifying

KEY = base.KEYS["machine"].private
MACHINE, NONCE, OTHER = bytes(range(32)), base.NONCE, base.OTHER_NONCE
SIGNS_STATEMENTS_ONLY = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18
SIGNS_ANYTHING = SIGNS_STATEMENTS_ONLY & ~(1 << 16)
COUNTER, WRITTEN, ORDERLY = 1 << 4, 1 << 29, 1 << 26
UNPROVEN = "counter-unproven"

Vector = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--renew", action="store_true", help="make the file anew")
    parser.add_argument("folder", nargs="?", type=Path, default=base.FOLDER)
    options = parser.parse_args()
    path = options.folder / "counter.json"
    if path.exists() and not options.renew:
        return
    made = {"machine": MACHINE.hex(), "nonce": NONCE.hex(), "purpose": "return", "statements": statements()}
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def statements() -> list[Vector]:
    good = attested()
    spoiled = good.signature[:-1] + bytes([good.signature[-1] ^ 1])
    return [
        accepted("a counter at 1", good, 1),
        accepted("the largest value that a licence can say", attested(value=MAX_INT), MAX_INT),
        refused("for an activation", attested(purpose="activation"), UNPROVEN),
        refused("for another machine", attested(machine=MACHINE[::-1]), UNPROVEN),
        refused("for another message", attested(nonce=OTHER), UNPROVEN),
        refused("about another index", attested(about=0x01A00002), UNPROVEN),
        refused("a signature of something else", change(good, signature=spoiled), UNPROVEN),
        refused("by a key that signs anything", attested(key_attributes=SIGNS_ANYTHING), UNPROVEN),
        refused("of an index that is no counter", attested(attributes=WRITTEN), UNPROVEN),
        refused("of a counter that was never written", attested(attributes=COUNTER), UNPROVEN),
        refused("of a counter that forgets", attested(attributes=COUNTER | WRITTEN | ORDERLY), UNPROVEN),
        refused("a value beyond what a licence can say", attested(value=MAX_INT + 1), UNPROVEN),
        refused("a statement that ends early", attested(cut=1), "malformed"),
        refused("something after the statement", attested(tail=b"\0"), "malformed"),
    ]


def attested(
    *,
    value: int = 1,
    purpose: str = "return",
    machine: bytes = MACHINE,
    nonce: bytes = NONCE,
    about: int = 0x01A00001,
    attributes: int = COUNTER | WRITTEN,
    key_attributes: int = SIGNS_STATEMENTS_ONLY,
    cut: int = 0,
    tail: bytes = b"",
) -> Attested:
    """TPMT_PUBLIC, TPMS_NV_PUBLIC and TPMS_ATTEST of TPM 2.0, part 2."""
    point = KEY.public_key().public_numbers()
    area = struct.pack(">HHIH5H", 0x0023, 0x000B, key_attributes, 0, 0x0010, 0x0018, 0x000B, 0x0003, 0x0010)
    area += b"".join(struct.pack(">H", 32) + part.to_bytes(32) for part in (point.x, point.y))
    index, named = (_index(number, attributes) for number in (0x01A00001, about))
    extra = qualifying(purpose, machine, nonce)
    statement = struct.pack(">IHHH", 0xFF544347, 0x8014, 0, 32) + extra + bytes(25)
    name = b"\0\x0b" + hashlib.sha256(named).digest()
    statement += struct.pack(">H", 34) + name + struct.pack(">HHQ", 0, 8, value)
    statement = statement[: len(statement) - cut] + tail
    r, s = utils.decode_dss_signature(KEY.sign(statement, ec.ECDSA(hashes.SHA256())))
    return Attested(area, index, statement, r.to_bytes(32) + s.to_bytes(32))


def _index(number: int, attributes: int) -> bytes:
    return struct.pack(">IHIHH", number, 0x000B, attributes, 0, 8)


def change(good: Attested, **parts: bytes) -> Attested:
    areas = {name: getattr(good, name) for name in ("key", "index", "statement", "signature")}
    return Attested(**{**areas, **parts})


def accepted(name: str, made: Attested, value: int) -> Vector:
    return {"name": name, "attested": made.to_claim(), "value": value}


def refused(name: str, made: Attested, error: str) -> Vector:
    return {"name": name, "attested": made.to_claim(), "error": error}


if __name__ == "__main__":
    main()
