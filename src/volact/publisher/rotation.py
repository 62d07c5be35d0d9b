# SPDX-License-Identifier: Apache-2.0
"""Rotating the issuing CA: the root, brought back for a moment, certifies a new one, and that new keys of the service.

Both are good side by side: what the old ones signed, and hosts' certificates, last until their own ends, since every
chain leads to the same root and is judged at the second of the signature.  The sealing key stays, so that requests on
their way, and product keys' index, go on.  A running service keeps its old keys until it is started again.

Spec: docs/guide/publisher.md §Rotate the issuing CA.
"""

import shutil
from pathlib import Path

from cryptography import x509

from volact.core.errors import ConfigError
from volact.publisher import folder as folders
from volact.publisher import hardware
from volact.publisher.folder import PublisherFolder
from volact.publisher.generations import MOVED, READY, STAGE, finish
from volact.publisher.hardware import KeyMaker
from volact.sealing import keys
from volact.sealing.certificates import Certified
from volact.sealing.jws import SigningKey


class RootEndsError(ConfigError):
    code = "root-ends"
    fmt = "the publisher's root has ended"
    remedy = "a new root is a new publisher to every product: ship products with another root fingerprint"


def rotate(folder: PublisherFolder, root_key: SigningKey, maker: KeyMaker, now: int, actor: str) -> x509.Certificate:
    """Make a new issuing CA and new keys of the service; the new CA's certificate.

    Nothing changes where it fails.  What a crash interrupts after everything was made is finished when the folder is
    opened (:func:`~volact.publisher.generations.finish`).
    """
    hardware.check_same(hardware.ROOT, root_key, folder.root)
    if folder.root.not_valid_after_utc.timestamp() <= now:
        raise RootEndsError()
    stage = folder.path / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        issuing = _make(folder, stage, Certified(folder.root, hardware.ca_key(root_key)), maker, now)
        with folder.store() as store:
            store.note_rotation(f"{issuing.serial_number:x}", _ends_at(issuing), now, actor)
        in_use = folders.read_certificate(folder.path, "issuing")
        keys.write_file(stage / READY, f"{in_use.serial_number:x}".encode())
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        maker.undo()
        raise
    finish(folder.path)
    return issuing


def _make(folder: PublisherFolder, stage: Path, root: Certified, maker: KeyMaker, now: int) -> x509.Certificate:
    """A whole new set: copies of what stays, and new ones in the place of what does not."""
    for name in MOVED:
        shutil.copytree(folder.path / name, stage / name)
    for name in hardware.SIGNING_KEYS:
        if name != hardware.ROOT:
            folders.key_path(stage, name).unlink(missing_ok=True)
            folders.key_path(stage, name).with_suffix(hardware.REFERENCE).unlink(missing_ok=True)
    issuing = folders.make_issuing(stage, folder.name, root, maker, now)
    for role in folders.ROLES:
        folders.make_role(stage, role, folder.name, issuing, maker, now)
    return issuing.certificate


def _ends_at(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp())
