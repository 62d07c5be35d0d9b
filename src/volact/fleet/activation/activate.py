# SPDX-License-Identifier: Apache-2.0
"""Activating machines, each product by its own way: KMS and directory, retail and MAK, by proxy, from a backup.

``plan`` decides, from what a machine says of its products and what was asked for; the rest are the acts.  Every act
may be repeated: what is licensed by the wanted way already is left alone, a proxy's request is the same until it is
answered, and a backup put back twice is one machine.  Guide: docs/guide/fleet-keys.md.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from volact.core.encoding import b64decode
from volact.core.errors import InputError, MalformedError, VolactError
from volact.core.exchange import AnswerFile
from volact.core.product_key import Channel
from volact.fleet.activation.confirmations import Collected
from volact.fleet.acts.refresh import SeenProduct
from volact.fleet.reach import Session
from volact.fleet.reach.errors import RemoteRefusedError
from volact.fleet.reach.remote import call, clean

ACTIVATE = "activate"  # the act, as jobs are named
POOLED = (Channel.MAK, Channel.RETAIL)
BACKUP_PURPOSE = "machine backup"
NOT_LICENSED = "not-licensed"
MOST_BACKUP = 1024 * 1024
MOST_PLACE = 260  # letters of a DNS name, and a port
_DOMAIN = re.compile(r"(?!-)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|(?!-)[A-Za-z0-9_.-]+)(:(?P<port>[0-9]{1,5}))?")


class Way(StrEnum):
    """How one product of one machine is activated."""

    VOLUME = "volume"  # directory object, then KMS hosts, as the machine finds them
    INDEPENDENT = "independent"  # the machine asks the publisher itself
    PROXY = "proxy"  # the fleet asks the publisher for it
    RESTORE = "restore"  # from its backup, nobody is asked
    OWN = "own"  # virtual machines by their host, OEM by the firmware
    NONE = "none"


class Kms(StrEnum):
    """Which KMS hosts a machine is told to use."""

    KEEP = "keep"  # as it is set there
    AUTOMATIC = "auto"  # DNS; what was set before is cleared
    DOMAIN = "domain"
    HOST = "host"


class ActivateOptionError(InputError):
    code = "fleet-activate-option"
    fmt = "{name} is not {expected}"
    remedy = "see `volact fleet activate --help`"


class KmsPlaceError(InputError):
    code = "fleet-kms-unfit"
    fmt = "{text} does not say where KMS hosts are: {why}"
    remedy = "give auto, domain:NAME such as domain:example.com, or a host as NAME, NAME:PORT or [2001:db8::1]:PORT"


@dataclass(frozen=True, slots=True)
class Options:
    """What a job of activations was asked for; its arguments row, without any secret.

    ``mak``: how MAK and retail keys are activated: independent or proxy.  ``restore``: first from a backup, where there
    is one.  ``keep``: let each machine seal a backup to the vault afterwards.  ``force``: what is licensed too.
    """

    product: str | None = None
    mak: str = str(Way.INDEPENDENT)
    kms: str = str(Kms.KEEP)
    kms_name: str | None = None
    publisher: str | None = None
    restore: bool = True
    keep: bool = False
    force: bool = False

    def check(self) -> "Options":
        """Itself; raises :class:`ActivateOptionError`, :class:`KmsPlaceError`."""
        ways = (str(Way.INDEPENDENT), str(Way.PROXY))
        if self.mak not in ways:
            raise ActivateOptionError(name=f"mak {self.mak}", expected=f"one of {', '.join(ways)}")
        if self.kms not in tuple(map(str, Kms)):
            raise ActivateOptionError(name=f"kms {self.kms}", expected=f"one of {', '.join(map(str, Kms))}")
        if self.kms in (Kms.DOMAIN, Kms.HOST):
            _check_place(self.kms, self.kms_name or "")
        elif self.kms_name:
            raise ActivateOptionError(name="kms_name", expected=f"possible with kms {self.kms}")
        return self

    def to_arguments(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> "Options":
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in arguments.items() if name in known}).check()


@dataclass(frozen=True, slots=True)
class Step:
    """One product, and by which way."""

    product: SeenProduct
    way: Way
    why: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one product."""

    product: str
    way: Way
    licensed: bool
    state: str | None = None
    error: str | None = None
    message: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def plan(products: Sequence[SeenProduct], options: Options) -> list[Step]:
    """By which way each product is activated; one without a key is told so and left."""
    return [_step(one, options) for one in products]


def _step(product: SeenProduct, options: Options) -> Step:
    if product.channel is None:
        return Step(product, Way.NONE, "no-key-installed")
    if product.channel in POOLED:
        if product.licensed and not options.force:
            return Step(product, Way.NONE, "licensed")
        return Step(product, Way(options.mak))
    if product.channel == Channel.VOLUME:
        return Step(product, Way.VOLUME)
    return Step(product, Way.OWN)


