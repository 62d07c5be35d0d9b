# SPDX-License-Identifier: Apache-2.0
"""What the README's tour and the guides tell a reader to type works, and prints what they show."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support import transcripts

ROOT = Path(__file__).resolve().parents[2]
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if transcripts.blocks_of(page)]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=pytest.mark.needs(*transcripts.needs_of(page)))
        for page in PAGES
    ],
)
def test_what_a_page_tells_to_type_prints_what_it_shows(
    page: Path, tmp_path: Path, pick_port: Callable[[], int]
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    found = transcripts.failures(page, folder, pick_port)
    assert not found, "\n\n".join(found)


def test_the_readme_has_a_tour() -> None:
    assert len(transcripts.blocks_of(ROOT / "README.md")) >= 5


def test_shown_output_is_compared_by_form_where_runs_differ() -> None:
    shown = "key KQ7RT  until 2026-01-02 03:04:05 UTC\n…\nroot sha256:45542e77…\ndone"
    assert transcripts.matches(shown, "key 7TMCK until 2031-12-31 23:59:59 CET\na\nb\nroot sha256:00aa11bbccdd\ndone\n")
    assert transcripts.matches(shown, "key 7TMCK until 2031-12-31 23:59:59 CET\nroot sha256:00aa11bbccdd\ndone")
    assert not transcripts.matches(shown, "key 7TMCK until tomorrow\nroot sha256:00aa11bbccdd\ndone")
    assert not transcripts.matches(shown, "key 7TMCK until 2031-12-31 23:59:59 CET\nroot sha256:00aa11bbccdd\nfailed")
