# SPDX-License-Identifier: Apache-2.0
"""What was read in the forest's directory: the stored reading, verified at each load.

Reading it is ``activation.directory``'s.  Spec: docs/spec/activation-object.md §6.
"""

from volact.client.folder.store import ClientStore
from volact.core.activation_object import Reading, licence_of
from volact.core.definition import Edition
from volact.core.evaluation import Answer
from volact.sealing import objects
from volact.sealing.verify import Trust


def load_answer(
    store: ClientStore, product: str, trust: Trust, machine: bytes, edition: Edition | None
) -> Answer | None:
    """The stored reading as evaluation takes it; what does not verify is noted and counts for nothing."""
    if edition is None:
        return None
    return store.load_reading(product, lambda token: verified(token, trust, machine, product, edition))


def load_reading(store: ClientStore, product: str, trust: Trust, machine: bytes) -> Reading | None:
    """What was read, to show."""
    return store.load_reading(product, lambda token: objects.verify_reading(token, trust, machine)[0])


def verified(token: str, trust: Trust, machine: bytes, product: str, edition: Edition) -> Answer:
    reading, trusted = objects.verify_reading(token, trust, machine)
    licence = licence_of(trusted.object, reading, machine, product, edition)
    return Answer(licence, trusted.object.expires_at, trusted.issuer_revoked_at, by_directory=True)
