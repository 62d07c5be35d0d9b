# SPDX-License-Identifier: Apache-2.0
"""Machines of an Ansible inventory: INI, YAML, or the JSON that ``ansible-inventory --list`` prints.

Groups become tags.  Of the variables only those are read that say where a machine is: ``ansible_host``,
``ansible_port``, ``ansible_user``.  Plugins, scripts and templates are not run; ``ansible-inventory --list`` runs them
and its output is read here.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from volact.core.errors import InputError
from volact.fleet.discovery.errors import SourceUnfitError
from volact.fleet.discovery.names import read_source, split_place
from volact.fleet.discovery.ranges import expand
from volact.fleet.inventory.machines import Found, check_name, check_tag

MOST_DEPTH = 50
IMPLIED = {"all", "ungrouped"}  # groups that say nothing
_SECTION = re.compile(r"\[([^\[\]:]+)(?::(children|vars))?\]\s*(?:#.*)?\Z")
_VARIABLES = {
    "ansible_host": "address",
    "ansible_ssh_host": "address",
    "ansible_port": "port",
    "ansible_user": "account",
}


class _Inventory:
    """Hosts with variables, groups with hosts and child groups."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.hosts: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, set[str]] = {}
        self.children: dict[str, set[str]] = {}
        self.variables: dict[str, dict[str, Any]] = {}

    def add(self, host: str, group: str, variables: Mapping[str, Any]) -> None:
        self.hosts.setdefault(host, {}).update(variables)
        self.groups.setdefault(group, set()).add(host)

    def found(self) -> Iterator[Found]:
        members = {group: self._members(group, 0) for group in {*self.groups, *self.children}}
        for host, own in self.hosts.items():
            groups = sorted(group for group, hosts in members.items() if host in hosts)
            inherited: dict[str, Any] = {}
            for group in ("all", *groups):
                inherited |= self.variables.get(group, {})
            tags = [tag for group in groups if group not in IMPLIED and (tag := _tag(group))]
            yield _found(host, inherited | own, tuple(tags), self.source)

    def _members(self, group: str, depth: int) -> set[str]:
        if depth > MOST_DEPTH:
            raise SourceUnfitError(source=self.source, where="", why=f"group {group} is its own child")
        hosts = set(self.groups.get(group, ()))
        for child in self.children.get(group, ()):
            hosts |= self._members(child, depth + 1)
        return hosts


def from_inventory(path: Path | str) -> Iterator[Found]:
    """Reads by content: JSON begins with a brace, YAML with a mapping, everything else is INI."""
    text, source = read_source(path), f"ansible {path}"
    return from_text(text, source)


def from_text(text: str, source: str) -> Iterator[Found]:
    try:
        return iter(list(_read(text, source).found()))
    except SourceUnfitError:
        raise
    except InputError as exc:
        raise SourceUnfitError(source=source, where="", why=str(exc)) from None


def _read(text: str, source: str) -> _Inventory:
    if text.lstrip().startswith("{"):
        return _from_json(text, source)
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", ";"))), "")
    if first.strip() == "---" or re.match(r"""["']?[\w.-]+["']?:\s*(#.*)?\Z""", first):
        return _from_yaml(text, source)
    return _from_ini(text, source)


def _from_ini(text: str, source: str) -> _Inventory:
    inventory, group, kind = _Inventory(source), "ungrouped", None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(("#", ";")):
            continue
        if (section := _SECTION.match(line)) is not None:
            group, kind = section[1].strip(), section[2]
            continue
        try:
            words = shlex.split(line, comments=True)
        except ValueError as exc:
            raise SourceUnfitError(source=source, where=f" (line {number})", why=str(exc)) from None
        _ini_line(inventory, group, kind, words)
    return inventory


def _ini_line(inventory: _Inventory, group: str, kind: str | None, words: list[str]) -> None:
    if kind == "children":
        inventory.children.setdefault(group, set()).add(words[0])
    elif kind == "vars":
        name, _, value = " ".join(words).partition("=")
        inventory.variables.setdefault(group, {})[name.strip()] = value.strip()
    else:
        variables = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        place, port, _ = split_place(words[0])
        if port is not None:
            variables.setdefault("ansible_port", str(port))
        for host in expand(place):
            inventory.add(host, group, variables)


def _from_yaml(text: str, source: str) -> _Inventory:
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        why = str(getattr(exc, "problem", None) or "it is not YAML")
        mark = getattr(exc, "problem_mark", None)
        raise SourceUnfitError(source=source, where=f" (line {mark.line + 1})" if mark else "", why=why) from None
    inventory = _Inventory(source)
    for name, group in _mapping(value, source).items():
        _yaml_group(inventory, str(name), group, 0)
    return inventory


def _yaml_group(inventory: _Inventory, name: str, value: Any, depth: int) -> None:
    if depth > MOST_DEPTH:
        raise SourceUnfitError(source=inventory.source, where="", why="groups are nested too deep")
    group = _mapping(value, inventory.source)
    inventory.groups.setdefault(name, set())
    inventory.variables.setdefault(name, {}).update(_mapping(group.get("vars"), inventory.source))
    for host, variables in _mapping(group.get("hosts"), inventory.source).items():
        for one in expand(str(host)):
            inventory.add(one, name, _mapping(variables, inventory.source))
    for child, inner in _mapping(group.get("children"), inventory.source).items():
        inventory.children.setdefault(name, set()).add(str(child))
        _yaml_group(inventory, str(child), inner, depth + 1)


def _from_json(text: str, source: str) -> _Inventory:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise SourceUnfitError(source=source, where="", why=f"it is not JSON: {exc}") from None
    inventory = _Inventory(source)
    groups = _mapping(value, source)
    known = _mapping(_mapping(groups.get("_meta"), source).get("hostvars"), source)
    for name, group in groups.items():
        if name != "_meta":
            _json_group(inventory, str(name), group, known)
    return inventory


def _json_group(inventory: _Inventory, name: str, value: Any, known: Mapping[str, Any]) -> None:
    group = {"hosts": value} if isinstance(value, list) else _mapping(value, inventory.source)
    inventory.variables.setdefault(name, {}).update(_mapping(group.get("vars"), inventory.source))
    for host in group.get("hosts") or ():
        inventory.add(str(host), name, _mapping(known.get(host), inventory.source))
    inventory.children.setdefault(name, set()).update(str(child) for child in group.get("children") or ())


def _mapping(value: Any, source: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SourceUnfitError(source=source, where="", why=f"{str(value)[:60]!r} stands where a mapping belongs")
    return value


def _found(host: str, variables: Mapping[str, Any], tags: tuple[str, ...], source: str) -> Found:
    values = {name: _plain(variables.get(key)) for key, name in _VARIABLES.items() if _plain(variables.get(key))}
    port = values.get("port")
    fits = port is not None and port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65_535
    address = values.get("address")
    return Found(
        check_name(host),
        source,
        check_name(address) if address else None,
        int(port) if port and fits else None,
        values.get("account"),
        tags=tags,
    )


def _plain(value: Any) -> str | None:
    """A value as it stands; one with a template in it is for Ansible to fill in."""
    if value is None or isinstance(value, dict | list) or "{{" in str(value):
        return None
    return str(value).strip()[:253] or None


def _tag(group: str) -> str | None:
    try:
        return check_tag(group)
    except InputError:
        return None
