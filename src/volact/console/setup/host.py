# SPDX-License-Identifier: Apache-2.0
"""The wizard's steps for a KMS host: what a form becomes, as command lines of ``volact host``.

Only what can be said without the machine is checked here; the command itself has the last word.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from volact.console.targets import Command, Ended, Target
from volact.core.errors import InputError
from volact.core.product_key import Channel, ProductKey
from volact.sealing import verify

JSON = "--json"
KEY_SHOWN = "the key"
MISSING = "host-folder-missing"  # the code of a folder that is none
NO_FIREWALL = "no firewall tool was found here"


class WrongKeyKindError(InputError):
    code = "setup-key-kind"
    fmt = "this is a {channel} key; a KMS host takes a kms-host key"
    remedy = "take the KMS host key of your agreement; MAK and retail keys go to machines: Fleet, Install key"


class NothingGivenError(InputError):
    code = "setup-nothing-given"
    fmt = "{what} is missing"
    remedy = "fill it in, or skip the step where that is offered"


class WrongNumberError(InputError):
    code = "setup-number-unfit"
    fmt = "{what} is not a whole number from {least} to {most}"
    remedy = "correct it; nothing was changed"


@dataclass(frozen=True, slots=True)
class Present:
    """What a machine says of the KMS host on it; ``exists``: there is one."""

    exists: bool
    keys: tuple[Mapping[str, Any], ...] = ()
    products: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def key(self, partial: str) -> Mapping[str, Any] | None:
        return next((key for key in self.keys if key.get("partial") == partial), None)

    @property
    def activated(self) -> bool:
        return any(key.get("activated") for key in self.keys)


def look(target: Target) -> Present:
    """Asks the machine; raises what its command said, but for a host that is not there yet."""
    ended = target.run(Command(("host", "status", JSON)))
    if ended.code and _code(ended) == MISSING:
        return Present(False)
    told = ended.checked().value
    if not isinstance(told, dict):
        raise ended.error()
    return Present(True, tuple(told["keys"]), tuple(told["products"]), told["settings"])


def init() -> Command:
    return Command(("host", "init", JSON))


def add_product(definition: bytes, file_name: str, root: str) -> Command:
    """``root`` as the publisher tells it: the definition does not introduce itself."""
    if not definition:
        raise NothingGivenError(what="the product's definition")
    if not root.strip():
        raise NothingGivenError(what="the publisher's root fingerprint")
    trusted = verify.verify_definition(definition.decode("ascii", "replace").strip(), root.strip().lower())
    words = ("host", "add-product", "-", "--root", trusted.trust.fingerprint, JSON)
    return Command(words, definition, file_name or f"{trusted.definition.product}.volproduct")


def install_key(text: str) -> tuple[Command, ProductKey]:
    if not text.strip():
        raise NothingGivenError(what="the key")
    key = ProductKey.parse(text)
    if key.channel is not Channel.KMS_HOST:
        raise WrongKeyKindError(channel=str(key.channel))
    return Command(("host", "install-key", "-", JSON), str(key).encode() + b"\n", KEY_SHOWN), key


def activate_online(partial: str, publisher: str) -> Command:
    url = ("--publisher", publisher.strip()) if publisher.strip() else ()
    return Command(("host", "activate", "--key", partial, *url, JSON))


def write_request(partial: str) -> Command:
    return Command(("host", "activate", "--key", partial, "--request", "-"))


def apply_answer(partial: str, answer: bytes) -> Command:
    if not answer:
        raise NothingGivenError(what="the publisher's answer file")
    return Command(("host", "activate", "--key", partial, "--answer", "-", JSON), answer, "the answer file")


def installation_id(partial: str) -> Command:
    return Command(("host", "installation-id", "--key", partial, JSON))


def apply_confirmation(partial: str, digits: str) -> Command:
    if not digits.strip():
        raise NothingGivenError(what="the confirmation ID")
    words = ("host", "apply", "--key", partial, "-", JSON)
    return Command(words, digits.encode() + b"\n", "the confirmation ID")


def settings(form: Mapping[str, str], present: Mapping[str, Any]) -> list[Command]:
    """Only what differs from the present settings."""
    commands = []
    port = _number("the port", form.get("port", ""), 1, 65535)
    if port != present.get("port"):
        commands.append(Command(("host", "set-port", str(port), JSON)))
    address = form.get("address", "").strip()
    if address and address != present.get("address"):
        commands.append(Command(("host", "set-listen", address, JSON)))
    commands += _intervals(form, present)
    publishing = bool(form.get("publishing"))
    if publishing != bool(present.get("dns_publishing")):
        commands.append(Command(("host", "dns", "on" if publishing else "off", JSON)))
    return commands


def add_domain(form: Mapping[str, str]) -> Command:
    domain = form.get("domain", "").strip()
    if not domain:
        raise NothingGivenError(what="the domain")
    priority = _number("the priority", form.get("priority") or "0", 0, 65535)
    weight = _number("the weight", form.get("weight") or "0", 0, 65535)
    words = ["host", "dns", "add", f"{domain},{priority},{weight}"]
    if form.get("server", "").strip():
        words += ["--server", form["server"].strip()]
    if form.get("sign") == "tsig":
        if not form.get("key_file", "").strip():
            raise NothingGivenError(what="the TSIG key file")
        words += ["--key-file", form["key_file"].strip()]
    elif form.get("sign") == "kerberos":
        words.append("--kerberos")
    if form.get("target", "").strip():
        words += ["--target", form["target"].strip()]
    return Command((*words, JSON))


def remove_domain(domain: str) -> Command:
    return Command(("host", "dns", "remove", domain, JSON))


def firewall_lines(port: int) -> tuple[tuple[str, str], ...]:
    """What opens the port, by tool.  The console does not touch a firewall: whom to let in is the site's decision."""
    return (
        ("firewalld", f"firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload"),
        ("ufw", f"ufw allow from 192.0.2.0/24 to any port {port} proto tcp"),
        ("nftables", f"nft add rule inet filter input ip saddr 192.0.2.0/24 tcp dport {port} accept"),
    )


def _intervals(form: Mapping[str, str], present: Mapping[str, Any]) -> list[Command]:
    if form.get("intervals") != "own":
        both = (present.get("activation_minutes"), present.get("renewal_minutes"))
        return [] if both == (None, None) else [Command(("host", "set-intervals", "--policy", JSON))]
    words = []
    for name in ("activation", "renewal"):
        minutes = _number(f"the {name} interval", form.get(name, ""), 15, 43200)
        if minutes != present.get(f"{name}_minutes"):
            words += [f"--{name}", str(minutes)]
    return [Command(("host", "set-intervals", *words, JSON))] if words else []


def _number(what: str, text: str, least: int, most: int) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
        raise WrongNumberError(what=what, least=least, most=most)
    return int(text)


def _code(ended: Ended) -> str:
    told = ended.value
    return str(told["error"].get("code", "")) if isinstance(told, dict) and isinstance(told.get("error"), dict) else ""
