# SPDX-License-Identifier: Apache-2.0
"""Rotating the issuing CA: the root, brought back for a moment, certifies a new one, and that new keys of the service;
and rotating the root itself, which certifies the next one first.

Both are good side by side: what the old ones signed, and hosts' certificates, last until their own ends, since every
chain leads to the same root and is judged at the second of the signature.  The sealing key stays, so that requests on
their way, and product keys' index, go on.  A running service takes the new keys by itself (``renewal``).

Spec: docs/guide/publisher.md §Rotate the issuing CA.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509

from volact.core.definition import MOST_ROOTS
from volact.core.errors import ConfigError
from volact.publisher.folder import files, hardware, making
from volact.publisher.folder.generations import MOVED, READY, STAGE, finish
from volact.publisher.folder.hardware import KeyMaker
from volact.publisher.folder.opening import PublisherFolder
from volact.sealing import keys
from volact.sealing.certificates import Certified, fingerprint, make_cross
from volact.sealing.jws import SigningKey


class RootKeyAwayError(ConfigError):
    code = "root-key-away"
    fmt = "the root's key is not in the publisher's folder: {path}"
    remedy = (
        "it was taken offline: bring it here and name it, `--root-key FILE`, or `--root-key root.token` where it is in "
        "a token"
    )


class RootEndsError(ConfigError):
    code = "root-ends"
    fmt = "the publisher's root has ended"
    remedy = (
        "an ended root certifies no next one: `volact publisher rotate root` is for before; now it is a new publisher "
        "to every product: ship products with another root fingerprint"
    )


class MostRootsError(ConfigError):
    code = "roots-most"
    fmt = "the publisher has {most} roots already"
    remedy = "a definition carries no more of them: ship products with the newest fingerprint, as a new publisher"


def rotate(folder: PublisherFolder, root_key: SigningKey, maker: KeyMaker, now: int, actor: str) -> x509.Certificate:
    """Make a new issuing CA and new keys of the service; the new CA's certificate.

    Nothing changes where it fails.  What a crash interrupts after everything was made is finished when the folder is
    opened (:func:`~volact.publisher.folder.generations.finish`).
    """
    hardware.check_same(hardware.ROOT, root_key, folder.root)
    if folder.root.not_valid_after_utc.timestamp() <= now:
        raise RootEndsError()
    with _staged(folder, maker) as stage:
        issuing = _make(folder, stage, Certified(folder.root, hardware.ca_key(root_key)), maker, now)
        with folder.store() as store:
            store.note_rotation(f"{issuing.serial_number:x}", _ends_at(issuing), now, actor)
    return issuing


def rotate_root(
    folder: PublisherFolder, root_key: SigningKey, maker: KeyMaker, now: int, actor: str
) -> x509.Certificate:
    """Make a new root that the present one certifies, and that certifies the present one; then a new issuing CA and new
    keys of the service under it.  The new root's certificate.

    The publisher's name for products, keys and requests stays: the fingerprint of its first root.  As :func:`rotate`,
    it happens wholly or not at all.
    """
    hardware.check_same(hardware.ROOT, root_key, folder.root)
    if folder.root.not_valid_after_utc.timestamp() <= now:
        raise RootEndsError()
    if len(folder.roots) >= MOST_ROOTS:
        raise MostRootsError(most=MOST_ROOTS)
    with _staged(folder, maker) as stage:
        (stage / "root").mkdir(parents=True, mode=0o700)
        new = making.make_root(stage, folder.name, maker, now)
        old = Certified(folder.root, hardware.ca_key(root_key))
        issuing = _make(folder, stage, new, maker, now)
        _write_roots(folder, stage, old, new, now)
        before, made = folder.newest_fingerprint, fingerprint(new.certificate)
        with folder.store() as store:
            store.note_root_rotation(before, made, f"{issuing.serial_number:x}", _ends_at(issuing), now, actor)
    return new.certificate


@contextmanager
def _staged(folder: PublisherFolder, maker: KeyMaker) -> Iterator[Path]:
    """Where what is new is made; it takes its place when the block ends well, and is gone when it does not."""
    stage = folder.path / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        yield stage
        in_use = files.read_certificate(folder.path, "issuing")
        keys.write_file(stage / READY, f"{in_use.serial_number:x}".encode())
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        maker.undo()
        raise
    finish(folder.path)


def _write_roots(folder: PublisherFolder, stage: Path, old: Certified, new: Certified, now: int) -> None:
    """Each certifies the other (RFC 4210 §4.4): readers that know one of them come to know both."""
    serials = (x509.random_serial_number(), x509.random_serial_number())
    links = (make_cross(old, new.certificate, now, serials[0]), make_cross(new, old.certificate, now, serials[1]))
    files.write_certificates(stage, "root", [new.certificate])
    files.write_certificates(stage, "roots", [*folder.roots, new.certificate])
    files.write_certificates(stage, "links", [*folder.links, *links])


def _make(folder: PublisherFolder, stage: Path, root: Certified, maker: KeyMaker, now: int) -> x509.Certificate:
    """A whole new set: copies of what stays, and new ones in the place of what does not."""
    for name in MOVED:
        shutil.copytree(folder.path / name, stage / name, dirs_exist_ok=True)
    for name in hardware.SIGNING_KEYS:
        if name != hardware.ROOT:
            files.key_path(stage, name).unlink(missing_ok=True)
            files.key_path(stage, name).with_suffix(hardware.REFERENCE).unlink(missing_ok=True)
    issuing = making.make_issuing(stage, folder.name, root, maker, now)
    for role in files.ROLES:
        making.make_role(stage, role, folder.name, issuing, maker, now)
    return issuing.certificate


def _ends_at(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp())
