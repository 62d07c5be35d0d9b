# SPDX-License-Identifier: Apache-2.0
"""How far an organisation may go with a token of its own: no further than what it has bought.

Its keys are issued and raised under its own agreements.  All activations of an agreement's MAK and retail keys
together stay within the quantity of their product group; of host keys there is one of each kind for a group.  Operators
are bound by none of this.  The checks run inside the transaction of the act, over rows with that act in them.
"""

from sqlalchemy import Connection, func, select

from volact.core.errors import ConfigError
from volact.core.product_key import Channel
from volact.publisher.rows import listing
from volact.publisher.rules.issuing import POOLED
from volact.publisher.schema import PRODUCT_KEY


class AgreementNeededError(ConfigError):
    code = "agreement-needed"
    fmt = "an organisation's token issues and raises keys under an agreement only"
    remedy = "name one of your agreements; for keys without one, ask the publisher"


class AgreementQuantityError(ConfigError):
    code = "agreement-quantity"
    fmt = (
        "agreement {agreement} has {bought} licences of product group {group}, its keys would have {issued} activations"
    )
    remedy = "ask for fewer, block a key that is not needed, or buy more"


class AgreementHostKeyError(ConfigError):
    code = "agreement-host-key"
    fmt = "there is a {kind} key of product group {group} under agreement {agreement} already"
    remedy = "use it, supersede it where it was lost, or ask the publisher for another one"


class HostLimitsError(ConfigError):
    code = "host-key-limits"
    fmt = "hosts and activations of a host key are set by the publisher"
    remedy = "leave them out, or ask the publisher to raise them"


def check(conn: Connection, agreement: str | None, group: int, channel: Channel) -> None:
    """After a key of that group and channel was issued or raised."""
    if agreement is None:
        raise AgreementNeededError()
    if channel in POOLED:
        _check_pools(conn, agreement, group)
    elif _host_keys(conn, agreement, group, channel) > 1:
        raise AgreementHostKeyError(kind=str(channel), group=group, agreement=agreement)


def _check_pools(conn: Connection, agreement: str, group: int) -> None:
    use = next((one for one in listing.usage(conn, None, agreement) if one.group == group), None)
    bought, issued = (use.bought, use.issued) if use else (0, 1)
    if issued > bought:
        raise AgreementQuantityError(agreement=agreement, bought=bought, group=group, issued=issued)


def _host_keys(conn: Connection, agreement: str, group: int, channel: Channel) -> int:
    row = PRODUCT_KEY.c
    mine = (row.agreement == agreement, row.product_group == group, row.channel == str(channel))
    statement = select(func.count()).where(*mine, row.blocked_at.is_(None))
    return int(conn.execute(statement).scalar_one())
