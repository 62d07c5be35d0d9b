# SPDX-License-Identifier: Apache-2.0
"""The start page: what is in use, what happened in the last 30 days, and what needs somebody soon."""

from datetime import UTC, datetime

from starlette.responses import Response

from volact.core.policy import DAY
from volact.publisher.desk import lists
from volact.publisher.desk.state import PHONE, desk_of
from volact.publisher.rows import listing as publisher_listing
from volact.publisher.rows.ledger import Act
from volact.web.access.roles import LOGGED_IN, VIEW
from volact.web.pages.charts import Chart, Series
from volact.web.pages.visit import Page, Visit

DAYS = 30
SOON = 60 * DAY  # an agreement that ends by then is told


def start(visit: Visit) -> Response:
    """Each role's own first page."""
    if visit.allows(VIEW):
        return visit.redirect("/overview")
    return visit.redirect("/phone" if visit.allows(PHONE) else "/account")


def overview(visit: Visit) -> Response:
    desk, now = desk_of(visit), visit.now
    first = now // DAY - DAYS + 1
    with desk.publisher.store.look() as conn:
        totals, acts = lists.totals(conn), lists.acts_by_day(conn, first * DAY)
        near, latest = lists.pools_running_out(conn), lists.latest_rows(conn, 8)
        teller = lists.teller(conn, desk, latest)
        usage = publisher_listing.usage(conn, None)
    ending = [one for one in desk.publisher.store.agreements() if one.ends_at and now < one.ends_at <= now + SOON]
    return visit.render(
        "overview.html", totals=totals, near=near, latest=latest, usage=usage, ending=ending, teller=teller,
        groups=desk.group_names(), chart=_chart(acts, range(first, first + DAYS)), today=now // DAY,
        refused=acts.get((now // DAY, Act.REQUEST_REFUSED), 0), organisations=desk.publisher.store.organisations(),
    )  # fmt: skip


def _chart(acts: dict[tuple[int, str], int], days: range) -> Chart:
    def numbers(*wanted: str) -> list[float | None]:
        return [sum(acts.get((day, act), 0) for act in wanted) for day in days]

    texts = [datetime.fromtimestamp(day * DAY, UTC).strftime("%Y-%m-%d") for day in days]
    return Chart(
        f"Activations and refusals, {DAYS} days",
        "bar",
        texts,
        [
            Series("machines", numbers(Act.MACHINE_ACTIVATED, Act.MACHINE_REACTIVATED)),
            Series("hosts", numbers(Act.HOST_ACTIVATED), "other"),
            Series("refused", numbers(Act.REQUEST_REFUSED), "bad"),
        ],
        links=[f"/ledger?since={text}&until={text}" for text in texts],
        stacked=True,
    )


PAGES = [
    Page("/", start, LOGGED_IN, "Start"),
    Page("/overview", overview, VIEW, "Overview", menu=True, icon="speedometer2", help="guide/desk#overview"),
]
