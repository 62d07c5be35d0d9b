# SPDX-License-Identifier: Apache-2.0
"""The test activation: one client of the console's own, installed and activated through a host, as a machine would be.

It has a folder of its own, so that it is the same machine each time and counts once.
"""

import http.client
import json
from dataclasses import dataclass
from typing import Any

from volact.console.folder import ConsoleFolder
from volact.console.targets import Command, Ended, ThisMachine
from volact.core.errors import ConfigError
from volact.sealing import verify

READY_SECONDS = 2.0
GOOD_CODES = (0, 1)  # 1: answered, but not licensed yet


class NoDefinitionError(ConfigError):
    code = "console-no-definition"
    fmt = "the definition of {product} was not given to this console"
    remedy = "go back to the step Product and upload it; the test machine needs it like any other"


@dataclass(frozen=True, slots=True)
class Proof:
    """What the host answered.  ``proven``: it answered with a signed licence, whatever the count is by now."""

    proven: bool
    licensed: bool
    count: int | None
    threshold: int | None
    state: str
    host: str
    sentence: str


def commands(folder: ConsoleFolder, product: str, edition: str, host: str) -> list[Command]:
    """What a machine's installation and first activation are."""
    found = folder.definition(product)
    if found is None:
        raise NoDefinitionError(product=product)
    path, root = found
    where = ("--dir", str(folder.probe), "--json")
    return [
        Command(("client", "add-product", str(path), "--root", root, *where)),
        Command(("client", "install-key", product, "--generic", "--edition", edition, *where)),
        Command(("client", "activate", product, "--host", host, *where)),
    ]


def editions(folder: ConsoleFolder, product: str) -> list[tuple[str, str]]:
    """Edition IDs and names of the definition; a host's machines are those of its key's groups."""
    found = folder.definition(product)
    if found is None:
        return []
    path, root = found
    definition = verify.verify_definition(path.read_text(encoding="ascii").strip(), root).definition
    return [(edition.id, edition.name) for edition in definition.editions]


def prove(folder: ConsoleFolder, here: ThisMachine, product: str, edition: str, host: str) -> Proof:
    """Where it was installed before, it is the same machine again."""
    *prepare, activate = commands(folder, product, edition, host)
    for command in prepare:
        here.run(command).checked()
    return _proof(here.run(activate))


def is_ready(host: str, port: int) -> tuple[bool, str]:
    """Whether a KMS host answers there, and what is wrong otherwise."""
    try:
        connection = http.client.HTTPConnection(host, port, timeout=READY_SECONDS)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            text = answer.read(400).decode("utf-8", "replace").strip()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as exc:
        return False, getattr(exc, "strerror", None) or str(exc) or "it hung up"
    return answer.status == 200, text


def _proof(ended: Ended) -> Proof:
    told = ended.value
    products: list[dict[str, Any]] = told.get("products", []) if isinstance(told, dict) else []
    if ended.code not in GOOD_CODES or not products:
        raise ended.error()
    one = products[0]
    reason, wrong = one.get("reason") or {}, one.get("error") or {}
    return Proof(
        proven=not wrong and one.get("count") is not None,
        licensed=one.get("state") == "licensed",
        count=one.get("count"),
        threshold=one.get("threshold"),
        state=str(one.get("state")),
        host=str(one.get("host") or ""),
        sentence=str(wrong.get("message") or reason.get("message") or ""),
    )


def dump(proof: Proof) -> str:
    return json.dumps({name: getattr(proof, name) for name in Proof.__slots__})
