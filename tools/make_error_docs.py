# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference/errors.md: one section for each error code in the code.

Not a list kept by hand: sentence, remedy, family and place come from ``volact.core.errors.REGISTRY``, where signed
refusals and the reasons of an evaluation register too.  What a class cannot say (causes, an example, what to look
at) is written in docs/reference/errors/CODE.md, and goes in under the generated lines.

    python tools/make_error_docs.py            write the page
    python tools/make_error_docs.py --check    exit 1 if the page is not what would be written
"""

import argparse
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import volact
from volact.core.errors import REGISTRY, VolactError

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "errors.md"
MORE = ROOT / "docs" / "reference" / "errors"

# As volact.cli.main maps them: 2 for a command line that is none, 1 for all else that goes wrong.  A reason is no
# error: the command that shows it has done its work.
USAGE, FAILED, SHOWN = 2, 1, 0

TITLES = {"RefusedError": "Refusals", "Reason": "Reasons"}

# Modules that are run, by `python -m` and by Alembic, and do nothing sensible when imported.
SCRIPTS = {"__main__", "env"}

HEAD = """\
<!-- Written by tools/make_error_docs.py (`make docs`). Edit the classes, or docs/reference/errors/CODE.md. -->
# Errors, refusals and reasons

Each has one stable code, in every channel: on the command line, in JSON, in HTTP problem documents and in the event
log. Words in braces are fields: they are filled in where the sentence is shown, and stand under their own names in
`--json`. Programs compare the code and read the fields, never the sentence.
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference/errors.md from the errors in the code.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is out of date")
    options = parser.parse_args(arguments)
    problems = list(find_problems())
    for problem in problems:
        print(f"volact: error: {problem}", file=sys.stderr)
    if problems:
        return 1
    page = render()
    return check(page) if options.check else write(page)


def find_problems() -> Iterator[str]:
    """What no page can be written from: an error without its sentence or remedy, a text without its error."""
    errors = load_errors()
    for code, kind in errors.items():
        for attribute in ("fmt", "remedy"):
            if not getattr(kind, attribute):
                yield f"{kind.__module__}.{kind.__qualname__} ({code}) has no {attribute}"
    for path in sorted(MORE.glob("*.md")):
        if path.stem not in errors:
            yield f"{path.relative_to(ROOT)} is about a code that does not exist"


def render() -> str:
    """The whole page: one part a family, one section a code."""
    errors = load_errors()
    families = sorted({family_of(kind) for kind in errors.values()}, key=lambda family: (family.__name__, family.code))
    parts = [HEAD, *(_contents(family, errors) for family in families)]
    for family in families:
        parts.append(f"\n## {title(family)}\n\n{summary(family)}\n")
        parts += [section(code, kind) for code, kind in errors.items() if family_of(kind) is family]
    return "".join(parts)


def section(code: str, kind: type[VolactError]) -> str:
    more = MORE / f"{code}.md"
    return (
        f"\n### {code}\n\n> {readable(kind.fmt)}\n\n**What to do:** {readable(kind.remedy)}\n\n"
        f"Exit code {exit_code(kind)} · `{kind.__module__}.{kind.__qualname__}`\n"
        + (f"\n{more.read_text(encoding='utf-8').strip()}\n" if more.exists() else "")
    )


def readable(fmt: str) -> str:
    """A format as prose: ``{port}`` for ``{port!r:>5}``, and no mark-up where an angle bracket stands."""
    return re.sub(r"\{(\w+)[^}]*\}", r"{\1}", fmt).replace("<", "&lt;")


def load_errors() -> dict[str, type[VolactError]]:
    """Every code the package defines, sorted; modules register their errors when they are imported."""
    for module in pkgutil.walk_packages(volact.__path__, "volact."):
        if module.name.rpartition(".")[2] not in SCRIPTS:
            importlib.import_module(module.name)
    return {code: kind for code, kind in sorted(REGISTRY.items()) if kind.__module__.startswith("volact.")}


def family_of(kind: type[VolactError]) -> type[VolactError]:
    """The class directly below VolactError that ``kind`` descends from, or ``kind`` itself."""
    lineage = kind.__mro__
    return lineage[lineage.index(VolactError) - 1]


def exit_code(kind: type[VolactError]) -> int:
    if family_of(kind).__name__ == "Reason":
        return SHOWN
    return USAGE if kind.code == "usage" else FAILED


def title(family: type[VolactError]) -> str:
    return TITLES.get(family.__name__) or family.__name__.removesuffix("Error") + " errors"


def summary(family: type[VolactError]) -> str:
    return (family.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def check(page: str) -> int:
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
        return 0
    print(f"volact: error: {PAGE.relative_to(ROOT)} does not match the code", file=sys.stderr)
    print("volact: hint: run `make docs` and commit the page", file=sys.stderr)
    return 1


def write(page: str) -> int:
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {page.count(chr(10) + '### ')} codes", file=sys.stderr)
    return 0


def _contents(family: type[VolactError], errors: dict[str, type[VolactError]]) -> str:
    links = " · ".join(f"[{code}](#{code})" for code, kind in errors.items() if family_of(kind) is family)
    return f"\n**{title(family)}**: {links}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
