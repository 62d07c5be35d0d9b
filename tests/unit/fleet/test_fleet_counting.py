# SPDX-License-Identifier: Apache-2.0
"""Which jobs ask machines once more that a KMS host refused for its count."""

from typing import Any

import pytest

from volact.fleet.activation.counting import BELOW, worth_another_round
from volact.fleet.jobs.records import Task, TaskState


def task(state: TaskState, **row: Any) -> Task:
    found = {"product": "acme-cad", "way": "volume", "licensed": state == TaskState.DONE, **row}
    return Task(1, 1, 1, "pc1", state, None, 1, None, {"products": [found]}, row.get("error"), None, None, None, None)


LICENSED, REFUSED = task(TaskState.DONE), task(TaskState.FAILED, error=BELOW)


def test_a_machine_that_asked_before_the_threshold_was_reached_asks_again() -> None:
    assert worth_another_round([REFUSED, REFUSED, LICENSED])


@pytest.mark.parametrize(
    "tasks",
    [
        [],
        [LICENSED],
        [REFUSED, REFUSED],
        [REFUSED, task(TaskState.DONE, product="other")],
        [REFUSED, task(TaskState.DONE, way="proxy")],
        [task(TaskState.FAILED, error="host-unreachable"), LICENSED],
    ],
    ids=["none", "all licensed", "still below", "another product", "by the publisher", "unreachable"],
)
def test_nobody_asks_again_where_it_would_be_answered_the_same(tasks: list[Task]) -> None:
    assert not worth_another_round(tasks)
