# SPDX-License-Identifier: Apache-2.0
"""The guest's side: the two calls of an issuer, over the channel to the VM host.  Standard library only.

What comes back is bytes and nothing is believed here: ``sealing`` verifies it, as it does what comes from the network.
An error of the host's software is unsigned and raised as such.  Spec: docs/spec/vm-channel.md §4.
"""

import secrets
import time
from collections.abc import Callable

from volact.core.errors import MalformedError
from volact.vm.frames import ANSWERS, MOST_ANSWER, Frame, FrameReader
from volact.vm.messages import (
    ID_SIZE,
    MOST_OS,
    Activate,
    Activated,
    Answer,
    Failed,
    GetIssuer,
    Issuer,
    Request,
    read_answer,
)
from volact.vm.ports import Finder, Port, VmChannelError
from volact.wire.client import NotVolactError, ServerError

ANSWER_SECONDS = 10.0  # until a request is sent again: the host's service may have been restarted in the middle
ATTEMPTS = 2
ADDRESS = "vm-host"  # how the client remembers it; there is one

NOT_ACTIVATED = "vm-host-not-activated"
OTHER_PUBLISHER = "vm-host-other-publisher"


class VmHostError(ServerError):
    code = "vm-host-error"
    fmt = "the VM host answered on {channel}: {message}"
    remedy = "look into the VM host's events: `volact vm events`; this unsigned answer changed nothing on this machine"


class VmHostInactiveError(VmHostError):
    code = NOT_ACTIVATED
    fmt = "the VM host on {channel} is not activated: {message}"
    remedy = "on the VM host, run `volact vm activate`, then `volact vm status`"


class OtherPublisherError(VmHostError):
    code = OTHER_PUBLISHER
    fmt = "the VM host on {channel} is activated by another publisher: {message}"
    remedy = "on the VM host, install and activate a VM host key of this product's publisher: `volact vm install-key -`"


_BY_CODE: dict[str, type[VmHostError]] = {NOT_ACTIVATED: VmHostInactiveError, OTHER_PUBLISHER: OtherPublisherError}


class GuestChannel:
    """An issuer's two calls over the channel.  A port is opened for each exchange and closed after it, so that other
    programs of the guest get their turn."""

    def __init__(
        self, open_port: Callable[[], Port] | None = None, *, os: str = "", seconds: float = ANSWER_SECONDS
    ) -> None:
        self._open, self._os, self._seconds = open_port or Finder().open, _printable(os)[:MOST_OS], seconds

    def get_issuer(self, root: str, product: str, group: int, nonce: bytes) -> str:
        """The VM host's descriptor, unverified."""
        answer = self._exchange(lambda name: GetIssuer(name, root, product, group, nonce))
        if not isinstance(answer, Issuer):
            raise _unexpected("an activation's answer to the question for the issuer")
        return answer.descriptor

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        """The sealed answer, unopened."""
        answer = self._exchange(lambda name: Activate(name, issuer, sealed, self._os))
        if not isinstance(answer, Activated):
            raise _unexpected("an issuer's descriptor to an activation")
        return answer.sealed

    def _exchange(self, make: Callable[[str], Request]) -> Answer:
        """One request and the answer to it; sent again once where no answer came, under another ID."""
        port = self._open()
        try:
            for _ in range(ATTEMPTS):
                name = secrets.token_hex(ID_SIZE)
                answer = self._ask(port, make(name), name)
                if isinstance(answer, Failed):
                    raise _error(port.name, answer)
                if answer is not None:
                    return answer
        finally:
            port.close()
        raise VmChannelError(channel=port.name, why="the host's service does not answer")

    def _ask(self, port: Port, request: Request, name: str) -> Answer | None:
        until = time.monotonic() + self._seconds
        reader = FrameReader(ANSWERS, MOST_ANSWER)
        port.send(request.to_frame().to_bytes(), until)
        while time.monotonic() < until:
            for frame in reader.receive(port.receive(until)):
                answer = _read(frame)
                if answer is not None and answer.id == name:
                    return answer
        return None


def _read(frame: Frame) -> Answer | None:
    """What was left in the port from before us need not be readable."""
    try:
        return read_answer(frame)
    except MalformedError:
        return None


def _error(channel: str, failed: Failed) -> VmHostError:
    kind = _BY_CODE.get(failed.code, VmHostError)
    message = failed.message if kind is not VmHostError else f"{failed.code}: {failed.message}"
    return kind(channel=channel, message=message, host=ADDRESS, port=0, status=0)


def _unexpected(what: str) -> NotVolactError:
    return NotVolactError(host=ADDRESS, port=0, why=f"it gave {what}")


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())
