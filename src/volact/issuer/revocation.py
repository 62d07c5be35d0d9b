# SPDX-License-Identifier: Apache-2.0
"""The publisher's revocation status on a host: fetched from the publisher, or carried over an air gap.

A host staples the newest that it has.  One that is older than what it has seen is refused, so that no old file undoes a
revocation.  Spec: docs/spec/revocation.md §2.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from volact.core.binding import NONCE_SIZE
from volact.core.errors import ConfigError, TransportError, VolactError
from volact.core.issuer import MAX_STATUS, RevocationStatus
from volact.issuer.activation import NoPublisherError, Publisher, service_url
from volact.issuer.folder import HostKey, IssuerFolder
from volact.sealing import answers, certificates, keys, phone_certificates, verify
from volact.sealing.verify import Trust, UntrustedRootError
from volact.wire.client import Server

MAX_FILE = MAX_STATUS + 2  # with its line end
REFRESH_SECONDS = 86400  # the publisher signs its status anew each day
_SUITES = ("x25519", "mlkem768-x25519")
_ANY_AGE = 1 << 40  # clients judge the age


class NoActivatedKeyError(ConfigError):
    code = "host-key-not-activated"
    fmt = "no key of this host is activated: there is nothing to staple a revocation status to"
    remedy = "activate one first: `{command} activate` brings the newest status along"


@dataclass(frozen=True, slots=True)
class Updated:
    """The status that was taken; ``keys``: of which host keys (their ends); ``revoked``: those that it revokes."""

    status: RevocationStatus
    keys: tuple[str, ...]
    revoked: tuple[str, ...]


def apply_status(folder: IssuerFolder, token: str) -> Updated:
    """Take a status for every activated key of its publisher.  Raises ``TrustError`` (``status-outdated`` for one that
    is older than what is here), ``MalformedError``, :class:`NoActivatedKeyError`."""
    mine = [(key, trust) for key, trust in _activated(folder) if _is_of(token, trust)]
    if not mine:
        raise UntrustedRootError(what="the revocation status", root=_roots(folder))
    status = verify.verify_status(token, mine[0][1])
    for key, _ in mine:
        keys.write_file(key.folder / "status.jws", token.encode() + b"\n")
    folder.touch()
    revoked = (key.key.partial for key, _ in mine if any(name in status.revoked for name in _names(key)))
    return Updated(status, tuple(key.key.partial for key, _ in mine), tuple(revoked))


def fetch_status(folder: IssuerFolder, host_key: HostKey, publisher: Publisher, now: int) -> str:
    """The status that the publisher staples to its own descriptor, unapplied."""
    trust = next(trust for key, trust in _activated(folder) if key == host_key)
    nonce = os.urandom(NONCE_SIZE)
    token = publisher.get_issuer(host_key.root, host_key.product, host_key.key.group, nonce)
    found = answers.verify_descriptor(
        token, trust, folder.kind.key_channel, now=now, nonce=nonce, suites=_SUITES, status_max_age=_ANY_AGE
    )
    return found.status_token


def refresh_statuses(folder: IssuerFolder, given: Mapping[str, str], now: int) -> Iterator[Updated | VolactError]:
    """Once a day, from each publisher that can be reached; behind an air gap nothing is said, the file is carried."""
    asked = set()
    for key in folder.host_keys():
        if not key.activated or key.root in asked or not _is_due(folder, key, now):
            continue
        asked.add(key.root)
        try:
            server = Server.from_url(service_url(folder, key, given))
            yield apply_status(folder, fetch_status(folder, key, server, now))
        except (TransportError, NoPublisherError):
            continue
        except VolactError as exc:
            yield exc


def _is_due(folder: IssuerFolder, host_key: HostKey, now: int) -> bool:
    trust = next((trust for key, trust in _activated(folder) if key == host_key), None)
    return trust is not None and trust.status is not None and now - trust.status.issued_at >= REFRESH_SECONDS


def _activated(folder: IssuerFolder) -> list[tuple[HostKey, Trust]]:
    """Each activated key, with its publisher's root and what the host has heard of revocations."""
    roots = verify.newest_trusts(folder.products())
    found = []
    for key in folder.host_keys():
        if key.activated and key.root in roots:
            trust = roots[key.root]
            found.append((key, trust.with_status(verify.verify_status(key.status_token(), trust))))
    if not found:
        raise NoActivatedKeyError(command=folder.kind.command)
    return found


def _is_of(token: str, trust: Trust) -> bool:
    """Whether the status is of that publisher at all; whether it is new enough is said by its own error."""
    try:
        verify.verify_status(token, trust.with_status(None))
    except UntrustedRootError:
        return False
    return True


def _roots(folder: IssuerFolder) -> str:
    return ", ".join(sorted({trust.fingerprint for _, trust in _activated(folder)}))


def _names(key: HostKey) -> tuple[str, ...]:
    """Under which a status revokes this host: its key, and the confirmation ID that its certificate was made of."""
    certificate = key.certificates()[0]
    signer = certificates.key_thumbprint(certificates.public_key_of(certificate)).hex()
    confirmed = phone_certificates.is_confirmed(certificate)
    return (signer, phone_certificates.revocation_id(certificate)) if confirmed else (signer,)
