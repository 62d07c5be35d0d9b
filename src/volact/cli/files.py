# SPDX-License-Identifier: Apache-2.0
"""Files that a user names on the command line: read within a bound, written whole or not at all.

``-`` is standard input or output, so that a command works at the other end of a pipe or of SSH.
"""

import re
import sys
from pathlib import Path

from volact.core.errors import ConfigError, InputError, MalformedError

STANDARD = "-"
COMPACT_JWS = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){2}"  # header, payload, signature


class FileUnreadableError(InputError):
    code = "file-unreadable"
    fmt = "cannot read {path}: {why}"
    remedy = "check the path and its permissions"


class FileUnwritableError(ConfigError):
    code = "file-unwritable"
    fmt = "cannot write {path}: {why}"
    remedy = "choose another place, or make room there"


def read_file(path: str, most: int) -> bytes:
    """A file of at most ``most`` bytes, and one more where it is longer, so that its parser says so."""
    try:
        if path == STANDARD:
            return sys.stdin.buffer.read(most + 1)
        with Path(path).open("rb") as file:
            return file.read(most + 1)
    except OSError as exc:
        raise FileUnreadableError(path=path, why=exc.strerror or str(exc)) from None


def read_token(path: str, most: int) -> str:
    """A product definition: one line of ASCII, told apart here from a TOML file or a key that was given by mistake."""
    text = read_file(path, most + 1).decode("ascii", "replace").strip()
    if not re.fullmatch(COMPACT_JWS, text):
        why = "it is not a signed definition, as `volact publisher product export` writes it"
        raise MalformedError(what=path, why=why)
    return text


def write_file(path: str, data: bytes, mode: int = 0o644) -> None:
    """Whole or not at all; readable by everybody, as what is handed on, unless ``mode`` says otherwise."""
    from volact.sealing import keys

    try:
        if path == STANDARD:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            return
        keys.write_file(Path(path), data, mode)
    except OSError as exc:
        raise FileUnwritableError(path=path, why=exc.strerror or str(exc)) from None
