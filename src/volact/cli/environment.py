# SPDX-License-Identifier: Apache-2.0
"""What a command sees of the world: streams, clock, machine, and how to show things on this terminal.

Commands take it as an argument, so that tests and the demo run the very same commands with another clock or machine
(:mod:`volact.testing`); the process's own is :meth:`Environment.of_process`.  rich is used for tables and progress
where it is installed and the output is a terminal; a pipe gets plain aligned text, ``--json`` gets JSON.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from volact.core.errors import ConfigError, StoreError, VolactError

TIMES = {"until", "since", "planned"}  # fields that hold a second, besides those whose names end in _at
EMPTY: tuple[Any, ...] = (None, "", {}, [])
_BOXED, _BARE = 3, 2  # columns of a terminal between two columns of a table, with lines and without


class FolderError(ConfigError):
    code = "folder-unusable"
    fmt = "cannot use {path}: {why}"
    remedy = "run the command as the user that owns the folder, check its disk, or choose another folder with --dir"


class OutputError(StoreError):
    code = "output-unwritable"
    fmt = "cannot write the output: {why}"
    remedy = "make room, or send the output elsewhere; what the command did is done"


def collect_traits() -> Mapping[Any, str]:
    """This machine's traits; imported late, since most commands do not look at them."""
    from volact.client import platform

    return platform.here().collect()


