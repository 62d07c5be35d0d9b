# SPDX-License-Identifier: Apache-2.0
"""A clock that stands still until a test moves it: ``clock.now += 180 * DAY``."""

from dataclasses import dataclass


@dataclass
class Clock:
    now: int

    def __call__(self) -> int:
        return self.now
