# SPDX-License-Identifier: Apache-2.0
"""``volact host history``: counts day by day, and what was answered when."""

import argparse
from collections import Counter
from dataclasses import asdict
from typing import Any

from volact.cli.environment import Environment
from volact.cli.host.common import opened
from volact.cli.options import add_verb, between
from volact.core.count import SECONDS_PER_DAY
from volact.host.history import Answered, GroupHistory, HostHistory, host_history

MOST_DAYS = 400  # what the store keeps
BARS = "▁▂▃▄▅▆▇█"


def build(group: Any) -> None:
    verb = add_verb(
        group,
        "history",
        "show the count of each day, and requests by outcome",
        run,
        examples=[
            "volact host history",
            "volact host history --days 1                 # today, hour by hour",
            "volact host history --days 90 --json | jq '.groups[].days'",
        ],
    )
    days = between(1, MOST_DAYS)
    verb.add_argument("--days", type=days, default=30, metavar="N", help="how far back (default: %(default)s)")


def run(args: argparse.Namespace, env: Environment) -> int:
    with opened(args, env) as (folder, store):
        history = host_history(folder, store, env.clock(), args.days)
    if env.json:
        env.write_json(_json(env, history))
        return 0
    env.table(
        ("product group", "days", "least", "most", "now", "day by day"),
        [_group_row(group) for group in history.groups],
        title="Counts of today" if args.days == 1 else f"Counts of the last {args.days} days",
    )
    env.table(
        ("from", "group", "licensed", "to get licensed", "refused", "causes"),
        [_answered_row(env, row, history.period) for row in history.answered],
        title="Requests, by the machine's state when it asked",
    )
    return 0


def _group_row(group: GroupHistory) -> tuple[object, ...]:
    counts = [day.count for day in group.days]
    name = f"{group.status.group} {group.status.name}".strip()
    return name, len(counts), min(counts), max(counts), counts[-1], _bars(counts)


def _bars(counts: list[int]) -> str:
    """A picture as wide as there are days, each day's count against the most."""
    most = max(counts) or 1
    return "".join(BARS[count * (len(BARS) - 1) // most] for count in counts)


def _answered_row(env: Environment, row: Answered, period: int) -> tuple[object, ...]:
    licensed = row.states.get("licensed", 0)
    causes = ", ".join(f"{code} {number}" for code, number in Counter(row.refusals).most_common())
    when = (env.json_time(row.at) or "")[:10] if period == SECONDS_PER_DAY else env.show_time(row.at)
    group = "–" if row.group is None else row.group
    return when, group, licensed, sum(row.states.values()) - licensed, sum(row.refusals.values()), causes


def _json(env: Environment, history: HostHistory) -> dict[str, Any]:
    return {
        "groups": [
            {
                "root": group.status.root,
                "group": group.status.group,
                "name": group.status.name,
                "count": group.status.count,
                "thresholds": group.status.thresholds,
                "days": [{"day": (env.json_time(day.at) or "")[:10], "count": day.count} for day in group.days],
            }
            for group in history.groups
        ],
        "period_seconds": history.period,
        "requests": [{"from": env.json_time(row.at), **_without_at(row)} for row in history.answered],
    }


def _without_at(row: Answered) -> dict[str, Any]:
    values = asdict(row)
    del values["at"]
    return values