@dataclass
class Environment:
    """``clock`` returns Unix seconds; ``traits`` this machine's raw traits; both are the only ways to know them.
    ``root`` is where this machine's file tree begins, for what is read of its firmware."""

    stdout: TextIO
    stderr: TextIO
    stdin: TextIO
    variables: Mapping[str, str]
    clock: Callable[[], int]
    traits: Callable[[], Mapping[Any, str]]
    hostname: Callable[[], str]
    json: bool = False
    root: Path = Path("/")
    _line: str | None = field(default=None, init=False, repr=False)  # the last line of data, to know where gaps go

    @classmethod
    def of_process(cls) -> "Environment":
        out, err = (_lenient(stream) for stream in (sys.stdout, sys.stderr))
        return cls(out, err, sys.stdin, os.environ, lambda: int(time.time()), collect_traits, socket.gethostname)

    @property
    def terminal(self) -> bool:
        return not self.json and self.stdout.isatty()

    @property
    def width(self) -> int | None:
        """The terminal's columns, where tables are drawn on one."""
        console = self._console()
        return None if console is None else int(console.width)

    def colours(self, stream: TextIO) -> bool:
        """Whether escape sequences go to that stream: a terminal that can, and no NO_COLOR (no-color.org)."""
        return stream.isatty() and not self.variables.get("NO_COLOR") and self.variables.get("TERM") != "dumb"

    def folder(self, role: str, given: str | None) -> Path:
        """The state folder of a role: ``--dir``, or ``VOLACT_<ROLE>_DIR``, or the system's place."""
        if given:
            return Path(given)
        variable = self.variables.get(f"VOLACT_{role.upper()}_DIR")
        if variable:
            return Path(variable)
        if os.name == "posix" and os.geteuid() == 0:
            return Path("/var/lib/volact") / role
        home = self.variables.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return Path(home) / "volact" / role

    # ---- data, on stdout

    def write(self, text: str) -> None:
        """A line of data; what goes to a program is left as it is."""
        shown = _clean_lines(text.expandtabs()) if self.stdout.isatty() else text
        try:
            self.stdout.write(shown + "\n")
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputError(why=exc.strerror or str(exc)) from None
        self._line = text

    def write_json(self, value: Any, *, one_line: bool = False) -> None:
        """Indented on a terminal, unless the line itself is promised; ASCII where the output cannot carry the rest."""
        indent = 2 if self.stdout.isatty() and not one_line else None
        self.write(_escaped(json.dumps(value, indent=indent, ensure_ascii=not _is_unicode(self.stdout))))

    def facts(self, pairs: Iterable[tuple[str, object]], title: str = "") -> None:
        """Label and value, a line each; a dash where there is no value."""
        rows = [(label, "–" if value is None else _clean(str(value))) for label, value in pairs]
        width = max((len(label) for label, _ in rows), default=0)
        console = self._console()
        self._title(title, console)
        for label, value in rows:
            if console is None:
                self.write(f"{label + ':':<{width + 2}}{value}".rstrip())
            else:
                console.print(f"[dim]{_escape(label) + ':':<{width + 2}}[/dim]{_escape(value)}")
                self._line = value or label

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
        """A table: drawn on a terminal, aligned columns in a pipe, which has room for all of it."""
        texts = [["" if cell is None else _clean(str(cell)) for cell in row] for row in rows]
        console = self._console()
        self._title(title, console)
        if console is None:
            self._plain_table(columns, texts)
            return
        console.print(_drawn(columns, texts, console.width))
        self._line = "table"

    def show_time(self, second: int | None) -> str:
        """A time in the reader's zone, or a dash."""
        if second is None:
            return "–"
        return datetime.fromtimestamp(second, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")

    def show_minute(self, second: int | None) -> str:
        """The same to the minute and without the zone, for the columns of a table on the reader's own terminal."""
        if second is None:
            return "–"
        return datetime.fromtimestamp(second, UTC).astimezone().strftime("%Y-%m-%d %H:%M")

    def show_fields(self, fields: Mapping[str, Any]) -> str:
        """Each name with its value, as an event log and a ledger tell them; what is empty is left out."""
        return ", ".join(f"{name} {self._shown(name, value)}" for name, value in fields.items() if not _is_empty(value))

    def _shown(self, name: str, value: Any) -> str:
        if isinstance(value, int) and (name in TIMES or name.endswith("_at")):
            return self.show_time(value)
        if isinstance(value, dict):
            return f"({self.show_fields(value)})"
        return " ".join(map(str, value)) if isinstance(value, list) else str(value)

    @staticmethod
    def json_time(second: int | None) -> str | None:
        """A time as ``--json`` gives it: RFC 3339, UTC."""
        if second is None:
            return None
        return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    # ---- messages, on stderr

    def say(self, message: str) -> None:
        """Something the user may want to know; never data."""
        self.stderr.write(f"volact: {_clean_lines(message)}\n")

    def hint(self, message: str) -> None:
        self.say(f"hint: {message}")

    def error(self, exc: VolactError) -> None:
        """The error as its two lines, and as JSON on stdout where JSON was asked for."""
        self.say(f"error: {exc}")
        if exc.hint:
            self.hint(exc.hint)
        if self.json and not isinstance(exc, OutputError):
            self.write_json({"error": exc.to_dict()})

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar for anything longer than a second: the function it gives is called with what is done."""
        if not self.stderr.isatty():
            yield lambda _done: None
            return
        try:
            from rich.console import Console
            from rich.progress import Progress
        except ModuleNotFoundError:
            yield lambda _done: None
            return
        with Progress(console=Console(file=self.stderr), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done: bar.update(task, completed=done)

    def _title(self, title: str, console: Any) -> None:
        """Above what it names, and apart from what came before; a pipe gets it too, for a table says not what it is."""
        if not title:
            return
        if self._line:
            self.write("")
        if console is None:
            self.write(title)
        else:
            console.print(f"[bold]{_escape(title)}[/bold]")

    def _console(self) -> Any:
        if not self.terminal:
            return None
        try:
            from rich.console import Console
        except ModuleNotFoundError:
            return None
        return Console(file=self.stdout, highlight=False)

    def _plain_table(self, columns: Sequence[str], rows: list[list[str]]) -> None:
        widths = [max(len(row[i]) for row in [list(columns), *rows]) for i in range(len(columns))]
        for row in [list(columns), *rows]:
            self.write("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _is_empty(value: Any) -> bool:
    return value in EMPTY or (isinstance(value, dict) and all(map(_is_empty, value.values())))


def _drawn(columns: Sequence[str], rows: list[list[str]], width: int) -> Any:
    """A rich table that fits: where the terminal is too narrow, first without what is empty in every row, then without
    lines, and at last with cells that go on below.  No cell is cut off."""
    from rich.table import Table

    look: dict[str, Any] = {"header_style": "bold"}
    if rows and _room(columns, rows, _BOXED) > width:
        full = [place for place in range(len(columns)) if any(row[place] for row in rows)] or [0]
        columns, rows = [columns[place] for place in full], [[row[place] for place in full] for row in rows]
        if _room(columns, rows, _BOXED) > width:
            look |= {"box": None, "padding": (0, _BARE, 0, 0)}
    table = Table(**look)
    for place, name in enumerate(columns):
        widest = max((len(row[place]) for row in rows), default=0)
        table.add_column(_escape(name), overflow="fold", no_wrap=place == 0 and widest <= width // 2)
    for row in rows:
        table.add_row(*map(_escape, row))
    return table


def _room(columns: Sequence[str], rows: list[list[str]], between: int) -> int:
    """The columns that a table takes where every cell has its line."""
    return sum(max(map(len, cells)) + between for cells in zip(columns, *rows, strict=True)) + 1


def counted(number: int, noun: str) -> str:
    """``1 product``, ``2 products``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _lenient(stream: TextIO | None) -> TextIO:
    """A stream that shows a question mark for what its encoding lacks, and swallows all where it was closed."""
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if isinstance(stream, TextIOWrapper) and stream.encoding:
        stream.reconfigure(errors="replace")
    return stream


def _is_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf8")


def _clean(text: str) -> str:
    """Names come from other machines: no control character of theirs reaches the terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _clean_lines(text: str) -> str:
    """The same for sentences, which quote what a server said; theirs may have several lines."""
    return "\n".join(map(_clean, text.split("\n")))


def _escaped(text: str) -> str:
    """JSON of the same value without what a terminal obeys: ``json`` leaves DEL, C1 and bidirectional marks as is."""
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1].replace("\x7f", "\\u007f") for c in text)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
