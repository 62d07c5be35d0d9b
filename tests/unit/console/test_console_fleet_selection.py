# SPDX-License-Identifier: Apache-2.0
"""On the console too, what changes machines is done to the whole fleet only where somebody says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.console import Console
from support.web_client import WebClient
from volact.fleet.api import Fleet

FORM = {"name": "nightly", "times": "@nightly"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet.init(tmp_path / "fleet") as made:
        made.discover(["pc1", "pc2"], tags=["office"])
        yield made


@pytest.fixture
def client(fleet: Fleet, tmp_path: Path) -> Iterator[WebClient]:
    with Console(tmp_path).client("admin") as client:
        yield client


@pytest.mark.parametrize("kind", ["activate", "install-key"])
def test_a_schedule_for_every_machine_must_be_said(kind: str, client: WebClient, fleet: Fleet) -> None:
    page = client.get("/fleet/schedules")
    refused = client.send(page, "/fleet/schedules", **FORM, kind=kind)
    assert refused.status_code == 422
    assert "this would be done to every machine" in refused.text
    assert "nightly was added" in client.send(page, "/fleet/schedules", **FORM, kind=kind, all="yes").text
    (made,) = fleet.schedules()
    assert (made.kind, made.arguments) == (kind, {"all": True})


@pytest.mark.parametrize("given", [{}, {"all": "yes"}])
def test_what_only_asks_may_be_for_every_machine(given: dict[str, str], client: WebClient, fleet: Fleet) -> None:
    page = client.get("/fleet/schedules")
    assert "nightly was added" in client.send(page, "/fleet/schedules", **FORM, kind="refresh", **given).text


def test_all_that_fit_the_filter_of_the_page_are_chosen_by_a_tick(client: WebClient, fleet: Fleet) -> None:
    page = client.get("/fleet/machines?view=machines")
    nothing = client.send(page, "/fleet/act", act="tag", tags_to="lab")
    assert "no machine was chosen" in nothing.text
    client.send(page, "/fleet/act", act="tag", tags_to="lab", scope="all", filter="")
    assert fleet.list_machines(filter="tag=lab").total == 2
