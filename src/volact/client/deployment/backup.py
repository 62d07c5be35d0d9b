# SPDX-License-Identifier: Apache-2.0
"""Backup and restore of one machine's activations: what brings them back after it was set up anew, without asking.

A backup is this machine's key with its product keys and perpetual licences, sealed to a vault's public key before it
leaves the folder.  Restored on the same hardware, the machine is the one it was: its licences fit, and nobody's pool is
touched.  On other hardware it is refused before anything is written, and a copy that was forced in would not license
either: each licence names the hardware it was made for.  A key in the TPM is kept as its TPM wrapped it, and is of use
in no other.  Not for leases: a machine asks a host again.  Spec: docs/spec/proxy.md §4.
"""

import re
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from volact.client.deployment.generalize import begin
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct, StoredAnswer, load_product, record
from volact.core.definition import Edition
from volact.core.encoding import Fields, b64encode, dump_object, parse_object
from volact.core.errors import ConfigError, InputError, MalformedError, TrustError
from volact.core.evaluation import Evaluation
from volact.core.fingerprint import compare
from volact.core.product_key import Channel, ProductKey
from volact.sealing import jws, keys, recipient, verify

FORMAT = 1
PURPOSE = "machine backup"
KIND = "volact-machine-backup"
MAX_BACKUP = 1024 * 1024
MOST_PRODUCTS = 500
CHANNELS = (Channel.MAK, Channel.RETAIL)
PEM, TPM = "pem", "tpm"
# To the kernel, to its resource daemon, to a simulator.  Of others the name is a library that is loaded, or a command.
TPM_WAYS = re.compile(r"(?:device:/dev/tpm(?:rm)?[0-9]+|(?:tabrmd|swtpm|mssim):[A-Za-z0-9=._,-]*)\Z")
_TRIAL = b"volact machine backup"


class NothingToBackUpError(ConfigError):
    code = "backup-empty"
    fmt = "no product on this machine has a perpetual licence to keep"
    remedy = "activate one first, with a MAK or retail key; leases of KMS hosts are simply asked for again"


class RestoreHardwareError(TrustError):
    code = "restore-other-hardware"
    fmt = "the backup was made on other hardware; what differs for {product}: {traits}"
    remedy = "restore it on the machine it was made on; this one is activated as a new machine"


class RestoreInUseError(ConfigError):
    code = "restore-machine-in-use"
    fmt = "this machine holds an activation of its own for {products}"
    remedy = "give it back first (`volact client deactivate PRODUCT`): restoring would make it worthless"


class RestoreKeyError(TrustError):
    code = "restore-other-key"
    fmt = "the licence of {product} in the backup is not for the machine key in it"
    remedy = "the backup was put together wrongly: make another one on the machine, or activate anew"


