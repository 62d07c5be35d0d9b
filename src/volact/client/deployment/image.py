# SPDX-License-Identifier: Apache-2.0
"""The answer file: products, keys and settings that are laid into an image, or onto a machine, in one step.

    [[product]]
    definition = "acme-cad.volproduct"      beside this file
    root = "sha256:…"
    min_version = 1                         may be left out
    key = "XXXXX-XXXXX-XXXXX-XXXXX-XXXXX"   or  generic = true,  or  guest = true,  or none of them
    edition = "client"                      where a key fits several

    [settings]                              each may be left out
    host = "kms1.example.com:1688"
    domain = "example.com"
    resolver = "192.0.2.53"
    publisher = "https://licences.example"
    caching = true
    mdns = true                             by multicast too, where DNS names no host

The whole file is read and checked before anything is changed.  The command lays it into the image of another system
(``--image``); a copy in the client's folder, ``answer/answer.toml``, is taken by the licensing service at its start.
Guide: docs/guide/images.md.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from volact.client.deployment.generalize import mark_fresh
from volact.client.folder.files import SYSTEM_FOLDER
from volact.client.folder.records import ClientSettings
from volact.client.folder.settings import Settings, parse_host_port
from volact.client.folder.store import ClientStore
from volact.client.products.installing import add_product, install_generic_key, install_key
from volact.core.definition import parse_root
from volact.core.errors import ConfigError
from volact.core.product_key import Channel, ProductKey
from volact.sealing import jws, verify
from volact.wire.client import Server

NAME = "answer.toml"
FOLDER = "answer"  # of the client's folder: what is in it is taken by the first start
MOST_BYTES = 64 * 1024

_PRODUCT = {
    "definition": str,
    "root": str,
    "min_version": int,
    "key": str,
    "generic": bool,
    "guest": bool,
    "edition": str,
}
_SETTINGS = {"host": str, "domain": str, "resolver": str, "publisher": str, "caching": bool, "mdns": bool}


class AnswerFileError(ConfigError):
    code = "answer-file"
    fmt = "cannot use the answer file {path}: {why}"
    remedy = "correct it; docs/guide/images.md shows one"


@dataclass(frozen=True, slots=True)
class ProductAnswer:
    """One product; ``token``: its definition, verified under ``root``."""

    product: str
    token: str
    root: str
    min_version: int
    key: str | None
    channel: Channel | None
    edition: str | None


@dataclass(frozen=True, slots=True)
class AnswerFile:
    products: tuple[ProductAnswer, ...]
    settings: Mapping[str, Any]


def folder_in(image: Path) -> Path:
    """The client's folder of a system whose file tree is ``image``."""
    return image / SYSTEM_FOLDER.relative_to("/")


def read_answer_file(path: Path) -> AnswerFile:
    """A file, or a folder that holds ``answer.toml``.  Raises :class:`AnswerFileError`, the errors of a definition that
    does not verify, and those of a key or a host that is malformed."""
    path = path / NAME if path.is_dir() else path
    table = _read(path)
    unknown = set(table) - {"product", "settings"}
    if unknown:
        raise AnswerFileError(
            path=str(path), why=f"{sorted(unknown)[0]!r} is not known; it has [[product]] and [settings]"
        )
    products, settings = table.get("product", []), table.get("settings", {})
    if not isinstance(products, list) or not isinstance(settings, dict):
        raise AnswerFileError(path=str(path), why="it has [[product]] and [settings]")
    _check(settings, _SETTINGS, "settings", path)
    answer = AnswerFile(tuple(_product(one, path) for one in products), settings)
    with TemporaryDirectory(prefix="volact-") as rehearsal:  # whatever does not fit is found before anything is changed
        apply(ClientStore(Path(rehearsal)), answer, 0)
    return answer


