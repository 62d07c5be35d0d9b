# SPDX-License-Identifier: Apache-2.0
"""Files that are too long for the memory: read bit by bit, written bit by bit and still whole or not at all.

For short ones, and what ``-`` means: :mod:`volact.cli.files`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from volact.cli.files import STANDARD, FileUnreadableError, FileUnwritableError

_MODE = 0o644  # as `write_file` leaves them


@contextmanager
def open_file(path: str) -> Iterator[BinaryIO]:
    if path == STANDARD:
        yield sys.stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as exc:
        raise FileUnreadableError(path=path, why=exc.strerror or str(exc)) from None


@contextmanager
def new_file(path: str) -> Iterator[BinaryIO]:
    """It takes its place, durably, when the block ends well, and is gone when it does not."""
    if path == STANDARD:
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    place = Path(path)
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            temporary.chmod(_MODE)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(place)
    except OSError as exc:
        raise FileUnwritableError(path=path, why=exc.strerror or str(exc)) from None
    finally:
        temporary.unlink(missing_ok=True)
