# SPDX-License-Identifier: Apache-2.0
"""What the fleet's tables say in numbers: one question a function, aggregated in SQL, typed answers.

Reports, the console's dashboard and the REST interface ask the same ones.  ``scope`` is a select of machine IDs: only
those machines count; ``None`` is the whole fleet.  Every function takes a connection, so that several of them see one
moment.  Not here: changes of anything, and the clock.
"""

from volact.fleet.figures.activations import HostCount, Pool, hosts, pools
from volact.fleet.figures.agreements import Compliance, compliance, cover_from_above
from volact.fleet.figures.history import REMOVED, Changed, Sample, changes, refusals_over_time, trend
from volact.fleet.figures.licences import (
    BUCKETS,
    STALE_DAYS,
    Bucket,
    Ending,
    NeverActivated,
    Size,
    StateCount,
    expiring,
    expiry_buckets,
    fleet_size,
    licence_states,
    never_activated,
)
from volact.fleet.figures.scope import GRACES, OK, Scope
from volact.fleet.figures.trouble import CloneGroup, Failure, clones, failures

__all__ = [
    "BUCKETS",
    "GRACES",
    "OK",
    "REMOVED",
    "STALE_DAYS",
    "Bucket",
    "Changed",
    "CloneGroup",
    "Compliance",
    "Ending",
    "Failure",
    "HostCount",
    "NeverActivated",
    "Pool",
    "Sample",
    "Scope",
    "Size",
    "StateCount",
    "changes",
    "clones",
    "compliance",
    "cover_from_above",
    "expiring",
    "expiry_buckets",
    "failures",
    "fleet_size",
    "hosts",
    "licence_states",
    "never_activated",
    "pools",
    "refusals_over_time",
    "trend",
]
