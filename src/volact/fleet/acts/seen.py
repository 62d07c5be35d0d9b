# SPDX-License-Identifier: Apache-2.0
"""What a machine says of its products just before something is done to them, and just after, for the inventory."""

from sqlalchemy import Connection

from volact.core.errors import ConfigError
from volact.fleet.acts.refresh import ERROR, Seen, SeenProduct, record
from volact.fleet.jobs.acts import Changes, Work
from volact.fleet.reach import Session
from volact.fleet.reach.remote import call


class ProductNotThereError(ConfigError):
    code = "fleet-product-not-there"
    fmt = "{machine} has no product {product}"
    remedy = "add it there, or let the fleet bring it: `volact fleet keys add-product FILE`, then install with --add"


async def look(session: Session) -> Seen:
    return Seen.read(await call(session, ["status"]), session.target.name)


def usable(seen: Seen, product: str | None, machine: str) -> list[SeenProduct]:
    """Its products, or the one; raises :class:`ProductNotThereError` where that one is not there.  One that the machine
    cannot load is an error row of its inventory, and nothing is done to it."""
    found = [one for one in seen.products if one.state != ERROR and product in (None, one.product)]
    if product is not None and not found:
        raise ProductNotThereError(machine=machine, product=product)
    return found


async def look_again(session: Session, work: Work) -> Changes:
    """What the machine is now, written with the task's end."""
    seen = await look(session)

    def keep(conn: Connection, now: int) -> None:
        record(conn, work.machine_id, seen, now)

    return keep
