# SPDX-License-Identifier: Apache-2.0
"""Fingerprints as the count table keeps them: a few bytes a trait, enough to tell a new network card from a clone.

The table's own comparison must not take a changed part for another machine, so it compares trait by trait, with the
default tolerance; the licence itself keeps the whole commitments.  Spec: docs/spec/count.md.
"""

from volact.core.fingerprint import DEFAULT_TOLERANCE, Fingerprint, Trait, compare

HASH_BYTES = 6  # of 16: a false match of one trait in 2⁴⁸ only blurs a report
_TRAITS = {number: str(trait) for number, trait in enumerate(Trait, start=1)}
_TAGS = tuple((name, bytes([number])) for number, name in _TRAITS.items())  # in the order of the tags
_WIDTH = 1 + HASH_BYTES


def pack(fingerprint: Fingerprint, machine: bytes) -> bytes:
    """The known traits in the order of their tags: tag, then the first bytes of the salted hash.

    A machine without traits (a container) must not look like every other one without: it gets its own ID instead.
    """
    traits = fingerprint.traits
    return b"".join([tag + traits[name][:HASH_BYTES] for name, tag in _TAGS if name in traits]) or b"\0" + machine


def same_hardware(stored: bytes, seen: bytes) -> bool:
    """Whether two packed fingerprints are of the same machine, within the default tolerance."""
    return compare(_unpack(stored), _unpack(seen), DEFAULT_TOLERANCE).within


def _unpack(data: bytes) -> Fingerprint:
    if data[:1] == b"\0":
        return Fingerprint({})
    entries = (data[i : i + _WIDTH] for i in range(0, len(data), _WIDTH))
    padding = bytes(16 - HASH_BYTES)
    return Fingerprint({_TRAITS[entry[0]]: entry[1:] + padding for entry in entries})
