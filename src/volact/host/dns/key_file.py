# SPDX-License-Identifier: Apache-2.0
"""TSIG keys in files of BIND's syntax, as ``tsig-keygen`` writes them.  A strict parser: a key, or one named error."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from pathlib import Path

import dns.exception
import dns.name

from volact.host.dns.errors import DnsKeyFileError
from volact.host.dns.names import sentence, text_of

MAX_KEY_FILE = 64 * 1024  # tsig-keygen writes 120 bytes a key

# RFC 8945 §6 forbids or discourages MD5 and SHA-1; BIND, Knot, PowerDNS and NSD all speak those left.
_TSIG = "hmac-sha224 hmac-sha256 hmac-sha256-128 hmac-sha384 hmac-sha384-192 hmac-sha512 hmac-sha512-256"

TSIG_ALGORITHMS = frozenset(_TSIG.split())

_COMMENT = re.compile(r"(?<![^\s;{}])(?://[^\n]*|#[^\n]*|/\*.*?\*/)", re.DOTALL)

_KEY_STATEMENT = re.compile(r'\s*key\s+("?)([\w.-]+)\1\s*\{([^{}]*)\}\s*;\s*', re.ASCII)

_KEY_CLAUSE = re.compile(r'\s*(algorithm|secret)\s+("?)([\w+/=.-]+)\2\s*;\s*', re.ASCII)


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A shared secret of this host and a name server; its ``repr`` does not show the secret."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)


def read_key_file(path: Path, name: str | None = None) -> TsigKey:
    """The key called ``name`` of a BIND key file, or its only key.  Raises :class:`DnsKeyFileError`, nothing else."""
    keys = parse_key_file(_key_file_text(path), str(path))
    wanted = [key for key in keys if name is None or key.name == name.lower().rstrip(".")]
    if len(wanted) == 1:
        return wanted[0]
    raise DnsKeyFileError(path=str(path), why=f"it holds no key {name}" if name else "it holds several keys: name one")


def parse_key_file(text: str, path: str) -> tuple[TsigKey, ...]:
    """The keys of a file in BIND's syntax, as ``tsig-keygen`` writes it.  Raises :class:`DnsKeyFileError`."""
    rest = _COMMENT.sub(" ", text).strip()
    keys: dict[str, TsigKey] = {}
    while rest:
        statement = _KEY_STATEMENT.match(rest)
        if statement is None:
            raise DnsKeyFileError(path=path, why='it is not a list of: key "NAME" { algorithm …; secret "…"; };')
        key = _key(statement[2], statement[3], path)
        if keys.setdefault(key.name, key) is not key:
            raise DnsKeyFileError(path=path, why=f"it holds key {key.name} twice")
        rest = rest[statement.end() :]
    if not keys:
        raise DnsKeyFileError(path=path, why="it holds no key")
    return tuple(keys.values())


def _key_file_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE + 1)
        text = data.decode("ascii")
    except OSError as error:
        raise DnsKeyFileError(path=str(path), why=error.strerror or str(error)) from None
    except UnicodeDecodeError:
        raise DnsKeyFileError(path=str(path), why="it is not ASCII text") from None
    if len(data) > MAX_KEY_FILE:
        raise DnsKeyFileError(path=str(path), why=f"it is longer than {MAX_KEY_FILE} bytes")
    return text


def _key(name: str, body: str, path: str) -> TsigKey:
    clauses = dict[str, str]()
    rest = body.strip()
    while rest:
        clause = _KEY_CLAUSE.match(rest)
        if clause is None or clause[1] in clauses:
            raise DnsKeyFileError(path=path, why=f"key {name} is not one algorithm and one secret")
        clauses[clause[1]] = clause[3]
        rest = rest[clause.end() :]
    if clauses.keys() != {"algorithm", "secret"}:
        raise DnsKeyFileError(path=path, why=f"key {name} lacks its algorithm or its secret")
    return TsigKey(_key_name(name, path), _algorithm(clauses["algorithm"], path), _secret(clauses["secret"], path))


def _key_name(text: str, path: str) -> str:
    try:
        return text_of(dns.name.from_text(text)).lower()
    except dns.exception.DNSException as error:
        raise DnsKeyFileError(path=path, why=f"key name {text!r}: {sentence(error)}") from None


def _algorithm(text: str, path: str) -> str:
    algorithm = text.lower().rstrip(".")
    if algorithm not in TSIG_ALGORITHMS:
        known = ", ".join(sorted(TSIG_ALGORITHMS))
        raise DnsKeyFileError(path=path, why=f"algorithm {text} is not one of {known}")
    return algorithm


def _secret(text: str, path: str) -> bytes:
    try:
        secret = base64.b64decode(text, validate=True)
    except binascii.Error:
        secret = b""
    if not secret:
        raise DnsKeyFileError(path=path, why="its secret is not base64")
    return secret
