# SPDX-License-Identifier: Apache-2.0
"""The dashboard: what an administrator wants to know first, each figure with a way to the rows behind it.

What takes longer than a look into open stores (the fleet's sums, DNS, the directory) comes in parts of its own, after
the page is there.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from volact.console import charts, probe
from volact.console.pages.parts import kept, refreshed, site_of
from volact.console.setup.directory import listed
from volact.console.setup.state import SetupState
from volact.console.site import HostRole
from volact.core.count import SECONDS_PER_DAY, day_of
from volact.core.errors import VolactError
from volact.fleet import figures
from volact.fleet.figures.forecast import Forecast, Unforeseen
from volact.host import dns
from volact.host.history import host_history
from volact.host.settings import HostSettings
from volact.issuer.status import KeyStatus, key_status
from volact.web.access.roles import VIEW
from volact.web.pages.visit import Page, Visit

DAYS = 30
SECONDS = 5.0  # for which sums over the fleet are kept
DNS_SECONDS = 60.0
SOON = 30 * SECONDS_PER_DAY  # a certificate that ends within that should have renewed itself
FORESEEN = {
    Unforeseen.SPENT: ("used up", "bad"),
    Unforeseen.NOT_FALLING: ("not falling", "good"),
    Unforeseen.TOO_LITTLE: ("too little history yet", "calm"),
}


@dataclass(frozen=True, slots=True)
class Group:
    """A product group's tile: the count beside the thresholds, and its chart."""

    number: int
    name: str
    count: int
    thresholds: tuple[tuple[str, int], ...]
    chart: Any

    @property
    def least(self) -> int:
        return min((threshold for _, threshold in self.thresholds), default=0)

    @property
    def most(self) -> int:
        return max((threshold for _, threshold in self.thresholds), default=0)

    @property
    def reached(self) -> bool:
        return self.count >= self.most


def dashboard(visit: Visit) -> Response:
    site = site_of(visit)
    host = site.host()
    return visit.render(
        "dashboard.html",
        host=_host(visit, host) if host else None,
        fleet=site.fleet() is not None,
        vm=_vm(visit),
        directory=bool(site.folder.directory()),
        days=DAYS,
    )


def _host(visit: Visit, host: HostRole) -> dict[str, Any]:
    history = host_history(host.folder, host.store, visit.now, DAYS)
    names = {one.trust.fingerprint: one.definition.publisher for one in host.folder.products()}
    keys = [key_status(key, names.get(key.root, "")) for key in host.folder.host_keys()]
    groups = [
        Group(
            one.status.group,
            one.status.name,
            one.status.count,
            tuple(sorted(one.status.thresholds.items(), key=lambda pair: pair[1])),
            charts.count_chart(one, visit.now, DAYS),
        )
        for one in history.groups
    ]
    today = day_of(visit.now) * SECONDS_PER_DAY
    rows = [row for row in history.answered if row.at == today]
    return {
        "groups": groups,
        "keys": keys,
        "ends_soon": [key for key in keys if _ends_soon(key, visit.now)],
        "activated": any(key.activated for key in keys),
        "answered": charts.answered_chart(history.answered, visit.now, DAYS),
        "today": sum(sum(row.states.values()) for row in rows),
        "refused": sum(sum(row.refusals.values()) for row in rows),
        "since": today,
    }


def _ends_soon(key: KeyStatus, now: int) -> bool:
    return key.certificate_ends_at is not None and key.certificate_ends_at - now < SOON


def _vm(visit: Visit) -> dict[str, Any] | None:
    role = site_of(visit).vm()
    if role is None:
        return None
    places = role.store.licensed_guests(visit.now)
    return {
        "guests": len(role.store.guests()),
        "places": [(product, edition, number) for (_, product, edition), number in sorted(places.items())],
    }


# ---- parts


def host(visit: Visit) -> Response:
    """The counts and the day's requests, asked for again and again."""
    role = visit.found(site_of(visit).host())
    return visit.render_part("dashboard_parts.html", "host", _host(visit, role), DAYS, _vm(visit))


def health(visit: Visit) -> Response:
    """Whether the host answers, and what DNS says of it."""
    host = site_of(visit).host()
    rows = kept(visit, "health", DNS_SECONDS, lambda: _health(host)) if host else []
    return visit.render_part("dashboard_parts.html", "health", rows)


