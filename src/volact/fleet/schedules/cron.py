# SPDX-License-Identifier: Apache-2.0
"""Times of schedules, as cron writes them: ``0 2 * * mon-fri``, in a time zone.  Pure.

APScheduler's CronTrigger counts the times, over changes of the clock too; what differs from crontab(5) is put right
here: its numbers of weekdays begin with Monday, cron's with Sunday, and cron takes "either" where both a day of the
month and a weekday are given, which it cannot say: that is refused.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from volact.core.errors import InputError

MAX_TEXT = 100
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LAST = "last"  # day of the month: beyond crontab(5), which cannot say it
SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@nightly": "0 2 * * *",
    "@weekly": "0 0 * * mon",
    "@monthly": "0 0 1 * *",
}
ZONE_MARK = "CRON_TZ="  # before the times, as cron has it


class CronUnfitError(InputError):
    code = "cron-unfit"
    fmt = "{text} are no times of a schedule: {why}"
    remedy = (
        "write minute, hour, day, month and weekday as in a crontab, in quotation marks: '0 2 * * mon-fri'; "
        "or @hourly, @daily, @nightly, @weekly, @monthly"
    )


class CronNeverError(InputError):
    code = "cron-never"
    fmt = "the times {text} of a schedule never come"
    remedy = "write a day that its months have: '0 2 28 2 *', or '0 2 last * *' for the last day of each month"


class ZoneUnknownError(InputError):
    code = "time-zone-unknown"
    fmt = "there is no time zone {zone}"
    remedy = "give a name such as Europe/Berlin, or UTC"


@dataclass(frozen=True, slots=True)
class Times:
    """``text``: as it is stored, the zone before it."""

    text: str

    @classmethod
    def of(cls, text: str, zone: str = "UTC") -> "Times":
        """Raises :class:`CronUnfitError`, :class:`ZoneUnknownError`."""
        marked = text.strip()
        if not marked.startswith(ZONE_MARK):
            marked = f"{ZONE_MARK}{zone} {marked}"
        made = cls(marked)
        made._trigger()
        return made

    def after(self, second: int) -> int | None:
        """The next time later than that; ``None`` where there is none any more."""
        trigger = self._trigger()
        begin = datetime.fromtimestamp(second + 1, UTC).astimezone(trigger.timezone)
        found = trigger.get_next_fire_time(None, begin)
        return None if found is None else int(found.timestamp())

    @property
    def zone(self) -> str:
        return self.text.removeprefix(ZONE_MARK).partition(" ")[0]

    @property
    def expression(self) -> str:
        return self.text.removeprefix(ZONE_MARK).partition(" ")[2].strip()

    def _trigger(self) -> CronTrigger:
        text = self.expression
        shown = repr(text[:MAX_TEXT])
        fields = SHORT.get(text.lower(), text.lower()).split()
        if len(fields) != 5 or len(text) > MAX_TEXT:
            raise CronUnfitError(text=shown, why=_not_five(fields))
        minute, hour, day, month, weekday = fields
        if day not in ("*", "?") and weekday not in ("*", "?"):
            raise CronUnfitError(text=shown, why="day of the month and weekday cannot both be given")
        day = "*" if day == "?" else day
        try:
            _check("minute", minute, 0, 59)
            _check("hour", hour, 0, 23)
            _check("day of the month", day, 1, 31)
            _check("month", month, 1, 12, MONTHS)
            names = _weekdays(weekday)
            return CronTrigger(
                minute=minute, hour=hour, day=day, month=month, day_of_week=names, second=0, timezone=_zone(self.zone)
            )
        except ValueError as exc:
            raise CronUnfitError(text=shown, why=_clean(str(exc))) from None


def local_zone() -> str:
    """This computer's, by name; UTC where it has none."""
    import tzlocal

    try:
        return str(tzlocal.get_localzone_name())
    except Exception:  # a container without a zone, or one in a file of its own
        return "UTC"


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ZoneUnknownError(zone=repr(name[:60])) from None


def _not_five(fields: list[str]) -> str:
    if len(fields) == 1 and fields[0].startswith("@"):
        return f"there is no {fields[0]}"
    return f"there {'is' if len(fields) == 1 else 'are'} {len(fields)} of the five fields"


def _check(name: str, text: str, least: int, most: int, words: tuple[str, ...] = ()) -> None:
    """One field, as crontab(5) writes it; what is wrong with it is said in its words, and not in a library's."""
    for part in text.split(","):
        span, mark, step = part.partition("/")
        if mark and not (_is_number(step) and 0 < int(step) <= most - least):
            raise ValueError(f"{step!r} is no step of the {name}")
        if span == "*" or (span == LAST and most == 31 and not mark):
            continue
        first, dash, last = span.partition("-")
        begin, end = (_value(name, one, least, most, words) for one in (first, last if dash else first))
        if end < begin:
            raise ValueError(f"the {name} runs backwards in {span!r}")


def _value(name: str, text: str, least: int, most: int, words: tuple[str, ...]) -> int:
    if text in words:
        return words.index(text) + least
    if _is_number(text) and least <= int(text) <= most:
        return int(text)
    raise ValueError(f"the {name} is {text!r}, and can be {least} to {most}")


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) <= 4


def _weekdays(text: str) -> str:
    """A weekday field in names, whose numbers cannot be misunderstood."""
    if text in ("*", "?"):
        return "*"
    days: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (0, 6) if span == "*" else (_day(first), _day(last or first))
        end = end if end >= begin else end + 7
        days.update(day % 7 for day in range(begin, end + 1, _step(step)))
    return ",".join(DAYS[day] for day in sorted(days))


def _day(text: str) -> int:
    if text in DAYS:
        return DAYS.index(text)
    if text.isdecimal() and text.isascii() and int(text[:3]) <= 7:
        return int(text)
    raise ValueError(f"the weekday is {text!r}, and can be 0 to 7, or sun to sat")


def _step(text: str) -> int:
    if not text:
        return 1
    if not (text.isdecimal() and text.isascii() and 1 <= int(text[:3]) <= 7):
        raise ValueError(f"{text!r} is no step of the weekday")
    return int(text)


def _clean(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:200]
