# SPDX-License-Identifier: Apache-2.0
"""Signing keys inside a PKCS#11 token (OASIS PKCS#11 2.40): a smart card, an HSM, SoftHSM.

A :class:`TokenKey` is a :class:`~volact.sealing.jws.SigningKey` whose private half never leaves its token: it is made
there, sensitive and not extractable, and one that could be read out is refused.  What lies on disk is a
:class:`KeyReference`: which module, token and object, and where the PIN is; nothing secret.

Not here: HPKE keys.  PKCS#11 has no HPKE, and an ECDH key in a token would not make one; they stay in encrypted files.
Why python-pkcs11: docs/adr/0020-keys-in-hardware.md.
"""

import contextlib
import hashlib
import hmac
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec

from volact.core.encoding import Fields, dump_object, parse_object
from volact.core.errors import ConfigError, MalformedError
from volact.sealing import keys

FORMAT = 1
ID_BYTES = 16  # CKA_ID of a key: random, so that no two of a shared token are mixed up
MOST_TEXT = 400
CURVE = "secp256r1"


class TokenPartMissingError(ConfigError):
    code = "pkcs11-part-missing"
    fmt = "keys in a token need the package python-pkcs11, which is not installed"
    remedy = "pip install 'volact[publisher,pkcs11]'"


class TokenError(ConfigError):
    code = "token-unusable"
    fmt = "cannot use the token {token!r} of {module}: {why}"
    remedy = "see that it is plugged in, and what `pkcs11-tool --module {module} --list-token-slots` shows"


class TokenPinError(ConfigError):
    code = "token-pin-wrong"
    fmt = "the PIN in {pin_file} does not open the token {token!r}"
    remedy = "correct the file before you try again: tokens lock themselves after a few wrong PINs"


class TokenKeyMissingError(ConfigError):
    code = "token-key-missing"
    fmt = "the token {token!r} has no key {label!r} with ID {id}"
    remedy = "plug in the token that the key was made in, or the clone of it that is your backup"


class TokenKeyExtractableError(ConfigError):
    code = "token-key-extractable"
    fmt = "the key {label!r} in the token {token!r} can be read out of it"
    remedy = "let Volact make its keys in the token: one that existed outside of it is as safe as it was there"


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """A token by its label, the library that speaks to it, and the file whose first line is its user PIN."""

    module: str
    token: str
    pin_file: str

    def pin(self) -> str:
        return keys.read_passphrase(Path(self.pin_file)).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class KeyReference:
    """Where a key is.  Stands in the place of an encrypted key file."""

    place: TokenPlace
    label: str
    id: bytes

    def to_bytes(self) -> bytes:
        place = self.place
        about = {"v": FORMAT, "module": place.module, "token": place.token, "pin_file": place.pin_file}
        return dump_object({**about, "label": self.label, "id": self.id.hex()}) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        claim = Fields(parse_object(data, "token reference"), "token reference")
        claim.integer("v", least=FORMAT, most=FORMAT)
        module, token, pin_file, label = (
            claim.text(name, most=MOST_TEXT) for name in ("module", "token", "pin_file", "label")
        )
        return cls(TokenPlace(module, token, pin_file), label, _id(claim))


