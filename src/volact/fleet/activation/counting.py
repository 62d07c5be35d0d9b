# SPDX-License-Identifier: Apache-2.0
"""Machines that asked a KMS host before it had counted enough of them, and that are to ask once more.  Pure.

A host licenses nobody below its threshold, and counts whoever asks.  Of the machines of one job the first ones only
fill the count, and a later one is the first that is licensed: those before it would be licensed now.  Left alone they
ask again by themselves, in two hours; a job asks for them.  Spec: docs/spec/states.md.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from volact.fleet.activation.activate import Way
from volact.fleet.jobs.records import Task, TaskState

BELOW = "count-below-threshold"  # as the client names it


def worth_another_round(tasks: Iterable[Task]) -> bool:
    """Whether a product that was refused for its count on one machine is licensed by a host's count on another."""
    refused: set[str] = set()
    reached: set[str] = set()
    for task in tasks:
        for product, row in _volume(task):
            if row.get("licensed") is True:
                reached.add(product)
            elif task.state == TaskState.FAILED and row.get("error") == BELOW:
                refused.add(product)
    return bool(refused & reached)


def _volume(task: Task) -> list[tuple[str, Mapping[str, Any]]]:
    rows = task.result.get("products") if isinstance(task.result, dict) else None
    found = [row for row in rows or () if isinstance(row, dict) and row.get("way") == Way.VOLUME]
    return [(str(row.get("product")), row) for row in found]
