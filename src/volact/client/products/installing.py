# SPDX-License-Identifier: Apache-2.0
"""Products are added with their publisher's root, brought newer definitions, and given a key or none.

What a product is worth with it is ``loading``'s; asking an issuer is ``activation``'s.  Spec: docs/spec/states.md.
"""

from collections.abc import Sequence

from volact.client.folder.records import Anchor, Installation
from volact.client.folder.store import ClientStore
from volact.client.products.loading import LoadedProduct, load_product, load_under_root
from volact.core.definition import GENERIC, Edition, ProductDefinition
from volact.core.errors import ConfigError, TrustError, VolactError
from volact.core.product_key import Channel, ProductKey, publisher_tag
from volact.sealing import certificates, verify
from volact.sealing.verify import TrustedDefinition


class OtherRootError(TrustError):
    code = "product-other-root"
    fmt = "{product} is installed under the publisher root {known}, this definition is signed under {got}"
    remedy = (
        "it is another publisher's, or an impostor's; if the publisher did change its root, run "
        "`volact client remove-product {product}` first"
    )


class OlderDefinitionError(ConfigError):
    code = "definition-older"
    fmt = "version {got} of the definition of {product} is older than the installed version {installed}"
    remedy = "keep the installed one, or get the newest definition from the product's publisher"


class KeyPublisherError(ConfigError):
    code = "key-other-publisher"
    fmt = "the key ending in {partial} is not one of {publisher}, the publisher of {product}"
    remedy = "check which product the key was bought for: `volact client status` lists the products here"


class KeyGroupError(ConfigError):
    code = "key-other-product"
    fmt = "the key ending in {partial} is for product group {group}, which {product} does not have"
    remedy = "check which product the key was bought for, or add a newer definition of {product}"


class KeyHostChannelError(ConfigError):
    code = "key-channel-host"
    fmt = "the key ending in {partial} is a {noun} key: it does not license this machine"
    remedy = (
        "install it on a {noun} (`{command} install-key`); here run `volact client install-key {product} --generic`"
    )


class KeyGenericError(ConfigError):
    code = "key-not-generic"
    fmt = "the {channel} key ending in {partial} is not a generic key of {product}"
    remedy = (
        "run `volact client install-key {product} --generic`, or add the newer definition that brought this key along"
    )


class EditionChoiceError(ConfigError):
    code = "edition-ambiguous"
    fmt = "{product} has several editions that fit: {editions}"
    remedy = "name one: `volact client install-key {product} … --edition EDITION`"


class EditionMissingError(ConfigError):
    code = "edition-not-in-definition"
    fmt = "{product} has no edition {edition} that fits; its editions are: {editions}"
    remedy = "name one of these, or add a newer definition of {product}"


def add_product(store: ClientStore, token: str, root: str, min_version: int, now: int) -> LoadedProduct:
    """Add a product, or bring it a newer definition, under the root that the administrator was given with it.

    Raises what :func:`~volact.sealing.verify.verify_definition` raises, :class:`OtherRootError` and
    :class:`OlderDefinitionError`; then nothing was changed.
    """
    trusted = verify.verify_definition(token, root, min_version=min_version)
    product = trusted.definition.product
    with store.lock():
        known = _anchor(store, product)
        if known is not None:
            _check_succeeds(store, trusted, known)
        anchor = Anchor(root, max(min_version, known.min_version if known else 0), known.added_at if known else now)
        store.save_definition(product, token)
        if known is None:
            store.save_installation(product, Installation(installed_at=now))
        store.save_anchor(product, anchor)  # last: it makes the product exist
    return load_product(store, product)


def install_key(store: ClientStore, product: str, text: str, edition_id: str | None = None) -> LoadedProduct:
    """Install a product key that somebody typed; it replaces the one before.

    Raises the errors of :meth:`ProductKey.parse` and the ``Key…Error`` and ``Edition…Error`` of this module.
    """
    key = ProductKey.parse(text)
    loaded = load_product(store, product)
    edition = _edition_for(key, loaded.definition, edition_id)
    return _install(store, product, key, edition)


def install_generic_key(
    store: ClientStore, product: str, edition_id: str | None = None, channel: Channel = Channel.VOLUME
) -> LoadedProduct:
    """Install the generic key of ``volume`` or ``vm`` that the definition holds, without typing it."""
    definition = load_product(store, product).definition
    offered = [edition for edition in definition.editions if channel in edition.keys]
    edition = _one_edition(offered, definition, edition_id)
    return _install(store, product, edition.keys[channel], edition)


def remove_key(store: ClientStore, product: str) -> LoadedProduct:
    """Remove the product key.  Answers stay: with the key back, a good one counts again."""
    with store.lock():
        installation = store.installation(product)
        store.anchor(product)
        store.save_installation(product, installation._replace(edition=None, channel=None, partial=""))
        store.remove_key(product)
    return load_product(store, product)


def _anchor(store: ClientStore, product: str) -> Anchor | None:
    return store.anchor(product) if product in store.products() else None


def _check_succeeds(store: ClientStore, trusted: TrustedDefinition, known: Anchor) -> None:
    definition = trusted.definition
    if known.root not in map(certificates.fingerprint, trusted.trust.roots):
        raise OtherRootError(product=definition.product, known=known.root, got=trusted.trust.fingerprint)
    installed = _installed_version(store, definition.product, known)
    if definition.version < installed:
        raise OlderDefinitionError(product=definition.product, got=definition.version, installed=installed)


def _installed_version(store: ClientStore, product: str, known: Anchor) -> int:
    """0 where the stored definition is damaged: a good one of the same root may replace it."""
    try:
        return load_under_root(store, product, known.root, known.min_version).definition.version
    except VolactError:
        return 0


def _edition_for(key: ProductKey, definition: ProductDefinition, edition_id: str | None) -> Edition:
    product, partial = definition.product, key.partial
    if key.publisher_tag != publisher_tag(definition.root):
        raise KeyPublisherError(partial=partial, publisher=definition.publisher, product=product)
    if key.channel in _HOSTS:
        noun, command = _HOSTS[key.channel]
        raise KeyHostChannelError(noun=noun, command=command, partial=partial, product=product)
    if key.channel in GENERIC:
        edition = definition.edition_of(key)
        if edition is None:
            raise KeyGenericError(channel=str(key.channel), partial=partial, product=product)
        return _one_edition([edition], definition, edition_id)
    of_group = [edition for edition in definition.editions if edition.group == key.group]
    if not of_group:
        raise KeyGroupError(partial=partial, group=key.group, product=product)
    return _one_edition(of_group, definition, edition_id)


_HOSTS = {Channel.KMS_HOST: ("KMS host", "volact host"), Channel.VM_HOST: ("VM host", "volact vm")}


def _one_edition(fitting: Sequence[Edition], definition: ProductDefinition, edition_id: str | None) -> Edition:
    if edition_id is not None:
        fitting = [edition for edition in fitting if edition.id == edition_id]
    if not fitting:
        every = ", ".join(edition.id for edition in definition.editions)
        wanted = edition_id or "with a generic key"
        raise EditionMissingError(product=definition.product, edition=wanted, editions=every)
    if len(fitting) > 1:
        raise EditionChoiceError(product=definition.product, editions=", ".join(edition.id for edition in fitting))
    return fitting[0]


def _install(store: ClientStore, product: str, key: ProductKey, edition: Edition) -> LoadedProduct:
    with store.lock():
        store.save_key(product, key)
        before = store.installation(product)
        now = before._replace(edition=edition.id, channel=key.channel, partial=key.partial)
        store.save_installation(product, now)
    return load_product(store, product)
