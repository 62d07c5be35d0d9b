# SPDX-License-Identifier: Apache-2.0
"""Activating a forest by telephone: digits are read out, digits come back, and an activation object is made of them.

Nobody has to dictate what both sides know: the installation ID names the key, the forest and the product groups, and
the confirmation ID is the publisher's signature over that.  Verified before it is stored, and by each member that
reads it.  Spec: docs/spec/activation-object.md §8, docs/spec/phone.md §8.
"""

from collections.abc import Callable
from dataclasses import replace

from volact.core.errors import ConfigError, VolactError
from volact.core.phone import SERIAL_BYTES, ConfirmationId, PhoneReferenceError
from volact.core.phone_object import PhoneObject
from volact.core.phone_site import SiteInstallationId, SiteKind, SiteSubject, name_of_forest
from volact.core.policy import DAY
from volact.directory.activation import Wanted, definition_for
from volact.directory.folder import DirectoryFolder
from volact.sealing.objects import TrustedObject, verify_activation_object

REUSE = 14 * DAY  # an installation ID is shown again for so long; the desk takes it for 30 days


class PhoneNotOfferedError(ConfigError):
    code = "directory-phone-not-offered"
    fmt = "{publisher} activates nothing by telephone with {product}"
    remedy = "activate online or by file, or give a newer definition of {product} that has the publisher's phone key"


class NoCallError(ConfigError):
    code = "directory-no-call"
    fmt = "no installation ID of this computer waits for a confirmation ID"
    remedy = "run `volact directory installation-id` and read its digits to the publisher's desk"


def installation_id(
    folder: DirectoryFolder, wanted: Wanted, now: int, random: Callable[[int], bytes], *, new: bool = False
) -> PhoneObject:
    """What to read out for a forest; the same as before while it fits, unless ``new`` is asked for."""
    definition = definition_for(folder, wanted.key).definition
    if definition.phone_key is None:
        raise PhoneNotOfferedError(publisher=definition.publisher, product=definition.product)
    subject = SiteSubject.of(definition, wanted.key.group, wanted.key.key_id)
    serial = int.from_bytes(random(SERIAL_BYTES), "big")
    name = name_of_forest(wanted.forest)
    made = _call(wanted, subject, SiteInstallationId.new(SiteKind.FOREST, subject, name, now, serial))
    known = None if new else next((call for call in folder.calls() if _fits(call, made)), None)
    call = made if known is None else replace(made, installation=known.installation)
    folder.save_call(call)
    return call


def waiting(folder: DirectoryFolder) -> list[PhoneObject]:
    """Raises :class:`NoCallError` where none does."""
    calls = folder.calls()
    if not calls:
        raise NoCallError()
    return calls


def read_confirmation(folder: DirectoryFolder, confirmation: ConfirmationId) -> TrustedObject:
    """The object that digits make of the installation ID that they answer; it stays until
    :meth:`DirectoryFolder.remove_call`.

    Raises ``PhoneReferenceError``, ``ConfirmationInvalidError``, ``PhonePartMissingError``.
    """
    answered = [one for one in waiting(folder) if one.installation.reference == confirmation.reference]
    trusts = folder.trusts()
    if not answered:
        raise PhoneReferenceError()
    failed: VolactError | None = None
    for call in answered:  # several with one reference: one in ten thousand
        token = replace(call, signature=confirmation.signature).to_token()
        try:
            return verify_activation_object(token, trusts[call.root])
        except VolactError as exc:  # told below, where no other fits
            failed = failed or exc
    assert failed is not None
    raise failed


def _call(wanted: Wanted, subject: SiteSubject, installation: SiteInstallationId) -> PhoneObject:
    return PhoneObject(
        root=subject.root,
        product=subject.product,
        group=subject.group,
        groups=subject.groups,
        key_id=subject.key_id,
        forest=wanted.forest,
        name=wanted.name,
        installation=installation,
        signature=b"",
    )


def _fits(known: PhoneObject, made: PhoneObject) -> bool:
    """Whether what was read out before still says the same, and is young."""
    age = made.installation.begins_at - known.installation.begins_at
    same = known.subject == made.subject and known.installation.name == made.installation.name
    return same and 0 <= age <= REUSE
