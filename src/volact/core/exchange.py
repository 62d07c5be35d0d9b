# SPDX-License-Identifier: Apache-2.0
"""Exchange files: a sealed request carried to an issuer over an air gap, and its sealed answer carried back.

The same two messages as on the network, in a JSON text that says what it is.  Nothing in it is secret or trusted: the
request is sealed, the answer is under the request's one-time key.  Spec: docs/spec/exchange.md.
"""

from dataclasses import dataclass
from typing import Any

from volact.core.encoding import Fields, b64encode, dump_object, parse_object
from volact.core.errors import MalformedError

FORMAT = 1
MAX_FILE = 256 * 1024
REQUEST, ANSWER = "volact-request", "volact-answer"


@dataclass(frozen=True, slots=True)
class RequestFile:
    """``root`` and ``product`` are only for whoever carries it: the publisher reads them to find its folder."""

    root: str
    product: str
    issuer: str
    sealed: bytes

    def to_bytes(self) -> bytes:
        return _dump(REQUEST, root=self.root, product=self.product, issuer=self.issuer, sealed=b64encode(self.sealed))

    @classmethod
    def from_bytes(cls, data: bytes) -> "RequestFile":
        claim = _parse(REQUEST, data, "request file")
        return cls(
            root=claim.text("root", most=80),
            product=claim.text("product", most=63),
            issuer=claim.text("issuer", most=64),
            sealed=claim.octets("sealed", most=65536),
        )


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """``issuer`` repeats the request's, so that an answer to another request is noticed before it is opened."""

    issuer: str
    sealed: bytes

    def to_bytes(self) -> bytes:
        return _dump(ANSWER, issuer=self.issuer, sealed=b64encode(self.sealed))

    @classmethod
    def from_bytes(cls, data: bytes) -> "AnswerFile":
        claim = _parse(ANSWER, data, "answer file")
        return cls(issuer=claim.text("issuer", most=64), sealed=claim.octets("sealed", most=65536))


def _dump(kind: str, **members: Any) -> bytes:
    return dump_object({"format": kind, "v": FORMAT, **members}) + b"\n"


def _parse(kind: str, data: bytes, what: str) -> Fields:
    if len(data) > MAX_FILE:
        raise MalformedError(what=what, why=f"longer than {MAX_FILE} bytes")
    claim = Fields(parse_object(data, what), what)
    if claim.text("format", most=40) != kind:
        claim.fail("format", f"{kind}; this is another kind of file")
    claim.integer("v", least=FORMAT, most=FORMAT)
    return claim