def apply(store: ClientStore, answer: AnswerFile, now: int) -> list[str]:
    """Lay it in; what is there already is brought up to date.  Returns the products.  May be repeated."""
    with store.lock():
        for one in answer.products:
            add_product(store, one.token, one.root, one.min_version, now)
            if one.key is not None:
                install_key(store, one.product, one.key, one.edition)
            elif one.channel is not None:
                install_generic_key(store, one.product, one.edition, one.channel)
        if answer.settings:
            before = store.settings()
            publisher = answer.settings.get("publisher", before.publisher)
            store.save_settings(ClientSettings(_discovery(answer.settings, before.discovery), publisher))
    return [one.product for one in answer.products]


def lay_into_image(store: ClientStore, answer: AnswerFile, now: int) -> list[str]:
    """The same for a system that does not run: grace begins at its first start, and not with the image."""
    products = apply(store, answer, now)
    mark_fresh(store, now)
    return products


def take_waiting(store: ClientStore, now: int) -> list[str]:
    """At a start: what waits in ``answer/`` is laid in, and then removed, since it holds keys; an error leaves it."""
    path = store.folder / FOLDER / NAME
    if not path.exists():
        return []
    products = apply(store, read_answer_file(path), now)
    try:
        path.unlink()
    except OSError as exc:
        raise AnswerFileError(path=str(path), why=exc.strerror or str(exc)) from None
    return products


def _read(path: Path) -> dict[str, Any]:
    try:
        data = path.read_bytes()
        if len(data) > MOST_BYTES:
            raise AnswerFileError(path=str(path), why=f"it is longer than {MOST_BYTES} bytes")
        return tomllib.loads(data.decode())
    except OSError as exc:
        raise AnswerFileError(path=str(path), why=exc.strerror or str(exc)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise AnswerFileError(path=str(path), why=str(exc)) from None


def _product(table: Any, path: Path) -> ProductAnswer:
    if not isinstance(table, dict):
        raise AnswerFileError(path=str(path), why="product is a list of tables: [[product]]")
    _check(table, _PRODUCT, "product", path)
    for name in ("definition", "root"):
        if name not in table:
            raise AnswerFileError(path=str(path), why=f"a product lacks {name}")
    if sum((bool(table.get("generic")), bool(table.get("guest")), "key" in table)) > 1:
        raise AnswerFileError(path=str(path), why="a product has key, or generic, or guest")
    token = _definition(path.parent / table["definition"], path)
    version, root = table.get("min_version", 0), parse_root(table["root"])
    trusted = verify.verify_definition(token, root, min_version=version)
    if "key" in table:
        ProductKey.parse(table["key"])
    channel = Channel.VM if table.get("guest") else Channel.VOLUME if table.get("generic") else None
    product = trusted.definition.product
    return ProductAnswer(product, token, root, version, table.get("key"), channel, table.get("edition"))


def _definition(file: Path, path: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as exc:
        raise AnswerFileError(path=str(path), why=f"{file}: {exc.strerror or exc}") from None
    if len(data) > jws.MAX_TOKEN:
        raise AnswerFileError(path=str(path), why=f"{file} is longer than {jws.MAX_TOKEN} bytes")
    return data.decode("ascii", "replace").strip()


def _check(table: Mapping[str, Any], known: Mapping[str, type], what: str, path: Path) -> None:
    for name, value in table.items():
        if name not in known:
            raise AnswerFileError(path=str(path), why=f"{what} has no {name!r}; it has {', '.join(known)}")
        if type(value) is not known[name]:
            raise AnswerFileError(path=str(path), why=f"{name} of {what} is of the wrong type")


def _discovery(settings: Mapping[str, Any], before: Settings) -> Settings:
    """Raises the errors of a host, domain or address that is malformed."""
    if "publisher" in settings:
        Server.from_url(settings["publisher"])
    if "host" in settings or "domain" in settings:
        before = replace(before, host=None, port=None, domain=settings.get("domain"))
    if "host" in settings:
        host, port = parse_host_port(settings["host"])
        before = replace(before, host=host, port=port)
    if "resolver" in settings:
        before = replace(before, resolver_address=settings["resolver"])
    return replace(before, caching=settings.get("caching", before.caching), mdns=settings.get("mdns", before.mdns))
