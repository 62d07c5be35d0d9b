# SPDX-License-Identifier: Apache-2.0
"""Telephone and proxy activation."""

from typing import Annotated

from pydantic import AfterValidator, Field

from volact.publisher.administration.opened import MAX_REASON
from volact.publisher.api.models.base import Body, Shown, Time, printable
from volact.publisher.api.models.machines import ExchangeAnswer, ExchangeRequest
from volact.publisher.api.models.problems import Problem

MOST_PROXIED = 200  # installation IDs or requests of one call: some seconds of work
MOST_DIGITS = 400  # of an installation ID, with what people type between them


class LookUpCall(Body):
    installation_id: Annotated[str, Field(min_length=1, max_length=MOST_DIGITS)]


class ConfirmCall(LookUpCall):
    key: Annotated[str, Field(min_length=1, max_length=60, description="The caller's key, or its last five symbols.")]
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON), AfterValidator(printable)]


class ProxiedMachine(Body):
    """One machine: digits with the key, or a sealed request, in which the key is."""

    id: Annotated[str, Field(min_length=1, max_length=100, description="The caller's own name for it.")]
    installation_id: Annotated[str, Field(min_length=1, max_length=MOST_DIGITS)] | None = None
    key: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    request: ExchangeRequest | None = None


class ConfirmProxied(Body):
    machines: Annotated[list[ProxiedMachine], Field(min_length=1, max_length=MOST_PROXIED)]
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON), AfterValidator(printable)]


class CallShown(Shown):
    """``activations`` and ``remaining``: of a pool, or of the places of a host key."""

    caller: str = Field(description="machine, kms-host, vm-host or forest.")
    organisation: str
    product: str
    product_name: str
    edition: str | None = Field(description="Of a machine.")
    edition_name: str | None
    kind: str = Field(description="The key's.")
    key_id: str
    activations: int
    remaining: int
    blocked: bool
    asked_on: str = Field(description="The day, UTC.")
    held: bool = Field(description="Whether this caller has one of them already.")


class CallConfirmed(Shown):
    confirmation_id: str
    groups: list[str]
    kind: str = Field(description="activated, reactivated, renewed or repeated.")
    organisation: str
    product: str
    edition: str | None
    key_id: str
    partial: str
    remaining: int | None = Field(description="Of a pool.")
    ends_at: Time | None = Field(description="Of a host's certificate or a forest's object; null: perpetual.")


class ProxiedAnswer(Shown):
    """Exactly one of the last three is there."""

    id: str
    confirmation: CallConfirmed | None = None
    answer: ExchangeAnswer | None = None
    problem: Problem | None = None


class ProxiedAnswers(Shown):
    items: list[ProxiedAnswer]
