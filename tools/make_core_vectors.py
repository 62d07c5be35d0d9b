# SPDX-License-Identifier: Apache-2.0
"""Writes tests/vectors/product-key.json and fingerprint.json, for other implementations of the two formats.

Deterministic: the same code writes the same bytes, which a test demands.  Each vector that must fail names its error.

    python tools/make_core_vectors.py [FOLDER]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from volact.core.errors import VolactError
from volact.core.fingerprint import DEFAULT_TOLERANCE, Fingerprint, Tolerance, Trait, compare, normalise
from volact.core.product_key import Channel, ProductKey

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "vectors"

KEYS = [
    ("every field at its least", Channel.RETAIL, 0x000, 0x0000, "00000000000000"),
    ("every field at its most", Channel.VM, 0xFFF, 0xFFFF, "ffffffffffffff"),
    ("oem", Channel.OEM, 0x123, 1, "0123456789abcd"),
    ("mak", Channel.MAK, 0x5A7, 300, "deadbeef00c0de"),
    ("kms-host", Channel.KMS_HOST, 0xABC, 17, "01020304050607"),
    ("generic client key, no secret", Channel.VOLUME, 0xABC, 17, "00000000000000"),
]
KEY = "AEANN-WPM73-M3TEA-FNH9P-33GJK"  # the kms-host key above
ACCEPTED = [
    ("lower case", KEY.lower()),
    ("no hyphens", KEY.replace("-", "")),
    ("spaces for hyphens, and around", f" {KEY.replace('-', '  ')}\t\n"),
    ("en dashes", KEY.replace("-", "\u2013")),
    ("non-breaking hyphens and spaces", KEY.replace("-", "\u00a0\u2011")),
    ("minus signs", KEY.replace("-", "\u2212")),
    ("zero-width spaces and a byte order mark", "\ufeff" + KEY.replace("-", "\u200b-")),
    ("full-width characters", "".join(chr(ord(c) + 0xFEE0) for c in KEY)),
]
REFUSED = [
    ("empty", ""),
    ("a symbol lost", "AEANN-WPM73-M3TE-FNH9P-33GJK"),
    ("a symbol too many", KEY + "A"),
    ("letter O", "AEANO-WPM73-M3TEA-FNH9P-33GJK"),
    ("digit 0, twice", "0EANN-WPM73-M3TEA-FNH9P-33GJ0"),
    ("letter outside ASCII", "AEANN-WPM73-M3T\u00c9A-FNH9P-33GJK"),
    ("wrong symbol", "AEANN-WPM73-M3TEC-FNH9P-33GJK"),
    ("wrong check symbol", "AEANN-WPM73-M3TEA-FNH9P-33GJ4"),
    ("neighbours exchanged", "EAANN-WPM73-M3TEA-FNH9P-33GJK"),
    ("distant symbols exchanged", "AEANN-3PM7W-M3TEA-FNH9P-33GJK"),
    ("neighbours exchanged across a hyphen", "AEANW-NPM73-M3TEA-FNH9P-33GJK"),
    ("groups exchanged", "AEANN-M3TEA-WPM73-FNH9P-33GJK"),
    ("three groups wrong", "EAANN-WPM73-M3TEC-FNH9P-33GKK"),
    ("one symbol 25 times", "-".join(["33333"] * 5)),
]
REFUSED_NUMBERS = [
    ("format 0", 1 << 84),
    ("format 2", 2 << 88 | 1 << 84),
    ("channel 0", 1 << 88),
    ("channel 15", 1 << 88 | 15 << 84),
    ("91 bits", 1 << 90),
    ("the highest number that 20 symbols hold", 23**20 - 1),
]

SALT, OTHER_SALT = bytes(range(32)), bytes(range(32, 64))
RAW = {
    Trait.MACHINE_ID: "3d1219c7c4c5404aaa1f6d2a48adfda4\n",
    Trait.SMBIOS_UUID: "4C4C4544-0042-3510-8052-B4C04F4E4232",
    Trait.SMBIOS_SERIAL: "5B5RNB2",
    Trait.BOARD_SERIAL: "/5B5RNB2/CN1296356S00AB/",
    Trait.DISK_SERIAL: "S3Z8NB0K812345      ",
    Trait.MAC: "64:00:6a:12:34:56",
    Trait.CPU: "Intel(R) Core(TM) i5-6500 CPU  @ 3.20GHz",
}
OTHER_RAW = RAW | {
    Trait.SMBIOS_UUID: "4C4C4544-0033-3510-8052-B4C04F4E9999",
    Trait.SMBIOS_SERIAL: "8H2KPL3",
    Trait.BOARD_SERIAL: "/8H2KPL3/CN1296356S00ZZ/",
    Trait.MAC: "64:00:6a:99:99:99",
}
REPAIRED_RAW = RAW | {Trait.DISK_SERIAL: "WD-WCC4N7654321", Trait.MACHINE_ID: "9999999924404b5d9a2a4f1ba7bd1e6f"}
VALUES = [
    (Trait.SMBIOS_UUID, "{4c4c4544-0042-3510-8052-b4c04f4e4232}"),
    (Trait.MAC, "64-00-6A-12-34-56"),
    (Trait.MAC, "6400.6a12.3456"),
    (Trait.CPU, "ARM\u00ae  Cortex\0"),
    (Trait.SMBIOS_SERIAL, "To Be Filled  By O.E.M."),
    (Trait.BOARD_SERIAL, "Default string"),
    (Trait.BOARD_SERIAL, "00 00-00"),
    (Trait.BOARD_SERIAL, "\u00ff\u00ff\u00ff"),
    (Trait.SMBIOS_UUID, "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF"),
    (Trait.SMBIOS_UUID, "03000200-0400-0500-0006-000700080009"),
    (Trait.MACHINE_ID, "uninitialized"),
    (Trait.MAC, "00:00:00:00:00:00"),
    (Trait.MAC, "52:54:00:12:34:56"),
    (Trait.MAC, "01:00:5e:00:00:01"),
    (Trait.DISK_SERIAL, "QM00001"),
]
HASH = "AAECAwQFBgcICQoLDA0ODw"
REFUSED_CLAIMS: list[tuple[str, Any]] = [
    ("not an object", [HASH]),
    ("not text", {"mac": 7}),
    ("padded", {"mac": HASH + "=="}),
    ("short", {"mac": HASH[:-2]}),
    ("long", {"mac": HASH + "AA"}),
    ("unused bits set", {"mac": HASH[:-1] + "x"}),
    ("base64, not base64url", {"mac": "+" + HASH[1:]}),
    ("line end", {"mac": HASH + "\n"}),
    ("trait name in upper case", {"MAC": HASH}),
    ("trait name empty", {"": HASH}),
    ("trait name of 33 characters", {"a" * 33: HASH}),
    ("17 traits", {f"trait-{n}": HASH for n in range(17)}),
]
REFUSED_TOLERANCES: list[tuple[str, Any]] = [
    ("no minimum", {"weights": {"mac": 1}, "required": 50}),
    ("unknown member", {"weights": {"mac": 1}, "required": 50, "minimum": 1, "most": 1}),
    ("no weight", {"weights": {}, "required": 50, "minimum": 1}),
    ("negative weight", {"weights": {"mac": -1, "cpu": 5}, "required": 50, "minimum": 1}),
    ("nothing required", {"weights": {"mac": 1}, "required": 0, "minimum": 1}),
    ("more than all required", {"weights": {"mac": 1}, "required": 101, "minimum": 1}),
    ("a minimum no machine reaches", {"weights": {"mac": 1}, "required": 50, "minimum": 2}),
]


def product_key_vectors() -> dict[str, Any]:
    return {
        "spec": "docs/spec/product-key.md",
        "keys": [_key(*fields) for fields in KEYS],
        "accepted": [{"name": name, "text": text, "key": str(ProductKey.parse(text))} for name, text in ACCEPTED],
        "refused": [
            {"name": name, "text": text, **_refusal(ProductKey.parse, text)}
            for name, text in REFUSED + [(name, _spell(number)) for name, number in REFUSED_NUMBERS]
        ],
        "strict_refused": [
            {"name": name, "text": text, **_refusal(ProductKey.strict, text)} for name, text in ACCEPTED
        ],
    }


def fingerprint_vectors() -> dict[str, Any]:
    machines = _machines()
    return {
        "spec": "docs/spec/fingerprint.md",
        "salt": SALT.hex(),
        "raw": {str(trait): value for trait, value in RAW.items()},
        "values": [
            {"trait": str(trait), "raw": raw, "normalised": normalise(trait, raw)}
            for trait, raw in [*RAW.items(), *VALUES]
        ],
        "fingerprints": [
            {"name": name, "claim": one.to_claim(), "digest": one.digest.hex()} for name, one in machines.items()
        ],
        "tolerance": DEFAULT_TOLERANCE.to_claim(),
        "comparisons": [
            _comparison(stored, seen, machines) for stored in ("the machine", "no trait") for seen in machines
        ],
        "refused_claims": [
            {"name": name, "claim": claim, **_refusal(Fingerprint.from_claim, claim)} for name, claim in REFUSED_CLAIMS
        ],
        "refused_tolerances": [
            {"name": name, "claim": claim, **_refusal(Tolerance.from_claim, claim)}
            for name, claim in REFUSED_TOLERANCES
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="write the vectors of product keys and fingerprints")
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().folder
    write(folder / "product-key.json", product_key_vectors())
    write(folder / "fingerprint.json", fingerprint_vectors())


def write(path: Path, vectors: dict[str, Any]) -> None:
    path.write_text(json.dumps(vectors, indent=2) + "\n", encoding="ascii")


def _key(name: str, channel: Channel, tag: int, group: int, secret: str) -> dict[str, Any]:
    key = ProductKey.new(channel, tag, group, bytes.fromhex(secret))
    return {
        "name": name,
        "channel": str(channel),
        "publisher_tag": tag,
        "group": group,
        "secret": secret,
        "key": str(key),
        "partial": key.partial,
        "key_id": key.key_id,
    }


def _machines() -> dict[str, Fingerprint]:
    the_machine = Fingerprint.of(RAW, SALT)
    without_disk = {name: value for name, value in the_machine.traits.items() if name != Trait.DISK_SERIAL}
    return {
        "the machine": the_machine,
        "for another publisher": Fingerprint.of(RAW, OTHER_SALT),
        "new disk and image": Fingerprint.of(REPAIRED_RAW, SALT),
        "disk not readable": Fingerprint(without_disk),
        "its disk in another machine of the model": Fingerprint.of(OTHER_RAW, SALT),
        "processor only": Fingerprint.of({Trait.CPU: RAW[Trait.CPU]}, SALT),
        "with a trait of a later version": Fingerprint({**the_machine.traits, "gpu-uuid": bytes(range(16))}),
        "no trait": Fingerprint({}),
    }


def _comparison(stored: str, seen: str, machines: dict[str, Fingerprint]) -> dict[str, Any]:
    match = compare(machines[stored], machines[seen], DEFAULT_TOLERANCE)
    return {
        "stored": stored,
        "seen": seen,
        "matched": match.matched,
        "compared": match.compared,
        "within": match.within,
        "differing": list(match.differing),
    }


def _refusal(read: Any, value: Any) -> dict[str, Any]:
    """The error's code, and of its fields those that a program acts on."""
    try:
        read(value)
    except VolactError as error:
        kept = ("groups", "positions", "have")
        return {"error": error.code} | {name: error.fields[name] for name in kept if name in error.fields}
    raise RuntimeError(f"{value!r} was to be refused")


def _spell(number: int) -> str:
    """Any number as a key with agreeing check symbols: ``ProductKey`` itself spells only what it accepts."""
    alphabet = "34679ACDEFGHJKMNPRTVWXY"
    digits = [number // 23 ** (19 - place) % 23 for place in range(20)]
    groups = [digits[start : start + 4] for start in range(0, 20, 4)]
    checks = [(2 * a + 3 * b + 4 * c + 5 * d + n) % 23 for n, (a, b, c, d) in enumerate(groups, 1)]
    return "-".join(
        "".join(alphabet[value] for value in (*group, check)) for group, check in zip(groups, checks, strict=True)
    )


if __name__ == "__main__":
    main()
