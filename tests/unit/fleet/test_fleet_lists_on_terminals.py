# SPDX-License-Identifier: Apache-2.0
"""Lists on terminals of several widths: read as a person would read them."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from volact.cli.environment import Environment
from volact.cli.main import main
from volact.fleet.api import Fleet
from volact.fleet.schema import MACHINES, PRODUCTS

NAMES = ("workstation-017.berlin.example.com", "pc1.example.com")


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "fleet"
    with Fleet.init(path) as fleet:
        fleet.discover(NAMES)
        with fleet.store.write() as conn:
            for (id_,) in conn.execute(MACHINES.select().with_only_columns(MACHINES.c.id)).all():
                conn.execute(PRODUCTS.insert().values(machine_id=id_, **_PRODUCT))
    return path


_PRODUCT = {
    "publisher": "Acme", "root": "sha256:00", "product": "acme-cad", "edition": "professional", "channel": "volume",
    "partial_key": "WRDWR", "state": "licensed", "licensed": 1, "expires_at": 1_800_000_000, "first_seen_at": 1,
    "last_host": "kms1.berlin.example.com:1688", "count": 30, "threshold": 25, "refreshed_at": 1,
}  # fmt: skip


@pytest.fixture
def shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """A command's output and messages on a terminal so wide."""

    def run(width: int, *words: str) -> tuple[str, str]:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "dumb")
        out, err = Terminal(), StringIO()
        env = Environment(out, err, StringIO(), {}, lambda: 1_790_000_000, dict, lambda: "here")
        assert main(["fleet", *words, "--dir", str(folder)], env) == 0, err.getvalue()
        return out.getvalue(), err.getvalue()

    return run


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_list_fits_its_terminal_and_cuts_no_name_off(shown: Callable[..., tuple[str, str]], width: int) -> None:
    out, _ = shown(width, "list")
    assert max(map(len, out.splitlines())) <= width
    assert all(name in out for name in NAMES)
    assert "licensed" in out
    assert "…" not in out


def test_columns_without_room_are_named(shown: Callable[..., tuple[str, str]]) -> None:
    out, told = shown(80, "list")
    assert "threshold" not in out
    assert "no room for" in told
    assert "threshold" in told
    assert "--columns" in told


def test_columns_that_were_asked_for_are_all_shown(shown: Callable[..., tuple[str, str]]) -> None:
    out, told = shown(80, "list", "--columns", "name,host,count,threshold,expires,contacted")
    assert "kms1" in out
    assert "25" in out
    assert "no room" not in told


def test_an_empty_list_says_so(shown: Callable[..., tuple[str, str]]) -> None:
    out, told = shown(80, "list", "--filter", "state=notification")
    assert (out, told) == ("", "volact: nothing here fits\n")
