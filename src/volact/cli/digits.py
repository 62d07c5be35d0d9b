# SPDX-License-Identifier: Apache-2.0
"""Installation and confirmation IDs at the terminal: asked for group by group, shown in rows, as text or as a QR code.

A mistake is named at its group as soon as it is typed, and that group alone is asked for again.
"""

from collections.abc import Callable, Sequence

from volact.cli.environment import Environment
from volact.cli.files import read_file
from volact.core.errors import ConfigError, InputError
from volact.core.phone import GROUP_DIGITS, read_digits

MOST_TEXT = 4096  # the longest ID has 140 digits
ROW = 5

ParseGroup = Callable[[int, str], str]
Check = Callable[[str], None]


class TypingEndedError(ConfigError):
    code = "phone-typing-ended"
    fmt = "the input ended at group {group} of {count}; nothing was changed"
    remedy = "start again when you have all the digits, or give them at once"


def read_id(env: Environment, given: str | None, count: int, parse: ParseGroup, check: Check | None = None) -> str:
    """The digits of an ID: ``given``, or with ``-`` or in a pipe the whole input, else asked for group by group."""
    if given not in (None, "-"):
        return given
    if given == "-" or not env.stdin.isatty():
        return env.stdin.read(MOST_TEXT)
    return ask_groups(env, count, parse, check)


def ask_groups(env: Environment, count: int, parse: ParseGroup, check: Check | None = None) -> str:
    """``check`` is given the first group, once it is well typed.  Several groups may be typed in a line."""
    typed: list[str] = []
    while len(typed) < count:
        number = len(typed) + 1
        env.stderr.write(f"group {number:2} of {count}: ")
        env.stderr.flush()
        line = env.stdin.readline(MOST_TEXT)
        if not line:
            env.stderr.write("\n")
            raise TypingEndedError(group=number, count=count)
        try:
            _take(line, typed, count, parse, check)
        except InputError as exc:
            env.say(str(exc))
            env.hint(exc.hint)
    return "".join(typed)


def read_text_file(path: str) -> str:
    return read_file(path, MOST_TEXT).decode("utf-8", "replace")


def write_id(env: Environment, groups: Sequence[str], *, text: bool, qr: bool) -> None:
    """In rows to be read out; in one line to be pasted; or as a QR code with that line below it."""
    if qr:
        write_qr(env, groups)
    if text or qr:
        env.write("-".join(groups))
    else:
        write_groups(env, groups)


def write_groups(env: Environment, groups: Sequence[str]) -> None:
    """Rows of five, each with the number of its first group."""
    for start in range(0, len(groups), ROW):
        env.write(f"{start + 1:>4}:  {'   '.join(groups[start : start + ROW])}")


def write_qr(env: Environment, groups: Sequence[str]) -> None:
    """A QR code of the bare digits, drawn in half blocks."""
    from io import StringIO

    from volact.sealing.confirmation import PhonePartMissingError

    try:
        import segno
    except ImportError:
        raise PhonePartMissingError(package="segno") from None
    drawn = StringIO()
    segno.make("".join(groups), error="m", micro=False).terminal(out=drawn, compact=True)
    env.write(drawn.getvalue().rstrip("\n"))


def _take(line: str, typed: list[str], count: int, parse: ParseGroup, check: Check | None) -> None:
    """Add the groups in ``line`` up to the first wrong one."""
    digits = read_digits(line, f"group {len(typed) + 1}")
    pieces = [digits[start : start + GROUP_DIGITS] for start in range(0, len(digits), GROUP_DIGITS)] or [""]
    for piece in pieces[: count - len(typed)]:
        group = parse(len(typed) + 1, piece)
        if check is not None and not typed:
            check(group)
        typed.append(group)
