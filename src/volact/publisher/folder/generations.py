# SPDX-License-Identifier: Apache-2.0
"""The keys and certificates of a publisher's folder that follow one another, when its issuing CA or root is rotated.

rotation/             the new ones while they are made; with ``ready`` in it they only have to move
old/SERIAL/           those of the CA with that serial: certificates for good, keys until somebody deletes them; with
                      the folder of the root's key, where that was rotated
stamp                 another one whenever keys have changed, so that a running service reads them anew
"""

import contextlib
import os
import shutil
from pathlib import Path

from cryptography import x509

from volact.sealing import certificates, keys
from volact.sql.lock import file_lock

STAGE, READY, OLD, STAMP = "rotation", "ready", "old", "stamp"
MOVED = ("keys", "certificates")
ROOT_MOVED = (*MOVED, "root")


def finish(path: Path) -> None:
    """Put what is ready into its place; takes up where it was interrupted, as often as it takes."""
    if (path / STAGE / READY).exists():
        with file_lock(path / STAGE):  # of a rotation and of whoever opens the folder meanwhile, one moves
            _finish(path, path / STAGE)


def stamp(path: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return (path / STAMP).read_bytes()
    return None


def touch(path: Path) -> None:
    """Tell a running service."""
    keys.write_file(path / STAMP, os.urandom(8).hex().encode())


def earlier_authorities(path: Path) -> list[x509.Certificate]:
    """The certificates of the issuing CAs that were in use before: hosts still have theirs from them."""
    found = sorted((path / OLD).glob("*/certificates/issuing.pem"))
    return [certificates.load_der(certificates.der(x509.load_pem_x509_certificate(keys.read_file(f)))) for f in found]


def _finish(path: Path, stage: Path) -> None:
    if not (stage / READY).exists():
        return
    old = path / OLD / keys.read_file(stage / READY).decode()
    old.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ROOT_MOVED:
        if (stage / name).exists():
            if (path / name).exists():
                (path / name).rename(old / name)
            (stage / name).rename(path / name)
    touch(path)
    shutil.rmtree(stage)
