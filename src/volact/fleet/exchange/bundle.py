# SPDX-License-Identifier: Apache-2.0
"""Bundles (``.volbundle``): what is carried between two fleet databases that no network joins.

    volact-bundle             a line that says what it is
    <compact JWS>             the manifest: kind, time, number of rows, size and SHA-256 of the rest; signed
    <zlib stream>             the rows, one JSON object a line

The signature is by the key of the fleet's folder, whose public half is in the header; whose it is, the importer decides
by its fingerprint.  A bundle of kind ``requests`` holds sealed requests under random references and nothing else: no
key, no name, no address.  One strict parser reads all kinds; what it returns is typed, and nothing of it is believed
beyond that.  Spec: docs/spec/bundle.md.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import LargeBinary, Table, Text

from volact.core.encoding import MAX_INT, Fields, b64encode, dump_object, parse_object
from volact.core.errors import InputError, MalformedError, TrustError
from volact.core.exchange import RequestFile
from volact.fleet.schema import CONFIRMATIONS, DEFINITIONS, HISTORY, KEYS, MACHINES, PRODUCTS, TAGS
from volact.sealing import jws, keys
from volact.sealing.keys import LocalKey

FORMAT = 1
MAGIC = b"volact-bundle\n"
TYP = "volact-bundle+jwt"
SUFFIX = ".volbundle"
ID_BYTES = REFERENCE_BYTES = 16
MAX_FILE = 256 * 1024 * 1024
MAX_PLAIN = 1024 * 1024 * 1024  # 100,000 machines with their products and history are some 100 MiB
MAX_MANIFEST = 4096
MAX_LINE = 2 * 1024 * 1024  # the secrets of some thousand keys and machines are one line
MAX_ROWS = 5_000_000
MAX_TEXT = 256 * 1024  # a product definition is the longest text
_CHUNK = 1024 * 1024
_WHAT = "bundle"


class BundleChangedError(TrustError):
    code = "bundle-changed"
    fmt = "the bundle was changed or damaged after it was signed: {why}"
    remedy = "copy it again from where it was made; nothing was imported"


class BundleKindError(InputError):
    code = "bundle-kind"
    fmt = "this bundle holds {got}, {wanted} are needed here"
    remedy = (
        "requests go to `volact fleet proxy confirm`, answers and inventories to `volact fleet import`; "
        "`volact fleet bundle show FILE` tells what a bundle is"
    )


class Kind(StrEnum):
    REQUESTS = "requests"
    ANSWERS = "answers"
    INVENTORY = "inventory"
    FULL = "full"  # an inventory with its keys, encrypted under a passphrase


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A machine's sealed request under a random name.  ``url``: the publisher's own, from its signed definition."""

    reference: bytes
    request: RequestFile
    url: str | None = None

    def to_claim(self) -> dict[str, Any]:
        request = self.request
        claim = {"t": "request", "ref": b64encode(self.reference), "root": request.root, "product": request.product}
        claim |= {"issuer": request.issuer, "sealed": b64encode(request.sealed)}
        return {**claim, "url": self.url} if self.url else claim

    @classmethod
    def from_claim(cls, claim: Fields) -> "RequestRow":
        _exactly(claim, {"t", "ref", "root", "product", "issuer", "sealed"}, {"url"})
        request = RequestFile(
            root=claim.text("root", most=80),
            product=claim.text("product", most=63),
            issuer=claim.text("issuer", most=64),
            sealed=claim.octets("sealed", most=65536),
        )
        return cls(claim.octets("ref", size=REFERENCE_BYTES), request, claim.optional_text("url", most=400))


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """The publisher's sealed answer; licence or refusal, only the machine can tell."""

    reference: bytes
    issuer: str
    sealed: bytes

    def to_claim(self) -> dict[str, Any]:
        claim = {"t": "answer", "ref": b64encode(self.reference), "issuer": self.issuer}
        return {**claim, "sealed": b64encode(self.sealed)}

    @classmethod
    def from_claim(cls, claim: Fields) -> "AnswerRow":
        _exactly(claim, {"t", "ref", "issuer", "sealed"})
        reference = claim.octets("ref", size=REFERENCE_BYTES)
        return cls(reference, claim.text("issuer", most=64), claim.octets("sealed", most=65536))


