# SPDX-License-Identifier: Apache-2.0
"""Agreements from the publisher's own HTTP API, served by its process."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.processes import ADDRESS, Done, Server, good, volact
from support.site import RealPublisher
from volact.fleet.keys.office import Office, OfficeAddressError

YEAR_2028 = 1_830_297_600


@pytest.fixture
def site(tmp_path: Path) -> RealPublisher:
    made = RealPublisher.make(tmp_path / "acme")
    made.run("organisation", "add", "Fabrikam")
    for number in range(60):  # more than a page
        made.run("agreement", "add", f"EA-{number}", "--organisation", "Contoso", "--quantity", "101=5")
    words = ("--quantity", "101=250", "--quantity", "102=20", "--start", "2026-01-01", "--end", "2028-01-01")
    made.run("agreement", "add", "EA/2026", "--organisation", "Contoso", *words)
    made.run("agreement", "add", "theirs", "--organisation", "Fabrikam", "--quantity", "101=9")
    return made


@pytest.fixture
def api(site: RealPublisher, tmp_path: Path, pick_port: Callable[[], int]) -> Iterator[Server]:
    port = pick_port()
    words = ["publisher", "serve", "--dir", site.folder / "publisher", "--passphrase-file", site.folder / "passphrase"]
    words += ["--listen", ADDRESS, "--port", pick_port(), "--web", f"{ADDRESS}:{port}"]
    server = Server(words, tmp_path / "publisher.log", port)
    try:
        yield server.wait_until("/healthz")
    finally:
        if server.process.poll() is None:
            server.kill()


def _token(site: RealPublisher, path: Path, scope: str) -> Path:
    made = site.run("token", "make", "fleet tool", "--organisation", "Contoso", "--scope", scope).json
    path.write_text(f"{made['token']}\n")
    return path


def test_an_organisation_fetches_its_agreements_by_its_token(site: RealPublisher, api: Server, tmp_path: Path) -> None:
    fleet = ("--dir", tmp_path / "fleet", "--json")
    good("fleet", "init", *fleet)

    def fetch(scope: str, **how: Any) -> Done:
        token = _token(site, tmp_path / scope.replace(":", "-"), scope)
        return volact("fleet", "agreements", "fetch", "--publisher", api.url, "--token-file", token, *fleet, **how)

    for _ in range(2):  # again: over those of the same names
        done = fetch("agreements:read")
        assert (done.code, len(done.json)) == (0, 62), done.err
    rows = good("fleet", "agreements", "list", *fleet).json
    told = {(row["agreement"], row["product_group"]): row["quantity"] for row in rows}
    assert (told["EA/2026", 101], told["EA/2026", 102], told["EA-7", 101]) == (250, 20, 5)
    assert "theirs" not in {row["agreement"] for row in rows}
    assert [row["ends_at"] for row in rows if row["product_group"] == 102] == [YEAR_2028]
    refused = fetch("keys:read")
    assert (refused.code, refused.json["error"]["code"]) == (1, "publisher-api-refused")
    assert "agreements:read" in refused.err
    token = (tmp_path / "agreements-read").read_text().strip()
    assert token not in json.dumps(good("fleet", "audit", *fleet).json)


def test_what_is_no_api_or_no_token_is_told(tmp_path: Path, pick_port: Callable[[], int]) -> None:
    fleet = ("--dir", tmp_path / "fleet", "--json")
    good("fleet", "init", *fleet)
    (tmp_path / "token").write_text("vlt_x\n")
    (tmp_path / "empty").write_text("\n")
    for url, token, code in (
        (f"http://{ADDRESS}:{pick_port()}", "token", "publisher-api-unreachable"),
        ("http://api.acme.example", "token", "publisher-api-address"),
        ("https://api.acme.example", "missing", "publisher-api-token-unreadable"),
        ("https://api.acme.example", "empty", "publisher-api-token-unreadable"),
    ):
        words = ("--publisher", url, "--token-file", tmp_path / token)
        done = volact("fleet", "agreements", "fetch", *words, *fleet)
        assert (done.code, done.json["error"]["code"]) == (1, code), done.err


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:1691", "ftp://127.0.0.1", "https://", "https://me:secret@acme.example", "127.0.0.1:1691",
        "https://acme.example/other", "http://localhost.example.com", "https://acme.example:99999", "https://[::1",
    ],
)  # fmt: skip
def test_a_token_is_sent_to_no_other_address(url: str) -> None:
    with pytest.raises(OfficeAddressError) as raised:
        Office.at(url, "vlt_x")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1691", "http://localhost", "https://a.example/api/v1/", "http://[::1]"]
)
def test_tls_and_this_computer_are_fine(url: str) -> None:
    assert Office.at(url, "vlt_x").token == "vlt_x"
