#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/recipient.json, for other implementations of what is sealed to a fleet's vault.

HPKE seals are randomised, so the file is made once and kept: without ``--renew`` this script leaves it as it is.  Its
private key is a test key and protects nothing.

    python tools/make_recipient_vectors.py [--renew] [FOLDER]
"""

import json
import sys
from pathlib import Path
from typing import Any

from volact.sealing.recipient import RecipientKey, seal

VECTORS = Path(__file__).resolve().parents[1] / "tests" / "vectors"
PURPOSE = "machine backup"
KEY = RecipientKey.from_raw(bytes(range(1, 33)))
OTHER = RecipientKey.from_raw(bytes(range(33, 65)))
TEXT = b'{"format":"volact-machine-backup"}'


def vectors() -> dict[str, Any]:
    sealed = seal(KEY.text, PURPOSE, TEXT)
    changed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    broken = "recipient-seal-broken"
    return {
        "spec": "docs/spec/proxy.md#4",
        "private": KEY.raw.hex(),
        "recipient": KEY.text,
        "sealed": [
            {"name": "a backup", "purpose": PURPOSE, "sealed": sealed.hex(), "plaintext": TEXT.hex()},
            {"name": "a byte changed", "error": broken, "purpose": PURPOSE, "sealed": changed.hex()},
            {"name": "a byte short", "error": broken, "purpose": PURPOSE, "sealed": sealed[:-1].hex()},
            {"name": "nothing", "error": broken, "purpose": PURPOSE, "sealed": ""},
            {"name": "for another purpose", "error": broken, "purpose": "something else", "sealed": sealed.hex()},
            {
                "name": "for another recipient",
                "error": broken,
                "purpose": PURPOSE,
                "sealed": seal(OTHER.text, PURPOSE, TEXT).hex(),
            },
        ],
        "recipients": [
            {"name": "the vault's", "recipient": KEY.text},
            {"name": "no scheme", "error": "recipient-invalid", "recipient": KEY.text.removeprefix("x25519:")},
            {"name": "a byte short", "error": "recipient-invalid", "recipient": KEY.text[:-2]},
            {"name": "padded", "error": "recipient-invalid", "recipient": KEY.text + "="},
            {"name": "of low order", "error": "recipient-invalid", "recipient": "x25519:" + "A" * 43},
        ],
    }


def main(words: list[str]) -> None:
    renew = "--renew" in words
    folder = Path(next((word for word in words if word != "--renew"), VECTORS))
    path = folder / "recipient.json"
    if renew or not path.exists():
        path.write_text(json.dumps(vectors(), indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