@dataclass(frozen=True, slots=True, repr=False)
class KeptProduct:
    root: str
    product: str
    edition: str
    key: ProductKey
    licence: str

    def to_claim(self) -> dict[str, str]:
        return {
            "root": self.root,
            "product": self.product,
            "edition": self.edition,
            "key": str(self.key),
            "licence": self.licence,
        }

    @classmethod
    def from_claim(cls, claim: Fields) -> "KeptProduct":
        return cls(
            root=claim.text("root", most=80),
            product=claim.text("product", most=63),
            edition=claim.text("edition", most=63),
            key=_key(claim),
            licence=claim.text("licence", most=jws.MAX_TOKEN),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Backup:
    """``form`` says how ``key`` is written: a private key in PEM, or a key wrapped by its TPM."""

    form: str
    key: bytes
    products: tuple[KeptProduct, ...]

    def to_bytes(self) -> bytes:
        products = [one.to_claim() for one in self.products]
        claim = {"format": KIND, "v": FORMAT, "form": self.form, "key": b64encode(self.key), "products": products}
        return dump_object(claim) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> "Backup":
        """Strict: a backup or ``MalformedError``."""
        if len(data) > MAX_BACKUP:
            raise MalformedError(what="machine backup", why=f"longer than {MAX_BACKUP} bytes")
        claim = Fields(parse_object(data, "machine backup"), "machine backup")
        if claim.text("format", most=40) != KIND:
            claim.fail("format", KIND)
        claim.integer("v", least=FORMAT, most=FORMAT)
        form = claim.text("form", most=3)
        if form not in (PEM, TPM):
            claim.fail("form", f"{PEM} or {TPM}")
        items = claim.items("products", most=MOST_PRODUCTS)
        products = tuple(KeptProduct.from_claim(Fields(item, "product of a machine backup")) for item in items)
        return cls(form, claim.octets("key", most=8192), products)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A backup that may leave the machine, and what it is of."""

    machine: bytes
    products: tuple[str, ...]
    sealed: bytes


def make_backup(store: ClientStore, to: str) -> Sealed:
    """Seal this machine's key and perpetual licences to a vault.  Raises :class:`NothingToBackUpError`."""
    with store.lock():
        kept = tuple(one for product in store.products() if (one := _kept(store, load_product(store, product))))
        machine = store.machine_id()
        if not kept or machine is None:
            raise NothingToBackUpError()
        form, key = store.machine_key_file()
    sealed = recipient.seal(to, PURPOSE, Backup(form, key, kept).to_bytes())
    return Sealed(machine, tuple(one.product for one in kept), sealed)


def restore(store: ClientStore, backup: Backup, machine: LocalMachine, now: int) -> dict[str, Evaluation]:
    """Be the machine that the backup is of, and have its licences; the state of each product.

    (1) The licences are their publishers', for the backup's key; (2) this is the hardware that they name; (3) nothing
    is lost that this machine was granted since; (4) only then is anything written.  May be repeated.
    """
    with store.lock():
        begin(store, now)  # where the image is a generalised one, its first start is over now
        identity = _identity(backup)
        answers = {one.product: _verified(store, one, identity) for one in backup.products}
        for product, (edition, answer) in answers.items():
            _check_hardware(store, product, edition, answer, machine)
        _check_free(store, identity)
        store.restore_machine_key(backup.form, backup.key, identity)
        for one in backup.products:
            _put_back(store, one, answers[one.product][1])
    return {one.product: _evaluate(store, one.product, machine, now) for one in backup.products}


def _kept(store: ClientStore, loaded: LoadedProduct) -> KeptProduct | None:
    """A product's key and its good licence from a pool."""
    key, edition, channel = store.key(loaded.product), loaded.edition, loaded.installation.channel
    stored = loaded.answer(str(channel))
    if key is None or edition is None or channel not in CHANNELS or stored is None:
        return None
    if stored.licence.machine != loaded.machine:
        return None
    return KeptProduct(loaded.trust.fingerprint, loaded.product, edition.id, key, stored.token)


def _identity(backup: Backup) -> bytes:
    """The machine ID of the backup's key."""
    if backup.form == TPM:
        return _identity_in_tpm(backup.key)
    key = keys.load_private(backup.key, None, "machine backup")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise keys.KeyFileError(path="machine backup", why="it is not a P-256 key")
    return jws.thumbprint(jws.jwk_of(key.public_key()))


def _identity_in_tpm(wrapped: bytes) -> bytes:
    """The same, once the TPM here has shown that the key is its own.  A way to it that names a library
    or a command is not gone: anybody may seal a backup to a vault."""
    from volact.sealing.tpm import TpmKey

    key = TpmKey.from_bytes(wrapped)
    if not TPM_WAYS.match(key.tcti):
        raise MalformedError(what="machine backup", why="its TPM is reached in a way that no restored machine takes")
    key.sign(_TRIAL)
    return jws.thumbprint(jws.jwk_of(key.public_key))


def _verified(store: ClientStore, kept: KeptProduct, identity: bytes) -> tuple[Edition, StoredAnswer]:
    loaded = load_product(store, kept.product)
    edition = loaded.definition.edition(kept.edition)
    trusted = verify.verify_licence(kept.licence, loaded.trust)
    licence = trusted.licence
    if edition is None or licence.product != kept.product or licence.edition != kept.edition:
        raise RestoreKeyError(product=kept.product)
    if licence.machine != identity or licence.channel is not kept.key.channel:
        raise RestoreKeyError(product=kept.product)
    return edition, StoredAnswer(str(licence.channel), kept.licence, trusted)


def _check_hardware(
    store: ClientStore, product: str, edition: Edition, answer: StoredAnswer, machine: LocalMachine
) -> None:
    seen = machine.fingerprint(store.anchor(product).root)
    match = compare(answer.licence.fingerprint, seen, edition.policy.tolerance)
    if not match.within:
        raise RestoreHardwareError(product=product, traits=", ".join(match.differing) or "every trait")


def _check_free(store: ClientStore, identity: bytes) -> None:
    """An activation from a pool under another identity would be lost; leases are asked for again."""
    present = store.machine_id()
    if present is None or present == identity:
        return
    held = [product for product in store.products() if _holds(load_product(store, product))]
    if held:
        raise RestoreInUseError(products=", ".join(held))


def _holds(loaded: LoadedProduct) -> bool:
    mine = [one.licence for one in loaded.answers if one.licence.machine == loaded.machine]
    return any(one.channel in CHANNELS for one in mine) or loaded.phone is not None


def _put_back(store: ClientStore, kept: KeptProduct, answer: StoredAnswer) -> None:
    store.save_key(kept.product, kept.key)
    before = store.installation(kept.product)
    now = before._replace(edition=kept.edition, channel=kept.key.channel, partial=kept.key.partial)
    store.save_installation(kept.product, now)
    store.save_answer(kept.product, answer.name, answer.token)


def _evaluate(store: ClientStore, product: str, machine: LocalMachine, now: int) -> Evaluation:
    loaded = load_product(store, product)
    evaluation = loaded.evaluate(machine.fingerprint(loaded.trust.fingerprint), now)
    record(store, loaded, evaluation, now)
    return evaluation


def _key(claim: Fields) -> ProductKey:
    text = claim.text("key", most=29)
    try:
        return ProductKey.strict(text)
    except InputError:  # nothing of it is repeated: it is a secret
        claim.fail("key", "a product key in its canonical spelling")