@dataclass(frozen=True, slots=True)
class ProblemRow:
    """Why there is no answer to a request."""

    reference: bytes
    code: str
    message: str

    def to_claim(self) -> dict[str, Any]:
        return {"t": "problem", "ref": b64encode(self.reference), "code": self.code, "message": self.message}

    @classmethod
    def from_claim(cls, claim: Fields) -> "ProblemRow":
        _exactly(claim, {"t", "ref", "code", "message"})
        reference = claim.octets("ref", size=REFERENCE_BYTES)
        return cls(reference, claim.text("code", most=64), claim.text("message", most=2000))


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of one of the :data:`TABLES`; a machine is named, not numbered."""

    table: str
    values: Mapping[str, Any]

    def to_claim(self) -> dict[str, Any]:
        values = {name: b64encode(v) if isinstance(v, bytes) else v for name, v in self.values.items()}
        return {"t": self.table, **{name: value for name, value in values.items() if value is not None}}

    @classmethod
    def from_claim(cls, claim: Fields) -> "TableRow":
        shape = TABLES[claim.text("t", most=40)]
        _exactly(claim, {"t", *(name for name, column in shape.items() if not column.optional)}, set(shape))
        return cls(claim.text("t", most=40), {name: _value(claim, name, column) for name, column in shape.items()})


@dataclass(frozen=True, slots=True)
class SecretsRow:
    """Keys and machines' backups, encrypted under the bundle's passphrase."""

    sealed: bytes

    def to_claim(self) -> dict[str, Any]:
        return {"t": "secrets", "sealed": b64encode(self.sealed)}

    @classmethod
    def from_claim(cls, claim: Fields) -> "SecretsRow":
        _exactly(claim, {"t", "sealed"})
        return cls(claim.octets("sealed", most=MAX_LINE // 2))


Row: TypeAlias = RequestRow | AnswerRow | ProblemRow | TableRow | SecretsRow


@dataclass(frozen=True, slots=True)
class Manifest:
    """``signer``: the fingerprint of the key that signed.  ``reply_to``: the bundle of requests that answers are to."""

    kind: Kind
    id: bytes
    made_at: int
    signer: str
    rows: int
    reply_to: bytes | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    manifest: Manifest
    rows: tuple[Row, ...]

    def require(self, *kinds: Kind) -> "Bundle":
        """Itself; raises :class:`BundleKindError`."""
        if self.manifest.kind not in kinds:
            raise BundleKindError(got=str(self.manifest.kind), wanted=" or ".join(map(str, kinds)))
        return self


def write(kind: Kind, rows: Iterable[Row], key: LocalKey, id_: bytes, now: int, reply_to: bytes | None = None) -> bytes:
    """A bundle's bytes; ``id_`` is 16 random ones."""
    packer, digest, body = zlib.compressobj(9), hashlib.sha256(), bytearray()
    count = size = 0
    for row in rows:
        line = dump_object(row.to_claim()) + b"\n"
        count, size = count + 1, size + len(line)
        body += packer.compress(line)
    body += packer.flush()
    digest.update(body)
    claims: dict[str, Any] = {"v": FORMAT, "kind": str(kind), "id": b64encode(id_), "iat": now}
    claims |= {"rows": count, "size": size, "sha256": b64encode(digest.digest())}
    if reply_to is not None:
        claims["reply_to"] = b64encode(reply_to)
    token = jws.sign(jws.header(TYP, jwk=jws.jwk_of(key.public_key)), claims, key)
    return MAGIC + token.encode() + b"\n" + bytes(body)