class TokenKey:
    """A P-256 key in a token.  May be used by several threads, and after a fork."""

    def __init__(self, reference: KeyReference) -> None:
        self.reference = reference
        self._token: _Token | None = None
        self._session: Any = None
        self._private: Any = None
        with _opened(reference.place) as session:
            self._find(session)
            self.public_key = _public_key(session, reference)

    def sign(self, data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()  # CKM_ECDSA: every token has it, few hash and sign in one
        try:
            return self._sign(digest)
        except TokenError:  # pulled out, restarted or timed out: what it knew of us is gone, and it may be back
            _forget(self.reference.place)
            return self._sign(digest)

    def _sign(self, digest: bytes) -> bytes:
        from pkcs11 import Mechanism

        opened = _opened(self.reference.place, self._token)
        with opened as session:
            signature: bytes = self._find(session).sign(digest, mechanism=Mechanism.ECDSA)
        self._token = opened.token
        return signature

    def _find(self, session: Any) -> Any:
        """The private key's handle, which is of one session only."""
        if self._session is not session:
            self._private = _private_key(session, self.reference)
            self._session = session
        return self._private


def generate(place: TokenPlace, label: str) -> TokenKey:
    """A new key in the token, which it can never leave."""
    reference = KeyReference(place, label, os.urandom(ID_BYTES))
    with _opened(place) as session:
        _generate(session, reference)
    return TokenKey(reference)


def destroy(reference: KeyReference) -> None:
    """Remove a key from its token: for a command that made it and then failed."""
    from pkcs11 import Attribute

    with _opened(reference.place) as session:
        for found in list(session.get_objects({Attribute.ID: reference.id})):
            found.destroy()


@dataclass(slots=True)
class _Token:
    """A token that was opened in this process: its session serves one caller at a time."""

    session: Any
    pin: str = field(repr=False)
    process: int
    lock: Any = field(default_factory=threading.RLock, repr=False)

    def is_current(self, place: TokenPlace) -> bool:
        """Still what is used for that token, in this process: its PIN need not be read again."""
        return _tokens.get((place.module, place.token)) is self and self.process == os.getpid()


class _opened:  # noqa: N801 - used as a function: a context manager that also names the library's errors
    """The token's session, logged in and held; any error of the library comes out as one of ours."""

    def __init__(self, place: TokenPlace, known: _Token | None = None) -> None:
        self._place = place
        self.token = known

    def __enter__(self) -> Any:
        if self.token is None or not self.token.is_current(self._place):
            self.token = _token(self._place)
        self.token.lock.acquire()
        return self.token.session

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        assert self.token is not None
        self.token.lock.release()
        from pkcs11.exceptions import PKCS11Error

        if isinstance(error, PKCS11Error):
            raise _named(self._place, error) from None


_tokens: dict[tuple[str, str], _Token] = {}
_opening = threading.Lock()


def _token(place: TokenPlace) -> _Token:
    pin = place.pin()
    with _opening:
        known = _tokens.get((place.module, place.token))
        if known is None or known.process != os.getpid():
            known = _tokens[place.module, place.token] = _Token(_log_in(place, pin), pin, os.getpid())
    if not hmac.compare_digest(known.pin.encode(), pin.encode()):
        raise TokenPinError(pin_file=place.pin_file, token=place.token)
    return known


def _forget(place: TokenPlace) -> None:
    with _opening:
        _tokens.pop((place.module, place.token), None)


def _log_in(place: TokenPlace, pin: str) -> Any:
    library = _library(place)
    from pkcs11.exceptions import PinIncorrect, PKCS11Error, UserAlreadyLoggedIn

    try:
        token = library.get_token(token_label=place.token)
        try:
            return token.open(rw=True, user_pin=pin)
        except UserAlreadyLoggedIn:  # another session of this process, which was forgotten: the login is the token's
            return token.open(rw=True)
    except PinIncorrect:
        raise TokenPinError(pin_file=place.pin_file, token=place.token) from None
    except PKCS11Error as exc:
        raise _named(place, exc) from None


_started: dict[str, int] = {}  # in which process a library was initialised


def _library(place: TokenPlace) -> Any:
    """A library must be initialised anew in a forked child (PKCS#11 2.40, §6.6.1)."""
    try:
        import pkcs11
        from pkcs11.exceptions import PKCS11Error
    except ModuleNotFoundError:
        raise TokenPartMissingError() from None
    try:
        library = pkcs11.lib(place.module)
        if _started.setdefault(place.module, os.getpid()) != os.getpid():
            _restart(library)
            _started[place.module] = os.getpid()
    except (PKCS11Error, OSError) as exc:
        raise _named(place, exc) from None
    return library


def _restart(library: Any) -> None:
    from pkcs11.exceptions import PKCS11Error

    with contextlib.suppress(PKCS11Error):  # it may say that it is not initialised here
        library.finalize()
    library.initialize()


def _generate(session: Any, reference: KeyReference) -> None:
    from pkcs11 import Attribute, KeyType, MechanismFlag
    from pkcs11.util.ec import encode_named_curve_parameters

    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters(CURVE)}
    parameters = session.create_domain_parameters(KeyType.EC, curve, local=True)
    parameters.generate_keypair(
        store=True,
        label=reference.label,
        id=reference.id,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
    )


def _private_key(session: Any, reference: KeyReference) -> Any:
    from pkcs11 import Attribute, ObjectClass

    private = _object(session, reference, ObjectClass.PRIVATE_KEY)
    if private[Attribute.EXTRACTABLE] or not private[Attribute.SENSITIVE] or not private[Attribute.NEVER_EXTRACTABLE]:
        raise TokenKeyExtractableError(label=reference.label, token=reference.place.token)
    return private


def _public_key(session: Any, reference: KeyReference) -> ec.EllipticCurvePublicKey:
    from pkcs11 import Attribute, ObjectClass

    point = _object(session, reference, ObjectClass.PUBLIC_KEY)[Attribute.EC_POINT]
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), asn1.decode_der(bytes, point))
    except ValueError:
        why = f"its key {reference.label!r} is not on P-256"
        raise TokenError(token=reference.place.token, module=reference.place.module, why=why) from None


def _object(session: Any, reference: KeyReference, kind: Any) -> Any:
    from pkcs11 import Attribute

    found = list(session.get_objects({Attribute.CLASS: kind, Attribute.ID: reference.id}))
    if len(found) != 1:
        raise TokenKeyMissingError(token=reference.place.token, label=reference.label, id=reference.id.hex())
    return found[0]


def _named(place: TokenPlace, error: Exception) -> TokenError:
    """The library's errors say what happened in their type's name, and little else."""
    why = ": ".join(text for text in (type(error).__name__, str(error)) if text)
    return TokenError(token=place.token, module=place.module, why=why)


def _id(claim: Fields) -> bytes:
    text = claim.text("id", most=2 * ID_BYTES)
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != ID_BYTES or value.hex() != text:
        raise MalformedError(what=claim.what, why=f"its id is not {2 * ID_BYTES} hexadecimal digits")
    return value
