# SPDX-License-Identifier: Apache-2.0
"""The activation request: the one thing a client asks of any issuer.  Spec: docs/spec/request.md.

Claims of a JWS signed by the machine's own key (``typ: volact-request+jwt``), sent only inside a seal.  The machine
ID is not a claim: it is the thumbprint of the key that signed, so that nobody can speak for another machine.
"""

from dataclasses import dataclass
from typing import Any

from volact.core.binding import NONCE_SIZE, RESPONSE_KEY_SIZE
from volact.core.counter import CounterOffer
from volact.core.encoding import Fields, b64encode
from volact.core.fingerprint import Fingerprint
from volact.core.forest import Forest
from volact.core.product_key import Channel
from volact.core.states import State

FORMAT = 1
MOST_OBJECT_NAME = 40  # characters of an activation object's name


@dataclass(frozen=True, slots=True)
class ActivationRequest:
    """``issuer`` names the descriptor's key that the seal was made for; ``key`` is the whole product key, needed by
    the publisher only and empty towards hosts, whose clients use public generic keys.  ``state`` is what the client
    was before it asked, for the host's counters; ``name`` is the machine's host name, for its administrators;
    ``virtual`` is a VM host's word on whether it is a virtual machine itself.
    ``carried``: made to be carried, by file or by a proxy, and so maybe days on its way.
    ``forest``: asks, with a KMS host key, for an activation object of that forest, to be called ``object_name``.
    ``counter``: of the machine's TPM, for the licence to be bound to."""

    issuer: str
    product: str
    version: int
    edition: str
    channel: Channel
    nonce: bytes
    response_key: bytes
    at: int
    state: State
    fingerprint: Fingerprint
    name: str = ""
    key: str = ""
    threshold: int = 0
    forest: Forest | None = None
    object_name: str = ""
    virtual: bool = False
    carried: bool = False
    counter: CounterOffer | None = None

    def to_claim(self) -> dict[str, Any]:
        claim: dict[str, Any] = {
            "v": FORMAT,
            "aud": self.issuer,
            "iat": self.at,
            "product": self.product,
            "version": self.version,
            "edition": self.edition,
            "channel": str(self.channel),
            "nonce": b64encode(self.nonce),
            "response_key": b64encode(self.response_key),
            "state": str(self.state),
            "threshold": self.threshold,
            "name": self.name,
            "key": self.key,
            "fingerprint": self.fingerprint.to_claim(),
        }
        if self.forest is not None:
            claim |= {"forest": self.forest.to_claim(), "object_name": self.object_name}
        if self.counter is not None:
            claim["counter"] = self.counter.to_claim()
        return {**claim, **{name: True for name in _FLAGS if getattr(self, name)}}

    @classmethod
    def from_claim(cls, claim: Fields) -> "ActivationRequest":
        claim.integer("v", least=FORMAT, most=FORMAT)
        bound = "forest" in claim
        return cls(
            issuer=claim.text("aud", most=64),
            product=claim.text("product", most=63),
            version=claim.integer("version", least=1),
            edition=claim.text("edition", least=0, most=63),
            channel=_channel(claim),
            nonce=claim.octets("nonce", size=NONCE_SIZE),
            response_key=claim.octets("response_key", size=RESPONSE_KEY_SIZE),
            at=claim.integer("iat"),
            state=_state(claim),
            fingerprint=Fingerprint.from_claim(claim.mapping("fingerprint")),
            name=claim.text("name", least=0, most=253),
            key=claim.text("key", least=0, most=29),
            threshold=claim.integer("threshold", most=1_000_000),
            forest=Forest.from_claim(claim.fields("forest")) if bound else None,
            object_name=claim.text("object_name", least=0, most=MOST_OBJECT_NAME) if bound else "",
            counter=CounterOffer.from_claim(claim.fields("counter")) if "counter" in claim else None,
            **{name: claim.boolean(name) for name in _FLAGS if name in claim},
        )


_FLAGS = ("virtual", "carried")  # written only where they are true
_CHANNELS = {str(channel): channel for channel in Channel}
_STATES = {str(state): state for state in State}


def _channel(claim: Fields) -> Channel:
    channel = _CHANNELS.get(claim.text("channel", most=20))
    return channel if channel is not None else claim.fail("channel", "a channel that this version knows")


def _state(claim: Fields) -> State:
    state = _STATES.get(claim.text("state", most=40))
    return state if state is not None else claim.fail("state", "a licence state")