def parse(data: bytes) -> Bundle:
    """The whole of a bundle, or ``MalformedError`` or :class:`BundleChangedError`, and nothing else."""
    manifest, body, size = _open(data)
    if manifest.kind in _REFERENCED and manifest.rows * REFERENCE_BYTES > len(body):
        raise MalformedError(what=_WHAT, why="its manifest says more rows than it has room for")
    lines = islice(_lines(body, size), manifest.rows + 1)  # one too many says enough
    rows = tuple(_read_row(line, manifest.kind) for line in lines)
    if len(rows) != manifest.rows:
        raise BundleChangedError(why=f"it holds {len(rows)} rows, its manifest says {manifest.rows}")
    return Bundle(manifest, rows)


def parse_manifest(data: bytes) -> Manifest:
    """Only what a bundle is; its rows are not looked at."""
    return _open(data)[0]


def fingerprint(key: LocalKey) -> str:
    """How a signer is named: the RFC 7638 thumbprint of its key."""
    return "sha256:" + jws.thumbprint(jws.jwk_of(key.public_key)).hex()


def signing_key(folder: Path) -> LocalKey:
    """The key in a fleet's ``keys`` folder, made at first use; without a passphrase, so that schedules can export."""
    path = folder / "bundle.pem"
    if path.exists():
        return keys.load_signing_key(path, None)
    folder.mkdir(mode=0o700, exist_ok=True)
    made = LocalKey.generate()
    keys.write_file(path, keys.private_pem(made.private, None))
    return made


@dataclass(frozen=True, slots=True)
class Column:
    kind: type
    optional: bool


def _shape(table: Table, *names: str, machine: bool = False) -> dict[str, Column]:
    """Columns that are carried, with their types as the database has them."""
    kinds = {Text: str, LargeBinary: bytes}
    shape = {}
    for name in names:
        column = table.c[name]
        kind = next((kind for sql, kind in kinds.items() if isinstance(column.type, sql)), int)
        shape[name] = Column(kind, bool(column.nullable))
    return {"machine": Column(str, optional=False), **shape} if machine else shape


# What an inventory holds.  Rows of a machine name it; what is only of one database (job rows, leases) stays there.
TABLES: dict[str, dict[str, Column]] = {
    "machines": _shape(
        MACHINES, "name", "address", "port", "account", "source", "os", "volact_version", "machine_id", "added_at",
        "refreshed_at", "contacted_at",
    ),
    "tags": _shape(TAGS, "tag", machine=True),
    "products": _shape(
        PRODUCTS, *(c.name for c in PRODUCTS.c if c.name not in ("id", "machine_id")), machine=True,
    ),
    "history": _shape(HISTORY, *(c.name for c in HISTORY.c if c.name not in ("id", "machine_id")), machine=True),
    "confirmations": _shape(CONFIRMATIONS, *(c.name for c in CONFIRMATIONS.c if c.name != "id")),
    "definitions": _shape(DEFINITIONS, "root", "product", "version", "token", "url", "added_at", "added_by"),
    "keys": _shape(KEYS, *(c.name for c in KEYS.c if c.name not in ("id", "sealed"))),
}  # fmt: skip

_READERS: dict[str, Callable[[Fields], Row]] = {
    "request": RequestRow.from_claim,
    "answer": AnswerRow.from_claim,
    "problem": ProblemRow.from_claim,
    "secrets": SecretsRow.from_claim,
    **dict.fromkeys(TABLES, TableRow.from_claim),
}
# Which rows stand in which kind; a bundle of requests cannot smuggle an inventory past its reader.
_ALLOWED: dict[Kind, frozenset[str]] = {
    Kind.REQUESTS: frozenset({"request"}),
    Kind.ANSWERS: frozenset({"answer", "problem"}),
    Kind.INVENTORY: frozenset(TABLES) - {"keys"},
    Kind.FULL: frozenset(TABLES) | {"secrets"},
}
_KINDS = {str(kind): kind for kind in Kind}
_REFERENCED = (Kind.REQUESTS, Kind.ANSWERS)  # each of their rows has a random name, which nothing makes shorter


