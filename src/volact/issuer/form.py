# SPDX-License-Identifier: Apache-2.0
"""Licences written into a form: what one edition's licences of one host have in common is put into JSON once.

A form is cut from a whole licence's own claims, so that there is one place that says what a licence looks like, and
gives byte for byte what those claims would.  It decides nothing: the sample that it is made from did.
Spec: docs/spec/licence.md §1.
"""

import functools
import secrets
from dataclasses import replace

from volact.core.binding import NONCE_SIZE
from volact.core.encoding import MAX_INT, b64encode, dump_object
from volact.core.fingerprint import HASH_BYTES, Fingerprint
from volact.core.licence import Licence

SHAPES = 256  # fingerprints have the same few traits: which of them a kind of machine shows


class LicenceForm:
    """Of a sample that is counted and ends; its machine, nonce, times, fingerprint and count are left open."""

    def __init__(self, sample: Licence) -> None:
        assert sample.expires_at is not None
        assert sample.count is not None
        marked = _marked(sample)
        marks = [
            marked.machine.hex(),
            str(marked.issued_at),
            str(marked.expires_at),
            b64encode(marked.nonce),
            _fingerprint(marked.fingerprint),
            str(marked.count),
        ]
        self._parts = _cut(dump_object(marked.to_claim()).decode(), marks)

    def fill(
        self, machine: bytes, nonce: bytes, fingerprint: Fingerprint, *, count: int, issued_at: int, expires_at: int
    ) -> bytes:
        """The claims of a licence, as they are signed."""
        start, to_issued, to_expires, to_nonce, to_fingerprint, to_count, end = self._parts
        return (
            f"{start}{machine.hex()}{to_issued}{issued_at}{to_expires}{expires_at}{to_nonce}{b64encode(nonce)}"
            f"{to_fingerprint}{_fingerprint(fingerprint)}{to_count}{count}{end}"
        ).encode()


def _marked(sample: Licence) -> Licence:
    """The sample with values that occur nowhere else in it."""
    return replace(
        sample,
        machine=secrets.token_bytes(32),
        nonce=secrets.token_bytes(NONCE_SIZE),
        issued_at=_number(),
        expires_at=_number(),
        fingerprint=Fingerprint({"mark": secrets.token_bytes(HASH_BYTES)}),
        count=_number(),
    )


def _number() -> int:
    return MAX_INT // 2 + secrets.randbelow(MAX_INT // 2)


def _fingerprint(fingerprint: Fingerprint) -> str:
    return _shape(tuple(fingerprint.traits)) % tuple(map(b64encode, fingerprint.traits.values()))


@functools.lru_cache(SHAPES)
def _shape(names: tuple[str, ...]) -> str:
    """The JSON object of these traits, with a place for the value of each."""
    return dump_object({name.replace("%", "%%"): "%s" for name in names}).decode()


def _cut(text: str, marks: list[str]) -> list[str]:
    parts = []
    for mark in marks:
        before, text = text.split(mark)
        parts.append(before)
    return [*parts, text]
