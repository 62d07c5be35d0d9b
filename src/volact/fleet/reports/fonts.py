# SPDX-License-Identifier: Apache-2.0
"""Fonts for letters that the PDF's own font lacks: those that are given, then those of this computer.  ADR 0029.

DejaVu Sans, which comes along, has Latin, Greek, Cyrillic, Hebrew and Arabic; machines and organisations are named in
Chinese and Hindi too.  Fonts are looked through only where a report has such letters, and until all of them are found.
A letter that no font has stands as U+FFFD, and the report says so (``scripts`` names what is missing).
"""

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from volact.core.errors import InputError

MISSING = "\N{REPLACEMENT CHARACTER}"
# Joiners form words of Persian and Hindi; whatever else has no shape of its own (Unicode's Cf) is not drawn: marks that
# turn the direction of what follows could make one name look like another.
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
MOST_FOUND = 8  # fonts of this computer in one report
MOST_NAMED = 6  # scripts in the sentence on what is missing
ENDINGS = (".ttf", ".otf", ".ttc", ".otc")
_LAST = ("lastresort", "unifont", "adobeblank")  # have a box for every letter, or nothing
_STYLED = ("mono", "serif", "bold", "italic", "oblique", "light", "thin", "black", "condensed", "display", "nastaliq")

# A font without the wished weight, a table that is left out of the PDF: nobody needs to know.
for _name in ("matplotlib.font_manager", "fontTools.subset"):
    logging.getLogger(_name).setLevel(logging.ERROR)


class FontUnusableError(InputError):
    code = "report-font-unusable"
    fmt = "{path} cannot be used as a report's font: {why}"
    remedy = "give a TrueType or OpenType font with outlines: .ttf, .otf, or a collection, .ttc"


@dataclass(frozen=True, slots=True)
class Fonts:
    """``paths``: where to look for a letter after the report's own font, in this order; ``missing``: what none has."""

    paths: tuple[Path, ...] = ()
    missing: frozenset[str] = frozenset()

    def text(self, text: str) -> str:
        """As it can be drawn."""
        if not self.missing.isdisjoint(text):
            text = "".join(MISSING if char in self.missing else char for char in text)
        return plain(text)


def plain(text: str) -> str:
    """Without letters that have no shape: control characters become spaces, marks of direction nothing."""
    if text.isprintable():
        return text
    return "".join(char for char in map(_plain, text) if char)


def find(texts: Iterable[str], own: Path, given: Sequence[Path] = (), *, search: bool = True) -> Fonts:
    """What these texts need beside the report's ``own`` font; ``search``: among this computer's fonts as well.  Raises
    :class:`FontUnusableError` of a given one."""
    lacking = {char for char in set(plain("".join(texts))) if char not in JOINERS} - _letters(own)
    used = []
    for path in given:
        found = _given(path) & lacking
        lacking -= found
        used += [path] if found else []
    if not lacking or not search:
        return Fonts(tuple(used), frozenset(lacking))
    more, missing = _among(_of_this_computer(), frozenset(lacking))
    return Fonts((*used, *more), missing)


def scripts(letters: Iterable[str]) -> list[str]:
    """Which writings they are of, as Unicode names letters: ``CJK``, ``Devanagari``."""
    words = {unicodedata.name(letter, "unnamed").split()[0] for letter in letters}
    return sorted(word if word == "CJK" else word.capitalize() for word in words)


def needs_shaping(texts: Iterable[str]) -> bool:
    """Whether there are letters that join, stack, or run from right to left."""
    return any(
        unicodedata.bidirectional(char) in ("R", "AL") or unicodedata.category(char) in ("Mn", "Mc")
        for char in set("".join(texts))
    )


def _of_this_computer() -> tuple[Path, ...]:
    from matplotlib import font_manager

    return tuple(sorted((Path(one) for one in font_manager.findSystemFonts()), key=_order))


@lru_cache(maxsize=32)
def _among(paths: tuple[Path, ...], lacking: frozenset[str]) -> tuple[tuple[Path, ...], frozenset[str]]:
    """The fonts that have some of them, and what is missing then.  Nightly reports ask for the same again and again."""
    used: list[Path] = []
    for path in paths:
        if not lacking or len(used) == MOST_FOUND:
            break
        found = lacking & _letters_or_none(path)
        if found:
            used.append(path)
            lacking -= found
    return tuple(used), lacking


def _order(path: Path) -> tuple[bool, int, bool, str]:
    """Upright, plain, without serifs first; the same on every day."""
    name = path.name.lower()
    styled = sum(word in name for word in _STYLED)
    return any(word in name for word in _LAST), styled, "sans" not in name, str(path)


def _given(path: Path) -> frozenset[str]:
    if path.suffix.lower() not in ENDINGS:
        raise FontUnusableError(path=str(path), why="its name says of no such font")
    try:
        found = _letters(path)
    except OSError as exc:
        raise FontUnusableError(path=str(path), why=exc.strerror or str(exc)) from None
    except Exception as exc:  # whatever a parser of fonts raises over a file that is none
        raise FontUnusableError(path=str(path), why=plain(str(exc))[:100] or "it is damaged") from None
    if not found:
        raise FontUnusableError(path=str(path), why="it has no letters with outlines")
    return found


def _letters_or_none(path: Path) -> frozenset[str]:
    if path.suffix.lower() not in ENDINGS:
        return frozenset()
    try:
        return _letters(path)
    except Exception:  # one damaged font of many
        return frozenset()


def _letters(path: Path) -> frozenset[str]:
    """What a font has; nothing where it has pictures in place of outlines.  Of a collection, the first."""
    from fontTools.ttLib import TTFont

    with path.open("rb") as file, TTFont(file, lazy=True, fontNumber=0) as font:
        tables: Any = font
        if not {"glyf", "CFF ", "CFF2"} & set(tables.keys()):
            return frozenset()
        return frozenset(map(chr, tables.getBestCmap() or ()))


def _plain(char: str) -> str:
    if char.isprintable() or char in JOINERS:
        return char
    return "" if unicodedata.category(char) == "Cf" else " "