def _open(data: bytes) -> tuple[Manifest, bytes, int]:
    """The manifest, verified against the rest; nothing is unpacked before."""
    if len(data) > MAX_FILE:
        raise MalformedError(what=_WHAT, why=f"longer than {MAX_FILE} bytes")
    if not data.startswith(MAGIC):
        raise MalformedError(what=_WHAT, why="it does not begin as a bundle does")
    token, found, body = data[len(MAGIC) :].partition(b"\n")
    if not found or len(token) > MAX_MANIFEST:
        raise MalformedError(what=_WHAT, why=f"no manifest of at most {MAX_MANIFEST} bytes")
    try:
        parsed, key, signer = jws.parse_with_key(token.decode("latin-1"), TYP)
        parsed.verify(key)
    except jws.WrongTypeError:  # here that is malformed, not a matter of which file is used where
        raise MalformedError(what=_WHAT, why="its manifest is another kind of token") from None
    except jws.SignatureError:
        raise BundleChangedError(why="its signature does not fit") from None
    claim = parsed.claims()
    claim.integer("v", least=FORMAT, most=FORMAT)
    size = claim.integer("size", most=MAX_PLAIN)
    if hashlib.sha256(body).digest() != claim.octets("sha256", size=32):
        raise BundleChangedError(why="its rows are not those that were signed")
    return _manifest(claim, "sha256:" + signer.hex()), body, size


def _manifest(claim: Fields, signer: str) -> Manifest:
    kind = _KINDS.get(claim.text("kind", most=20))
    if kind is None:
        claim.fail("kind", "a kind that this version knows")
    return Manifest(
        kind=kind,
        id=claim.octets("id", size=ID_BYTES),
        made_at=claim.integer("iat"),
        signer=signer,
        rows=claim.integer("rows", most=MAX_ROWS),
        reply_to=claim.octets("reply_to", size=ID_BYTES) if "reply_to" in claim else None,
    )


def _lines(body: bytes, size: int) -> Iterator[bytes]:
    """The unpacked lines; never more than the manifest says are unpacked, whatever the stream could grow to."""
    rest, unpacked = b"", 0
    for piece in _unpack(body, size):
        unpacked += len(piece)
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MAX_LINE or any(len(line) > MAX_LINE for line in lines):
            raise MalformedError(what=_WHAT, why=f"a row is longer than {MAX_LINE} bytes")
        yield from lines
    if rest or unpacked != size:
        raise MalformedError(what=_WHAT, why="its rows do not end where its manifest says")


def _unpack(body: bytes, size: int) -> Iterator[bytes]:
    unpacker, left, data = zlib.decompressobj(), size, body
    try:
        while not unpacker.eof:
            piece = unpacker.decompress(data, min(_CHUNK, left + 1))
            data = unpacker.unconsumed_tail
            left -= len(piece)
            if left < 0:
                raise MalformedError(what=_WHAT, why="its rows are longer than its manifest says")
            if piece:
                yield piece
            elif not unpacker.eof and not data:
                raise MalformedError(what=_WHAT, why="its rows break off")
    except zlib.error:
        raise MalformedError(what=_WHAT, why="its rows are not packed as they should be") from None
    if unpacker.unused_data:
        raise MalformedError(what=_WHAT, why="something follows its rows")


def _read_row(line: bytes, kind: Kind) -> Row:
    claim = Fields(parse_object(line, "row of a bundle"), "row of a bundle")
    name = claim.text("t", most=40)
    if name not in _ALLOWED[kind]:
        claim.fail("t", f"a row that stands in a bundle of {kind}")
    return _READERS[name](claim)


def _exactly(claim: Fields, needed: set[str], optional: set[str] | None = None) -> None:
    names = set(claim.names())
    if names - needed - (optional or set()):
        raise MalformedError(what=claim.what, why="it has a member that no such row has")
    missing = needed - names
    if missing:
        raise MalformedError(what=claim.what, why=f"{min(missing)} is missing")


def _value(claim: Fields, name: str, column: Column) -> Any:
    if name not in claim:
        return None
    if column.kind is str:
        return claim.text(name, least=0, most=MAX_TEXT)
    return claim.octets(name, most=65536) if column.kind is bytes else claim.integer(name, least=-MAX_INT)
