# SPDX-License-Identifier: Apache-2.0
"""What the frames of the VM channel say: the two calls of every issuer, and errors.  Spec: docs/spec/vm-channel.md §3.

Each exchange has an ``id`` that its request chose at random and its answer repeats; an answer with another one was
meant for somebody who is gone.  Everything is read strictly or raises ``MalformedError``.
"""

from dataclasses import dataclass
from typing import Any

from volact.core.encoding import Fields, b64encode, dump_object, parse_object
from volact.core.errors import MalformedError
from volact.vm.frames import Frame, Kind

PORT_NAME = "org.volact.activation.0"  # of the virtio-serial port
VSOCK_PORT = 1688
ID_SIZE = 8
MOST_OS = 100
_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class GetIssuer:
    """As ``volact.v1.GetIssuerRequest``."""

    id: str
    root: str
    product: str
    group: int
    nonce: bytes

    def to_frame(self) -> Frame:
        return _frame(
            Kind.GET_ISSUER,
            id=self.id,
            root=self.root,
            product=self.product,
            group=self.group,
            nonce=b64encode(self.nonce),
        )


@dataclass(frozen=True, slots=True)
class Activate:
    """As ``volact.v1.ActivateRequest``.  ``os`` is the guest's own word, for the host's lists."""

    id: str
    issuer: str
    sealed: bytes
    os: str = ""

    def to_frame(self) -> Frame:
        return _frame(Kind.ACTIVATE, id=self.id, issuer=self.issuer, sealed=b64encode(self.sealed), os=self.os)


@dataclass(frozen=True, slots=True)
class Issuer:
    """As ``volact.v1.GetIssuerResponse``."""

    id: str
    descriptor: str

    def to_frame(self) -> Frame:
        return _frame(Kind.ISSUER, id=self.id, descriptor=self.descriptor)


@dataclass(frozen=True, slots=True)
class Activated:
    """As ``volact.v1.ActivateResponse``."""

    id: str
    sealed: bytes

    def to_frame(self) -> Frame:
        return _frame(Kind.ACTIVATED, id=self.id, sealed=b64encode(self.sealed))


@dataclass(frozen=True, slots=True)
class Failed:
    """An unsigned word of the host's software: why there is no answer."""

    id: str
    code: str
    message: str

    def to_frame(self) -> Frame:
        return _frame(Kind.ERROR, id=self.id, code=self.code, message=self.message)


Request = GetIssuer | Activate
Answer = Issuer | Activated | Failed


def read_request(frame: Frame) -> Request:
    claim = _claim(frame, "guest's request")
    if frame.kind is Kind.GET_ISSUER:
        return GetIssuer(
            id=_id(claim),
            root=claim.text("root", most=80),
            product=claim.text("product", most=63),
            group=claim.integer("group", most=65535),
            nonce=claim.octets("nonce", size=16),
        )
    if frame.kind is Kind.ACTIVATE:
        return Activate(
            id=_id(claim),
            issuer=claim.text("issuer", most=64),
            sealed=claim.octets("sealed", most=48 * 1024),
            os=claim.text("os", least=0, most=MOST_OS) if "os" in claim else "",
        )
    raise MalformedError(what="guest's request", why=f"a frame of kind {int(frame.kind)} is no request")


def read_answer(frame: Frame) -> Answer:
    claim = _claim(frame, "VM host's answer")
    if frame.kind is Kind.ISSUER:
        return Issuer(_id(claim), claim.text("descriptor", most=192 * 1024))
    if frame.kind is Kind.ACTIVATED:
        return Activated(_id(claim), claim.octets("sealed", most=128 * 1024))
    if frame.kind is Kind.ERROR:
        return Failed(_id(claim), claim.text("code", most=64), claim.text("message", least=0, most=1000))
    raise MalformedError(what="VM host's answer", why=f"a frame of kind {int(frame.kind)} is no answer")


def _frame(kind: Kind, **members: Any) -> Frame:
    return Frame(kind, dump_object(members))


def _claim(frame: Frame, what: str) -> Fields:
    return Fields(parse_object(frame.body, what), what)


def _id(claim: Fields) -> str:
    text = claim.text("id", most=2 * ID_SIZE)
    if len(text) != 2 * ID_SIZE or not set(text) <= _DIGITS:
        claim.fail("id", f"{2 * ID_SIZE} hexadecimal digits")
    return text
