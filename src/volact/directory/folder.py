# SPDX-License-Identifier: Apache-2.0
"""The folder of whoever activates a forest: what lies where, and reading and writing it whole.

machine.pem                    signs requests, so that the publisher's ledger says which computer asked
definitions/ROOT-P.volproduct  definitions, by the first 16 digits of the root they were confirmed for
pending/ID.json                a request that is being carried to the publisher; gone once its answer is applied
telephone/ID.json              an installation ID that was read out, and waits for its confirmation ID
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from volact.core.activation_object import id_of
from volact.core.encoding import Fields, parse_object
from volact.core.errors import ConfigError, StoreError, VolactError
from volact.core.issuer import IssuerDescriptor
from volact.core.phone_object import PhoneObject
from volact.core.request import ActivationRequest
from volact.sealing import jws, keys, verify
from volact.sealing.keys import LocalKey
from volact.sealing.sign import MachineSigner
from volact.sealing.verify import Trust, TrustedDefinition

_ID = re.compile(r"[0-9a-f]{32}\Z")


class DefinitionUnknownError(ConfigError):
    code = "directory-product-unknown"
    fmt = "no definition of a product of the publisher of this key was given yet"
    remedy = "give it with the publisher's root: `volact directory activate --definition FILE --root sha256:…`"


class NothingPendingError(ConfigError):
    code = "directory-no-request"
    fmt = "no request waits for this answer"
    remedy = "make a request with `volact directory installation-id`, and apply its answer on the same computer"


class DirectoryFolderError(StoreError):
    code = "directory-folder"
    fmt = "cannot use {path}: {why}"
    remedy = "run the command as the user that owns the folder, or choose another with --dir"


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits for its answer, and under which root it was made."""

    root: str
    request: ActivationRequest


class DirectoryFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def signer(self) -> MachineSigner:
        """This computer's own key, made at first use."""
        path = self.path / "machine.pem"
        if path.exists():
            return MachineSigner(keys.load_signing_key(path, None))
        key = LocalKey.generate()
        self._write(path, keys.private_pem(key.private, None))
        return MachineSigner(key)

    def add_definition(self, token: str, root: str) -> TrustedDefinition:
        """Keep a definition under the root that the administrator was given with it; never one older than is there."""
        trusted = verify.verify_definition(token.strip(), root)
        product, version = trusted.definition.product, trusted.definition.version
        for known in self.definitions():
            same = (known.trust.fingerprint, known.definition.product) == (trusted.trust.fingerprint, product)
            if same and known.definition.version > version:
                raise verify.DefinitionOldError(product=product, version=version, least=known.definition.version)
        name = f"{root.removeprefix('sha256:')[:16]}-{product}.volproduct"
        self._write(self.path / "definitions" / name, f"{root}\n{token.strip()}\n".encode(), 0o644)
        return trusted

    def definitions(self) -> list[TrustedDefinition]:
        """Every definition that verifies under the root it was confirmed for, and whose key was not revoked when it
        signed, by the statuses that they bring along."""
        found = []
        for path in sorted((self.path / "definitions").glob("*.volproduct")):
            root, _, token = path.read_text().strip().partition("\n")
            try:
                found.append(verify.verify_definition(token.strip(), root.strip()))
            except VolactError:  # a damaged copy vouches for nothing
                continue
        statuses = [_status_token(one) for one in found]
        return [one for one in found if _is_good(one, statuses)]

    def trusts(self) -> dict[str, Trust]:
        """Whom this folder knows, by root fingerprint; as the newest of each publisher's definitions says."""
        return verify.newest_trusts(self.definitions())

    def save_pending(self, object_id: str, pending: Pending) -> None:
        """The product key and the one-time response key are in it: for its owner only."""
        data = json.dumps({"root": pending.root, "request": pending.request.to_claim()}).encode()
        self._write(self._pending(object_id), data)

    def pendings(self) -> dict[str, Pending]:
        found = sorted((self.path / "pending").glob("*.json"))
        return {path.stem: _read_pending(path) for path in found if _ID.match(path.stem)}

    def remove_pending(self, object_id: str) -> None:
        self._pending(object_id).unlink(missing_ok=True)

    def save_call(self, call: PhoneObject) -> None:
        data = json.dumps(call.to_claim()).encode()
        self._write(self._call(id_of(call.installation.nonce)), data)

    def calls(self) -> list[PhoneObject]:
        """Installation IDs that wait for an answer, the newest first."""
        found = [_read_call(path) for path in (self.path / "telephone").glob("*.json") if _ID.match(path.stem)]
        return sorted(found, key=lambda call: (-call.installation.day, call.installation.serial))

    def remove_call(self, object_id: str) -> None:
        self._call(object_id).unlink(missing_ok=True)

    def _call(self, object_id: str) -> Path:
        return self.path / "telephone" / f"{object_id}.json"

    def _pending(self, object_id: str) -> Path:
        return self.path / "pending" / f"{object_id}.json"

    def _write(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            keys.write_file(path, data, mode)
        except OSError as exc:
            raise DirectoryFolderError(path=str(path), why=exc.strerror or str(exc)) from None


def _read_call(path: Path) -> PhoneObject:
    return PhoneObject.from_claim(Fields(parse_object(keys.read_file(path), "installation ID"), "installation ID"))


def _status_token(trusted: TrustedDefinition) -> str:
    """What the publisher said of revocations on the day that it signed the definition."""
    try:
        return IssuerDescriptor.from_claim(jws.parse(trusted.definition.issuer, verify.DESCRIPTOR).claims()).status
    except VolactError:
        return ""


def _is_good(trusted: TrustedDefinition, statuses: list[str]) -> bool:
    """By each status that stands on its own signature under what this definition makes known, and nobody else's."""
    for token in statuses:
        try:
            status = verify.verify_status(token, trusted.trust)
        except VolactError:  # another publisher's
            continue
        try:
            trusted.check_status(status)
        except verify.RevokedError:
            return False
    return True


def _read_pending(path: Path) -> Pending:
    claim = Fields(parse_object(keys.read_file(path), "pending request"), "pending request")
    return Pending(claim.text("root", most=80), ActivationRequest.from_claim(claim.fields("request")))
