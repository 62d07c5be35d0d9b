# SPDX-License-Identifier: Apache-2.0
"""Fields of a form that was sent: each is read within a bound, and what does not fit is said at its field.

    form = Form(visit.form)
    name = form.text("name", most=200)
    count = form.integer("count", least=1, most=100)
    if not form.valid: return visit.render("new.html", form=form)

A template shows the same ``form`` again: ``ui.field(form, "name", "Name")``.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from volact.core.errors import VolactError

MOST_TEXT = 4000


class Form:
    """``values``: what was typed, or what a field begins with; ``errors``: field → sentence."""

    def __init__(self, sent: Mapping[str, Any] | None = None, **start: Any) -> None:
        self.sent = sent
        self.values: dict[str, Any] = {name: "" if value is None else value for name, value in start.items()}
        self.values |= {name: value for name, value in (sent or {}).items() if isinstance(value, str)}
        self.errors: dict[str, str] = {}
        self.error: VolactError | None = None

    @property
    def valid(self) -> bool:
        return not self.errors and self.error is None

    def text(self, name: str, *, most: int = MOST_TEXT, required: bool = True, lines: bool = False) -> str:
        text = str(self.values.get(name) or "").strip()
        if required and not text:
            self.errors[name] = "fill this in"
        elif len(text) > most:
            self.errors[name] = f"at most {most} characters"
        elif not (text.replace("\n", "").replace("\r", "") if lines else text).isprintable():
            self.errors[name] = "only printable characters"
        return text

    def secret(self, name: str) -> str:
        """A password: as it was typed, and never shown again."""
        text = str(self.values.pop(name, ""))
        if not text:
            self.errors[name] = "fill this in"
        return text[:MOST_TEXT]

    def integer(self, name: str, *, least: int, most: int, required: bool = True) -> int | None:
        text = self.text(name, most=20, required=required)
        if not text:
            return None
        try:
            number = int(text) if text.isascii() else least - 1
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            self.errors[name] = f"a whole number from {least} to {most}"
            return None
        return number

    def choice(self, name: str, choices: Iterable[str], *, required: bool = True) -> str:
        text = self.text(name, required=required)
        if text and text not in choices:
            self.errors[name] = "choose one of the list"
        return text

    def flag(self, name: str) -> bool:
        return bool(self.values.get(name))

    def day(self, name: str, *, required: bool = True) -> int | None:
        """The first second of a day, UTC."""
        text = self.text(name, most=10, required=required)
        if not text:
            return None
        try:
            return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
        except (ValueError, OverflowError):
            self.errors[name] = "a day as 2027-12-31"
            return None

    def fail(self, error: VolactError, field: str | None = None) -> None:
        """Shows an error of the act itself above the form, or at a field."""
        if field is None:
            self.error = error
        else:
            self.errors[field] = f"{error}: {error.hint}" if error.hint else str(error)
