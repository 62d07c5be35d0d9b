# SPDX-License-Identifier: Apache-2.0
"""How a KMS host or a VM host is activated by telephone: digits go out, digits come back, and of these the host makes
its own certificate (:mod:`volact.sealing.phone_certificates`).

Everything after that is as with a certificate that was sent: same key, same sealing key, same end in a year.  What
digits cannot carry is the publisher's revocation status: the product definition's own is stapled until a newer one is
carried here.  Spec: docs/spec/phone.md §8.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from volact.core.binding import NONCE_SIZE
from volact.core.encoding import Fields, b64encode, parse_object
from volact.core.errors import ConfigError, MalformedError
from volact.core.issuer import IssuerDescriptor
from volact.core.phone import INSTALLATION_BYTES, SERIAL_BYTES, ConfirmationId, PhoneFormatError, PhoneReferenceError
from volact.core.phone_site import SiteInstallationId, SiteKind, SiteSubject, name_of_host
from volact.core.policy import DAY
from volact.core.product_key import Channel
from volact.core.refusal import IssuerBusyError, NestedHostError, Refusal, SignedRefusal
from volact.issuer.activation import Activated, HostFacts, definition_of, known_trust
from volact.issuer.folder import HostKey, IssuerFolder
from volact.sealing import jws, keys, phone_certificates, sign, verify
from volact.sealing.verify import Trust, TrustedDefinition

FORMAT = 1
REUSE = 14 * DAY  # an installation ID is shown again for so long; the desk takes it for 30 days
KINDS = {Channel.KMS_HOST: SiteKind.KMS_HOST, Channel.VM_HOST: SiteKind.VM_HOST}
_PROBE = Refusal.of(IssuerBusyError)


class PhoneNotOfferedError(ConfigError):
    code = "host-phone-not-offered"
    fmt = "{publisher} activates no host by telephone with {product}"
    remedy = "activate online or by file, or add a newer definition of {product} that has the publisher's phone key"


class NoCallError(ConfigError):
    code = "host-no-installation-id"
    fmt = "the key ending in {partial} waits for no confirmation ID"
    remedy = "run `{command} installation-id` and read its digits to the publisher's desk"


@dataclass(frozen=True, slots=True)
class HostCall:
    """An installation ID that was shown, with what it was made of."""

    subject: SiteSubject
    installation: SiteInstallationId


def installation_id(
    folder: IssuerFolder,
    host_key: HostKey,
    me: HostFacts,
    now: int,
    random: Callable[[int], bytes],
    *,
    new: bool = False,
) -> HostCall:
    """What to read out for an installed host key; the same as before while it fits, unless ``new`` is asked for."""
    trusted = definition_of(folder, host_key)
    _check_offered(trusted, folder.kind.key_channel, host_key, me)
    definition = trusted.definition
    subject = SiteSubject.of(definition, host_key.key.group, host_key.key.key_id)
    name, serial = _name(folder, host_key), int.from_bytes(random(SERIAL_BYTES), "big")
    made = HostCall(subject, SiteInstallationId.new(KINDS[folder.kind.key_channel], subject, name, now, serial))
    known = None if new else _read(host_key, trusted.trust.fingerprint)
    if known is not None and _fits(known, made):
        return known
    keys.write_file(_path(host_key), json.dumps(_to_claim(made)).encode())
    return made


def waiting(folder: IssuerFolder, host_key: HostKey) -> HostCall:
    """The installation ID that waits for its answer.  Raises :class:`NoCallError`."""
    call = _read(host_key, host_key.root)
    if call is None:
        raise NoCallError(partial=host_key.key.partial, command=folder.kind.command)
    return call


def apply(folder: IssuerFolder, host_key: HostKey, confirmation: ConfirmationId, me: HostFacts) -> Activated:
    """Make the certificate that a confirmation ID permits, verify it as clients will, and keep it.

    Raises ``PhoneReferenceError``, ``ConfirmationInvalidError``, ``PhonePartMissingError``.
    """
    # (1) digits that answer what was read out
    call = waiting(folder, host_key)
    if confirmation.reference != call.installation.reference:
        raise PhoneReferenceError()
    # (2) a certificate of them, for the key that is here
    key = host_key.signing_key(folder.passphrase())
    made = phone_certificates.make(key, call.subject, call.installation, confirmation.signature, me.name)
    # (3) a trial signature goes through the one verifier, so that the host never serves what its clients would refuse
    trusted = definition_of(folder, host_key)
    probe = SignedRefusal("", bytes(NONCE_SIZE), call.installation.begins_at, _PROBE)
    trial = sign.Issuer(key, [made], trusted.trust.root).refusal(probe)
    trust = known_trust(host_key, trusted)
    verify.verify(trial, trust, verify.REFUSAL)
    # (4) the newest revocation status that is here
    status = _status(host_key, trusted, trust)
    # (5) keep it
    host_key.store_activation([made], "", status)
    _path(host_key).unlink()
    folder.touch()
    return Activated(host_key, call.installation.ends_at, call.subject.groups, "")


def _check_offered(trusted: TrustedDefinition, channel: Channel, host_key: HostKey, me: HostFacts) -> None:
    definition = trusted.definition
    if definition.phone_key is None:
        raise PhoneNotOfferedError(publisher=definition.publisher, product=definition.product)
    covered = definition.covered_by(host_key.key.group)
    nested = any(one.policy.guests.nested for one in definition.editions if one.group in covered)
    if channel is Channel.VM_HOST and me.virtual and not nested:
        raise NestedHostError(product=definition.product)


def _status(host_key: HostKey, trusted: TrustedDefinition, trust: Trust) -> str:
    """That of the definition, or one that came here since."""
    brought = IssuerDescriptor.from_claim(jws.parse(trusted.definition.issuer, verify.DESCRIPTOR).claims()).status
    found = verify.verify_status(brought, trust.with_status(None))
    if trust.status is not None and (trust.status.epoch, trust.status.issued_at) >= (found.epoch, found.issued_at):
        return host_key.status_token()
    return brought


def _name(folder: IssuerFolder, host_key: HostKey) -> bytes:
    public = host_key.signing_key(folder.passphrase()).public_key
    return name_of_host(jws.thumbprint(jws.jwk_of(public)))


def _fits(known: HostCall, made: HostCall) -> bool:
    """Whether what was shown before still says the same, and is young."""
    age = made.installation.begins_at - known.installation.begins_at
    return known.subject == made.subject and known.installation.name == made.installation.name and 0 <= age <= REUSE


def _path(host_key: HostKey) -> Path:
    return host_key.folder / "telephone.json"


def _to_claim(call: HostCall) -> dict[str, object]:
    subject = call.subject
    return {
        "v": FORMAT,
        "product": subject.product,
        "group": subject.group,
        "groups": sorted(subject.groups),
        "installation": b64encode(call.installation.to_bytes()),
    }


def _read(host_key: HostKey, root: str) -> HostCall | None:
    path = _path(host_key)
    if not path.exists():
        return None
    claim = Fields(parse_object(keys.read_file(path), "installation ID"), "installation ID")
    claim.integer("v", least=FORMAT, most=FORMAT)
    try:
        installation = SiteInstallationId.from_bytes(claim.octets("installation", size=INSTALLATION_BYTES))
    except PhoneFormatError as exc:
        raise MalformedError(what="installation ID", why=str(exc)) from None
    groups = frozenset(claim.integers("groups"))
    subject = SiteSubject(root, claim.text("product"), claim.integer("group"), groups, host_key.key.key_id)
    return HostCall(subject, installation)
