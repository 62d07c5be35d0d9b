# SPDX-License-Identifier: Apache-2.0
"""A clock that only moves when told to: 180 days pass in a microsecond."""

from volact.core.policy import DAY, HOUR


class FakeClock:
    """Call it for the time in Unix seconds; set ``now`` or let time pass."""

    def __init__(self, now: int = 1_800_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int = 0, *, hours: int = 0, days: int = 0) -> int:
        """Let time pass (or, negative, set the clock back); returns the new time."""
        self.now += seconds + hours * HOUR + days * DAY
        return self.now
