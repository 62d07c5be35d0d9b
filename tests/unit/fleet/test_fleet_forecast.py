# SPDX-License-Identifier: Apache-2.0
"""When a pool runs out, by the trend of its use."""

from hypothesis import given
from hypothesis import strategies as st

from volact.fleet.figures.forecast import DAY, Forecast, Point, Unforeseen, foresee

NOW = 1_795_000_000


def test_a_steady_use_runs_out_on_the_day_that_division_says() -> None:
    found = foresee([Point(NOW - back * DAY, 100 + 5 * back) for back in range(60, -1, -1)])
    assert isinstance(found, Forecast)
    assert round(found.rate, 6) == 5
    assert found.day == found.earliest == found.latest == NOW + 20 * DAY


def test_one_wrong_figure_does_not_bend_the_trend() -> None:
    course = [Point(NOW - back * DAY, 1000 + 5 * back) for back in range(60, -1, -1)]
    course[30] = Point(course[30].at, 20)
    found = foresee(course)
    assert isinstance(found, Forecast)
    assert 4.5 < found.rate < 60
    assert found.day is not None
    honest = foresee([*course[:30], Point(course[30].at, course[30].remaining, None), *course[31:]])
    assert honest == found


def test_uneven_use_has_a_range_around_its_day() -> None:
    left, course = 900, []
    for back in range(60, -1, -1):
        left -= 12 if back % 7 == 0 else back % 3
        course.append(Point(NOW - back * DAY, left))
    found = foresee(course)
    assert isinstance(found, Forecast)
    assert found.day
    assert found.earliest
    assert found.latest
    assert found.earliest < found.day < found.latest


def test_a_raised_pool_does_not_disturb_the_trend() -> None:
    course = [Point(NOW - back * DAY, 300 + 5 * back + (500 if back < 30 else 0), 1000 + (500 if back < 30 else 0))
              for back in range(60, -1, -1)]  # fmt: skip
    found = foresee(course)
    assert isinstance(found, Forecast)
    assert round(found.rate, 6) == 5


def test_too_little_history_is_said_and_not_guessed() -> None:
    assert foresee([]) is Unforeseen.TOO_LITTLE
    assert foresee([Point(NOW - back * DAY, 50 + back) for back in range(10, -1, -1)]) is Unforeseen.TOO_LITTLE
    assert foresee([Point(NOW - back * 10 * DAY, 50 + back) for back in range(3, -1, -1)]) is Unforeseen.TOO_LITTLE


def test_an_unused_pool_has_no_day_and_a_spent_one_has_passed_it() -> None:
    assert foresee([Point(NOW - back * DAY, 50) for back in range(40)]) is Unforeseen.NOT_FALLING
    assert foresee([Point(NOW, 0)]) is Unforeseen.SPENT


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 10_000)), max_size=60))
def test_whatever_the_history_the_days_are_in_order(course: list[tuple[int, int]]) -> None:
    found = foresee([Point(NOW - back * DAY, left) for back, left in course])
    if isinstance(found, Forecast):
        assert found.least <= found.rate <= found.most
        days = [day for day in (found.earliest, found.day, found.latest) if day is not None]
        assert days == sorted(days)
