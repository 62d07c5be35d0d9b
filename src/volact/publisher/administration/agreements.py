# SPDX-License-Identifier: Apache-2.0
"""Organisations, and their agreements: what they bought, and until when."""

from collections.abc import Callable, Mapping

from volact.core.product_key import Channel
from volact.publisher.administration.errors import AgreementDatesError, AgreementGroupError
from volact.publisher.administration.opened import Opened, checked_limit
from volact.publisher.folder.making import check_name
from volact.publisher.rows.records import Agreement


class Agreements(Opened):
    """Who gets keys, how many, and until when."""

    def add_organisation(self, name: str, now: int, actor: str) -> None:
        check_name("the organisation's name", name)
        self.store.add_organisation(name, now, actor)

    def add_agreement(
        self, name: str, organisation: str, starts_at: int, ends_at: int | None, quantities: Mapping[int, int],
        now: int, actor: str,
    ) -> Agreement:  # fmt: skip
        check_name("the agreement's name", name)
        _check_dates(starts_at, ends_at)
        for quantity in quantities.values():
            checked_limit("quantities", quantity, 1)
        agreement = Agreement(name, organisation, starts_at, ends_at, now, quantities)
        self.store.add_agreement(agreement, actor)
        return agreement

    def change_agreement(
        self,
        name: str,
        ends_at: int | None,
        now: int,
        actor: str,
        check: Callable[[Agreement], None] = lambda _: None,
    ) -> Agreement:
        """Extend an agreement, or end it; ``check`` is shown the agreement as it is at that moment, and may raise."""

        def all_checks(agreement: Agreement) -> None:
            check(agreement)
            _check_dates(agreement.starts_at, ends_at)

        return self.store.change_agreement(name, ends_at, all_checks, now, actor)

    def check_covers(self, agreement: str | None, group: int) -> None:
        if agreement is not None and group not in self.store.agreement(agreement).quantities:
            raise AgreementGroupError(agreement=agreement, group=group)

    def default_pool(self, channel: Channel, agreement: str | None, group: int) -> int:
        if channel is Channel.RETAIL:
            return 1
        return self.store.agreement(agreement).quantities[group] if agreement else 0


def _check_dates(starts_at: int, ends_at: int | None) -> None:
    if ends_at is not None and ends_at <= starts_at:
        raise AgreementDatesError()
