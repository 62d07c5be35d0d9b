# SPDX-License-Identifier: Apache-2.0
"""A caller and a desk in memory: a site whose product is activated by telephone, and what its desk would sign."""

from dataclasses import replace
from pathlib import Path

from support.client_machine import PRODUCT, ClientMachine
from volact.client.activation import phone
from volact.client.products import installing
from volact.client.products.phone_licence import PhoneRequest
from volact.core.phone import ConfirmationId, Subject, message
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.sealing.confirmation import PhoneKey
from volact.testing import Site

PHONE_KEY = PhoneKey.derive(b"the phone key of a publisher in tests")
OTHER_PHONE_KEY = PhoneKey.derive(b"the phone key of another publisher's desk")


def phone_site(key: PhoneKey | None = PHONE_KEY, **policy: int) -> Site:
    site = Site.make(**policy)
    definition = replace(site.definition, phone_key=key.public if key else None)
    return replace(site, definition=definition, token=site.publisher.sign_definition(definition))


def mak(site: Site, secret: int = 1, channel: Channel = Channel.MAK, group: int = 101) -> ProductKey:
    return ProductKey.new(channel, publisher_tag(site.publisher.fingerprint), group, secret.to_bytes(7, "big"))


def caller(folder: Path, site: Site, number: int = 1, key: ProductKey | None = None) -> ClientMachine:
    """A machine with the product and a MAK."""
    machine = ClientMachine(folder, site, number)
    machine.add()
    installing.install_key(machine.store, PRODUCT, str(key or mak(site)))
    return machine


def show(machine: ClientMachine, *, new: bool = False, serial: bytes = b"\x12\x34") -> PhoneRequest:
    return phone.installation_id(
        machine.store, PRODUCT, machine.local, machine.clock(), lambda size: serial[:size], new=new
    )


def confirm(site: Site, request: PhoneRequest, key: PhoneKey = PHONE_KEY, **changes: object) -> ConfirmationId:
    """What a desk that believes ``changes`` of the subject signs."""
    edition = site.definition.edition(request.edition)
    assert edition is not None
    subject = Subject(site.publisher.fingerprint, PRODUCT, edition.id, edition.group, request.key_id)
    signed = message(replace(subject, **changes), request.installation)  # type: ignore[arg-type]
    return ConfirmationId(request.installation.reference, key.sign(signed))


def apply(machine: ClientMachine, confirmation: ConfirmationId) -> phone.Applied:
    return phone.apply(machine.store, PRODUCT, confirmation, machine.local, machine.clock())
