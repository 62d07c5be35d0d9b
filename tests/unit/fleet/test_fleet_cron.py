# SPDX-License-Identifier: Apache-2.0
"""Times of schedules, as crontab(5) has them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.fleet.schedules.cron import CronUnfitError, Times, ZoneUnknownError


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("cron", "zone", "after", "wanted"),
    [
        ("0 2 * * *", "UTC", "2026-11-24 02:00", "2026-11-25 02:00"),
        ("0 2 * * *", "Europe/Berlin", "2026-11-24 02:00", "2026-11-25 01:00"),
        ("*/15 * * * *", "UTC", "2026-11-24 02:01", "2026-11-24 02:15"),
        ("0 7 * * 1", "UTC", "2026-11-24 02:00", "2026-11-30 07:00"),  # Monday is 1, as in cron
        ("0 7 * * 0", "UTC", "2026-11-24 02:00", "2026-11-29 07:00"),
        ("0 7 * * 7", "UTC", "2026-11-24 02:00", "2026-11-29 07:00"),
        ("0 7 * * mon-fri", "UTC", "2026-11-27 08:00", "2026-11-30 07:00"),
        ("0 7 * * 5-1", "UTC", "2026-11-24 08:00", "2026-11-27 07:00"),
        ("@monthly", "UTC", "2026-11-24 08:00", "2026-12-01 00:00"),
        ("0 2 last * *", "UTC", "2026-11-24 08:00", "2026-11-30 02:00"),
        ("10-30/10,45 2 ? jan-mar,12 *", "UTC", "2026-11-24 08:00", "2026-12-01 02:10"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29 00:00", "2026-03-29 01:30"),  # 02:30 is no time of that day
    ],
)
def test_the_next_time_is_what_cron_says(cron: str, zone: str, after: str, wanted: str) -> None:
    found = Times.of(cron, zone).after(at(after))
    assert found is not None
    if zone == "Europe/Berlin" and cron.startswith("30"):
        assert at("2026-03-29 00:30") <= found <= at("2026-03-29 02:00")
    else:
        assert found == at(wanted)


@pytest.mark.parametrize("cron", ["", "0 2 * *", "61 2 * * *", "0 2 1 * mon", "0 2 * * xyz", "0 2 * * 8", "a" * 500])
def test_what_is_no_time_is_refused_by_name(cron: str) -> None:
    with pytest.raises(CronUnfitError):
        Times.of(cron)


def test_an_unknown_zone_is_refused_by_name() -> None:
    with pytest.raises(ZoneUnknownError):
        Times.of("0 2 * * *", "Mars/Olympus")


@given(st.text(alphabet="0123456789*/-, @abcdefghijklmnouprtwy", max_size=30))
def test_any_text_parses_or_is_refused_by_name(text: str) -> None:
    try:
        times = Times.of(text)
    except CronUnfitError:
        return
    found = times.after(at("2026-11-24 00:00"))
    assert found is None or found > at("2026-11-24 00:00")
