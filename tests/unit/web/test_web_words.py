# SPDX-License-Identifier: Apache-2.0
"""How pages put things: commands within remedies, browsers by name."""

import pytest

from volact.web.pages.renderer import browser, capital, commands

WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
)
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Safari/604.1"


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (WINDOWS, "Chrome on Windows"),
        (f"{WINDOWS} Edg/126.0.0.0", "Edge on Windows"),
        (PHONE, "Safari on iPhone"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0", "Firefox on Linux"),
        ("curl/8.8.0", "curl/8.8.0"),
        ("", ""),
    ],
)
def test_a_browser_is_called_by_its_name_and_its_system(agent: str, name: str) -> None:
    assert browser(agent) == name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("run `volact fleet init` & go on", "run <code>volact fleet init</code> &amp; go on"),
        ("`a <b>` or `c`", "<code>a &lt;b&gt;</code> or <code>c</code>"),
        ("one ` alone <b>", "one ` alone &lt;b&gt;"),
        ("nothing", "nothing"),
    ],
)
def test_a_command_in_a_remedy_is_shown_as_one_and_nothing_else_is_markup(text: str, shown: str) -> None:
    assert commands(text) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("name or password is wrong", True),
        ("broken1.example cannot be reached", False),
        ("acme-cad is not licensed", False),
        ("`volact fleet list` shows them", False),
        ("", False),
    ],
)
def test_an_error_s_line_begins_with_a_capital_and_a_name_stays_as_it_is_written(line: str, shown: bool) -> None:
    assert (capital(line) == "capital") is shown