def _health(host: HostRole) -> list[tuple[str, str, str]]:
    """Label, what it is, tone."""
    settings = HostSettings.load(host.store)
    address = "127.0.0.1" if settings.address in ("::", "0.0.0.0") else settings.address  # noqa: S104
    ready, why = probe.is_ready(address, settings.port)
    rows = [(f"Port {settings.port}", "answers" if ready else why, "good" if ready else "bad")]
    if not settings.dns_publishing:
        return [*rows, ("DNS", "publishing is switched off", "calm")]
    target = settings.dns_target or dns_name()
    for domain in settings.dns_domains():
        try:
            found = dns.lookup(domain, target)
        except VolactError as exc:
            rows.append((domain.domain, str(exc), "bad"))
            continue
        rows += [(domain.domain, f"this host: {record}", "good") for record in found.ours]
        rows += [(domain.domain, f"another host: {record}", "calm") for record in found.others]
        if not found.ours:
            rows.append((domain.domain, "no record of this host", "warn"))
    return rows if len(rows) > 1 else [*rows, ("DNS", "no domain is configured", "calm")]


def dns_name() -> str:
    import socket

    name = socket.gethostname()
    return name if "." in name else socket.getfqdn(name)


def fleet(visit: Visit) -> Response:
    """Sums over the inventory."""
    role = site_of(visit).fleet()
    if role is None:
        return visit.render_part("dashboard_parts.html", "no_fleet")

    def ask() -> dict[str, Any]:
        with role.store.read() as conn:
            now = visit.now
            buckets = figures.expiry_buckets(conn, now)
            return {
                "size": figures.fleet_size(conn, now),
                "states": charts.states_chart(figures.licence_states(conn)),
                "leases": charts.leases_chart(buckets, [_bucket_link(one) for one in buckets]),
                "failures": figures.failures(conn)[:6],
                "hosts": figures.hosts(conn)[:8],
            }

    return visit.render_part("dashboard_parts.html", "fleet", refreshed(visit, "fleet", SECONDS, ask))


def _bucket_link(bucket: figures.Bucket) -> str:
    terms = []
    if bucket.after is not None:
        terms.append(f"expires>+{bucket.after}d")
    if bucket.until is not None:
        terms.append(f"expires<=+{bucket.until}d")
    return f"/fleet/machines?{urlencode({'filter': ' '.join(terms)})}"


def directory(visit: Visit) -> Response:
    """The activation objects of the directory that the wizard activated; asked for beside the page."""
    site = site_of(visit)
    state = SetupState().with_connection(site.folder.directory())

    def ask() -> tuple[list[Any], str]:
        try:
            return list(listed(site.here, state)), ""
        except VolactError as exc:
            return [], f"{exc}; {exc.hint}" if exc.hint else str(exc)

    found = refreshed(visit, "directory", DNS_SECONDS, ask)
    return visit.render_part("dashboard_parts.html", "directory", found)


def pools(visit: Visit) -> Response:
    """MAK pools: what is left, and when they run out."""
    role = site_of(visit).fleet()
    found: list[figures.Pool] = []
    if role is not None:
        with role.store.read() as conn:
            found = figures.pools(conn, visit.now - 180 * SECONDS_PER_DAY)
    rows = [(pool, *foreseen(pool), charts.pool_chart(pool)) for pool in found]
    return visit.render_part("dashboard_parts.html", "pools", rows)


def foreseen(pool: figures.Pool) -> tuple[str, str, int | None]:
    """In words, a tone, and the day."""
    if isinstance(pool.forecast, Forecast):
        return (
            ("runs out" if pool.forecast.day else "lasts for years"),
            "warn" if pool.forecast.day else "good",
            (pool.forecast.day),
        )
    words, tone = FORESEEN[pool.forecast]
    return words, tone, None


PAGES = (
    Page("/", dashboard, VIEW, "Dashboard", group="", menu=True, icon="speedometer2", help="guide/console"),
    Page("/dashboard/host", host, VIEW),
    Page("/dashboard/health", health, VIEW),
    Page("/dashboard/fleet", fleet, VIEW),
    Page("/dashboard/pools", pools, VIEW),
    Page("/dashboard/directory", directory, VIEW),
)
