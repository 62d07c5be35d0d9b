# SPDX-License-Identifier: Apache-2.0
"""TPM counters at the publisher: a licence is bound to one, and a return that it vouches for needs no cap.

What a machine must show when it gives back is derived from the publisher's own key and all that the licence said;
all that is kept is which counter the licences of an activation are bound to.  A machine whose TPM does not convince is
licensed as any other, without a counter.

The publisher chooses whose TPMs convince: the certificates in ``tpm-makers`` of its folder, none by default.  A virtual
TPM is as good as whoever may copy its state, so its maker does not belong there.  Spec: docs/spec/returns.md §5.
"""

import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from volact.core.counter import Counter
from volact.core.errors import ConfigError, InputError, MalformedError, TrustError
from volact.core.returning import ReturnProof
from volact.publisher.rules import issuing
from volact.sealing import attestation, certificates, keys
from volact.sealing.attestation import CounterState
from volact.sealing.proof import ProvenRequest
from volact.sealing.returns import Proven

FOLDER = "tpm-makers"
ACTIVATION, RETURN = "activation", "return"  # what a TPM's statement is made for
_LABEL = b"volact/return-secret/v1"

_log = logging.getLogger("volact.publisher")


class MakerFileError(InputError):
    code = "tpm-maker-file"
    fmt = "{path} is no certificate of a TPM's maker: {why}"
    remedy = "take the CA certificate, in PEM, that signed the endorsement certificates of the computers' TPMs"


class MakerUnknownError(ConfigError):
    code = "tpm-maker-unknown"
    fmt = "no accepted TPM maker has the fingerprint {fingerprint}"
    remedy = "`volact publisher tpm-maker list` shows them"


class Makers:
    """The folder of accepted makers, read anew when it was changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._seen: tuple[int, tuple[x509.Certificate, ...]] | None = None

    def __call__(self) -> tuple[x509.Certificate, ...]:
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            return ()
        if self._seen is None or self._seen[0] != changed:
            self._seen = (changed, tuple(read_maker(path) for path in sorted(self._folder.glob("*.pem"))))
        return self._seen[1]

    def add(self, certificate: x509.Certificate) -> None:
        self._folder.mkdir(exist_ok=True)
        keys.write_file(self._folder / f"{fingerprint(certificate)}.pem", certificates.pem(certificate), 0o644)

    def remove(self, name: str) -> None:
        path = self._folder / f"{name}.pem"
        if not name.isalnum() or not path.is_file():
            raise MakerUnknownError(fingerprint=name)
        path.unlink()


@dataclass(frozen=True, slots=True)
class Bound:
    """The counter for a licence; ``identity``: of the counter and its TPM, for the activation's row."""

    counter: Counter
    identity: bytes


@dataclass(frozen=True, slots=True)
class Vouching:
    """``lookup``: the publisher's own secret, of which another one is derived here."""

    makers: Callable[[], Sequence[x509.Certificate]]
    lookup: bytes

    def bind(self, proven: ProvenRequest, now: int) -> Bound | None:
        """The counter for the licence of a request that offers one and whose TPM convinces."""
        request = proven.request
        if request.counter is None or request.channel not in issuing.POOLED:
            return None
        offered = request.counter
        try:
            state = attestation.verify_attested(offered.attested, ACTIVATION, proven.machine, request.nonce)
            endorsement = attestation.verify_endorsement(offered.certificate, self.makers(), now)
            secret = self._secret(proven.machine, request.nonce, state.key, state.counter, state.value)
            credential = attestation.make_credential(endorsement, state.key, secret, secrets.token_bytes(32))
        except (TrustError, MalformedError) as exc:
            _log.info("machine %s is licensed without its TPM's counter: %s", proven.machine.hex()[:16], exc)
            return None
        return Bound(Counter(state.counter, state.value, credential), _identity(state))

    def vouches(self, proven: Proven[ReturnProof], bound_to: bytes | None) -> bool:
        """Whether a TPM says that the licence with the proof's nonce is over, and all others of its activation, which
        are ``bound_to`` the same counter."""
        shown = proven.value.counter
        if shown is None or bound_to is None:
            return False
        try:
            state = attestation.verify_attested(shown.attested, RETURN, proven.machine, proven.value.nonce)
        except (TrustError, MalformedError) as exc:
            _log.info("machine %s gives back without its TPM's counter: %s", proven.machine.hex()[:16], exc)
            return False
        return _identity(state) == bound_to and self._is_over(proven, shown.since, shown.secret, state)

    def _is_over(self, proven: Proven[ReturnProof], since: int, shown: bytes, state: CounterState) -> bool:
        secret = self._secret(proven.machine, proven.value.activation, state.key, state.counter, since)
        return state.value > since and hmac.compare_digest(secret, shown)

    def _secret(self, machine: bytes, nonce: bytes, key: bytes, counter: bytes, value: int) -> bytes:
        """Fields of fixed lengths: which licence of which machine, key and counter of which TPM, and where from."""
        own = hmac.digest(self.lookup, _LABEL, "sha256")
        return hmac.digest(own, machine + nonce + key + counter + value.to_bytes(8), "sha256")


def _identity(state: CounterState) -> bytes:
    return hashlib.sha256(state.key + state.counter).digest()


def read_maker(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as exc:
        raise MakerFileError(path=str(path), why=exc.strerror or str(exc)) from None
    except ValueError:
        raise MakerFileError(path=str(path), why="it is not a certificate in PEM") from None


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()