def _check_place(kind: str, name: str) -> None:
    """What the machine will be told; it looks closer itself, but before it does a whole job was made."""
    shown = repr(f"{kind}:{name}"[:100] if kind == Kms.DOMAIN else name[:100])
    if not name.strip():
        raise KmsPlaceError(text=shown, why=f"the {kind}'s name is missing")
    pattern, expected = (_DOMAIN, "a DNS domain") if kind == Kms.DOMAIN else (_HOST, "a host's name or address")
    found = pattern.fullmatch(name)
    if found is None or len(name) > MOST_PLACE:
        raise KmsPlaceError(text=shown, why=f"that is not {expected}")
    port = found.groupdict().get("port")
    if port is not None and not 0 < int(port) < 65536:
        raise KmsPlaceError(text=shown, why=f"a port is 1 to 65535, not {port}")


async def set_kms(session: Session, options: Options) -> None:
    """Tell the machine which hosts to use.  Automatic and a domain clear a host that was set before."""
    if options.kms == Kms.KEEP:
        return
    if options.kms == Kms.AUTOMATIC:
        await call(session, ["clear-host"])
        return
    assert options.kms_name is not None, "checked by Options.check"
    where = ["--domain", options.kms_name] if options.kms == Kms.DOMAIN else [options.kms_name]
    await call(session, ["set-host", *where])


async def activate(session: Session, step: Step, options: Options) -> Done:
    """The machine's own activation, through whatever doors its key has."""
    words = ["activate", step.product.product]
    if step.way is Way.INDEPENDENT and options.publisher is not None:
        words += ["--publisher", options.publisher]
    answer = await call(session, words)
    rows = answer.get("products")
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    return _done(step, row)


async def collect(session: Session, product: str, *, new: bool = False) -> Collected:
    """The machine's request to the publisher: the same as before while its key and hardware are the same."""
    return Collected.from_answer(await call(session, ["request", product, *(["--new"] if new else [])]))


async def apply(session: Session, step: Step, answer: AnswerFile) -> Done:
    """Bring the machine its answer.  A refusal in it is the row's error; only the machine can read which."""
    text = answer.to_bytes()
    try:
        return _done(step, await call(session, ["apply", step.product.product, "--answer", "-"], text))
    except RemoteRefusedError as exc:
        return _failed(step, exc)


async def backup(session: Session, vault: str) -> tuple[bytes, tuple[str, ...], bytes]:
    """The machine's ID, the products in its backup, and the backup, sealed to the vault."""
    answer = await call(session, ["backup", "--to", vault])
    machine, sealed = clean(answer.get("machine_id"), 64), answer.get("sealed")
    names = answer.get("products")
    found = [clean(name, 63) for name in names] if isinstance(names, list) else []
    if machine is None or not isinstance(sealed, str) or len(sealed) > 2 * MOST_BACKUP:
        raise MalformedError(what="backup of a machine", why="it is not what `volact client backup` prints")
    try:
        identity = bytes.fromhex(machine)
    except ValueError:
        raise MalformedError(what="backup of a machine", why="its machine ID is not hexadecimal") from None
    return identity, tuple(name for name in found if name), b64decode(sealed, "backup of a machine")


async def restore(session: Session, opened: bytes) -> list[Done]:
    """Put an opened backup back.  Refused by the machine where its hardware is another."""
    answer = await call(session, ["restore", "-"], opened)
    rows = answer.get("products")
    return [
        _done(Step(SeenProduct(clean(row.get("product"), 63) or "", "", ""), Way.RESTORE), row)
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    ]


def skipped(step: Step) -> Done:
    """A product that is left as it is."""
    licensed = step.why == "licensed"
    return Done(step.product.product, step.way, licensed, step.product.state, None if licensed else step.why)


def failed(step: Step, error: VolactError) -> Done:
    return _failed(step, error)


def _done(step: Step, row: Mapping[str, Any]) -> Done:
    licensed, state = row.get("licensed") is True, clean(row.get("state"), 40)
    problem = row.get("error") or (None if licensed else row.get("reason"))
    if not isinstance(problem, dict):
        untold = (None, None) if licensed else (NOT_LICENSED, "the machine says that it is not licensed, and not why")
        return Done(step.product.product, step.way, licensed, state, *untold)
    code, message = clean(problem.get("code"), 60), clean(problem.get("message"), 400)
    return Done(step.product.product, step.way, licensed, state, code or "unnamed", message)


def _failed(step: Step, error: VolactError) -> Done:
    remote = error.fields.get("remote")
    code = str(remote) if remote else error.code
    return Done(step.product.product, step.way, licensed=False, error=code, message=str(error))
