# SPDX-License-Identifier: Apache-2.0
"""The fleet's pages, as data."""

from volact.console.pages.fleet import acts, agreements, begin, jobs, keys, machines, proxy, reports, schedules
from volact.web.access.roles import ADMINISTER, OPERATE, VIEW
from volact.web.pages.visit import Page

GROUP = "Fleet"
FLEET, KEYS, REPORTS = "guide/console#fleet", "guide/console#keys", "guide/console#reports"
JOBS, PROXY = "guide/console#jobs", "guide/console#proxy"
SCHEDULES, AGREEMENTS = "guide/console#schedules", "guide/console#agreements"

_PAGES = (
    Page(
        "/fleet/machines", machines.inventory, VIEW, "Machines", group=GROUP, menu=True, icon="hdd-network", help=FLEET
    ),
    Page("/fleet/add", machines.add, OPERATE, "Machines", ("POST",), help=FLEET, acts="fleet-add"),
    Page("/fleet/act", acts.act, OPERATE, "Machines", ("POST",), help=FLEET, acts="fleet-act"),
    Page("/fleet/machines/{name}", machines.machine, VIEW, "Machine", help=FLEET),
    Page("/fleet/jobs", jobs.jobs, VIEW, "Jobs", group=GROUP, menu=True, icon="activity", help=JOBS),
    Page("/fleet/jobs/{number}", jobs.job, VIEW, "Job", help=JOBS),
    Page("/fleet/jobs/{number}/part", jobs.part, VIEW, "Job"),
    Page("/fleet/jobs/{number}/pause", jobs.pause, OPERATE, "Job", ("POST",), help=JOBS, acts="job-pause"),
    Page("/fleet/jobs/{number}/cancel", jobs.cancel, OPERATE, "Job", ("POST",), help=JOBS, acts="job-cancel"),
    Page("/fleet/jobs/{number}/resume", jobs.resume, OPERATE, "Job", ("POST",), help=JOBS, acts="job-resume"),
    Page("/fleet/jobs/{number}/retry", jobs.retry, OPERATE, "Job", ("POST",), help=JOBS, acts="job-retry"),
    Page(
        "/fleet/schedules", schedules.schedules, VIEW, "Schedules", group=GROUP, menu=True, icon="calendar3",
        help=SCHEDULES,
    ),
    Page("/fleet/schedules/part", schedules.part, VIEW, "Schedules"),
    Page("/fleet/schedules", schedules.add, ADMINISTER, "Schedules", ("POST",), help=SCHEDULES, acts="schedule-add"),
    Page("/fleet/schedules/{name}/run", schedules.run, OPERATE, "Schedules", ("POST",), acts="schedule-run"),
    Page(
        "/fleet/schedules/{name}/enable", schedules.enable, ADMINISTER, "Schedules", ("POST",),
        acts="schedule-enable",
    ),
    Page(
        "/fleet/schedules/{name}/disable", schedules.disable, ADMINISTER, "Schedules", ("POST",),
        acts="schedule-disable",
    ),
    Page(
        "/fleet/schedules/{name}/remove", schedules.remove, ADMINISTER, "Schedules", ("POST",),
        acts="schedule-remove",
    ),
    Page("/fleet/keys", keys.keys, VIEW, "Keys", group=GROUP, menu=True, icon="key", help=KEYS),
    Page("/fleet/keys", keys.add, ADMINISTER, "Keys", ("POST",), help=KEYS, acts="fleet-keys-add"),
    Page("/fleet/keys/refresh", keys.refresh, OPERATE, "Keys", ("POST",), help=KEYS, acts="fleet-keys-refresh"),
    Page("/fleet/keys/definition", keys.define, ADMINISTER, "Keys", ("POST",), help=KEYS, acts="fleet-definition"),
    Page("/fleet/keys/{key_id}", keys.key, VIEW, "Key", help=KEYS),
    Page("/fleet/keys/{key_id}/remove", keys.remove, ADMINISTER, "Key", ("POST",), help=KEYS, acts="fleet-key-remove"),
    Page(
        "/fleet/agreements", agreements.agreements, VIEW, "Agreements", group=GROUP, menu=True,
        icon="file-earmark-text", help=AGREEMENTS,
    ),
    Page(
        "/fleet/agreements", agreements.take, ADMINISTER, "Agreements", ("POST",), help=AGREEMENTS,
        acts="fleet-agreements-import",
    ),
    Page(
        "/fleet/agreements/remove", agreements.remove, ADMINISTER, "Agreements", ("POST",), help=AGREEMENTS,
        acts="fleet-agreement-remove",
    ),
    Page("/fleet/proxy", proxy.proxy, VIEW, "Proxy", group=GROUP, menu=True, icon="arrow-left-right", help=PROXY),
    Page("/fleet/proxy/export", proxy.export, OPERATE, "Proxy", ("POST",), help=PROXY, acts="fleet-proxy-export"),
    Page("/fleet/proxy/confirm", proxy.confirm, OPERATE, "Proxy", ("POST",), help=PROXY, acts="fleet-proxy-confirm"),
    Page("/fleet/proxy/import", proxy.take, OPERATE, "Proxy", ("POST",), help=PROXY, acts="fleet-bundle-import"),
    Page("/fleet/proxy/apply", proxy.apply, OPERATE, "Proxy", ("POST",), help=PROXY, acts="fleet-proxy-apply"),
    Page("/fleet/reports", reports.reports, VIEW, "Reports", group=GROUP, menu=True, icon="bar-chart", help=REPORTS),
    Page("/fleet/reports/{name}", reports.report, VIEW, "Report", help=REPORTS),
)  # fmt: skip
PAGES = (
    *map(begin.needs_fleet, _PAGES),
    Page("/fleet/begin", begin.begin, ADMINISTER, "Machines", ("POST",), help=FLEET, acts="fleet-init"),
)
