# SPDX-License-Identifier: Apache-2.0
"""The inventory on both databases: filters, order, pages, groups, history, views."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.core.errors import InputError
from volact.fleet.acts import refresh
from volact.fleet.acts.refresh import Seen
from volact.fleet.inventory import filters, inventory, machines, views
from volact.fleet.inventory.filters import FilterError
from volact.fleet.inventory.inventory import ColumnUnknownError, Query
from volact.fleet.inventory.machines import Found, MachineMissingError
from volact.fleet.inventory.views import View
from volact.fleet.store import FleetStore

NOW = 1_800_000_000  # 2027-01-15
DAY = 86_400
ROOT = "sha256:" + "ab" * 32


def _answer(state: str = "licensed", until: str | None = "2027-02-01T00:00:00Z", **more: Any) -> dict[str, Any]:
    row = {
        "product": "acme-cad",
        "root": ROOT,
        "publisher": "Acme",
        "edition": "client",
        "group": 101,
        "version": 1,
        "channel": "volume",
        "partial_key": "ABCDE",
        "state": state,
        "licensed": state == "licensed",
        "until": until,
        "reason": None if state == "licensed" else {"code": "count-below-threshold", "message": "…"},
        "host": "kms1:1688",
        "count": 27,
        "threshold": 25,
        "fingerprint": "00" * 16,
        **more,
    }
    return {"machine": {"id": "11" * 32, "os": "Debian", "volact": "0.1.0"}, "products": [row]}


@pytest.fixture
def store(fleet_database: str | Path) -> Iterator[FleetStore]:
    """web1 licensed, web2 in grace, db1 never asked."""
    with FleetStore.open(fleet_database) as opened:
        with opened.write() as conn:
            found = [Found("web1", "test", tags=("berlin", "office")), Found("web2", "test"), Found("db1", "ldap dc1")]
            machines.add(conn, found, NOW - 10 * DAY, "anna")
            ids = machines.ids(conn, ["web1", "web2"])
            refresh.record(conn, ids["web1"], Seen.read(_answer(), "web1"), NOW)
            refresh.record(conn, ids["web2"], Seen.read(_answer("initial-grace", "2027-01-20T00:00:00Z"), "web2"), NOW)
        yield opened


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["db1", "web1", "web2"]),
        ("state=licensed", ["web1"]),
        ("not state=licensed", ["db1", "web2"]),
        ("state=grace", ["web2"]),
        ("product=none", ["db1"]),
        ("name~WEB*", ["web1", "web2"]),
        ("name!~web?", ["db1"]),
        ("tag=berlin,nothing", ["web1"]),
        ("tag=none", ["db1", "web2"]),
        ("expires<+30d", ["web1"]),
        ("expires=2027-02-01", ["web1"]),
        ("grace-ends<2027-01-21 or source~ldap*", ["db1", "web2"]),
        ("(name=web1 or name=web2) not reason=count-below-threshold", ["web1"]),
        ("count>=27 group=101 name=web2", ["web2"]),
        ('publisher="Acme" and refreshed=none', []),
        ("refreshed=none", ["db1"]),
        ("added<-5d", ["db1", "web1", "web2"]),
    ],
)
def test_a_filter_chooses_machines(store: FleetStore, text: str, names: list[str]) -> None:
    with store.read() as conn:
        page = inventory.machines(conn, Query(text, columns=("name",)), NOW)
        listed = inventory.products(conn, Query(text, columns=("name",)), NOW)
        chosen = inventory.select_machines(conn, text, (), NOW)
    assert [row[0] for row in page.rows] == names
    assert (page.total, len(chosen)) == (len(names), len(names))
    assert [row[0] for row in listed.rows] == names


@pytest.mark.parametrize(
    "text", ["state", "state=", "nothing=1", "count~3", "count=x", "expires<soon", "(a=b", "a=b)", "name<3", "=", '"']
)
def test_a_filter_that_means_nothing_is_named(text: str) -> None:
    with pytest.raises(FilterError):
        filters.parse(text, NOW)


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(["state", "=", "(", ")", "not", "and", "or", ",", "~", "name", "x", "+3d", "<", "none"])
    ).map(" ".join)
)
def test_any_text_is_a_filter_or_a_named_error(text: str) -> None:
    with suppress(InputError):
        filters.parse(text, NOW)


def test_lists_are_sorted_cut_into_pages_and_counted(store: FleetStore) -> None:
    with store.read() as conn:
        page = inventory.products(conn, Query(sort=("-expires", "name"), columns=("name", "expires"), limit=2), NOW)
        rest = inventory.products(conn, Query(sort=("-expires", "name"), columns=("name",), limit=2, offset=2), NOW)
        with pytest.raises(ColumnUnknownError):
            inventory.products(conn, Query(columns=("password",)), NOW)
    assert [row[0] for row in page.rows + rest.rows] == ["web1", "db1", "web2"]
    assert page.total == 3


def test_groups_count_machines_products_and_licences(store: FleetStore) -> None:
    with store.read() as conn:
        by_state = {
            g.values[0]: (g.machines, g.products, g.licensed) for g in inventory.groups(conn, ["state"], "", NOW)
        }
        by_tag = {g.values[0]: g.machines for g in inventory.groups(conn, ["tag"], "", NOW)}
    assert by_state == {"licensed": (1, 1, 1), "initial-grace": (1, 1, 0), None: (1, 0, 0)}
    assert by_tag == {"berlin": 1, "office": 1, None: 2}


def test_tags_are_one_text_in_a_list(store: FleetStore) -> None:
    with store.read() as conn:
        page = inventory.machines(conn, Query("name=web1", columns=("tags", "products", "licensed")), NOW)
    assert page.rows == [("berlin office", 1, 1)]


def test_history_has_a_row_for_each_change_and_none_for_the_same_again(store: FleetStore) -> None:
    with store.write() as conn:
        machine = machines.ids(conn, ["web2"])["web2"]
        grace = _answer("initial-grace", "2027-01-20T00:00:01Z")
        assert refresh.record(conn, machine, Seen.read(grace, "web2"), NOW + 1) == 0
        assert refresh.record(conn, machine, Seen.read(_answer(), "web2"), NOW + 2) == 1
        renewed = _answer(until="2027-02-08T00:00:00Z")
        assert refresh.record(conn, machine, Seen.read(renewed, "web2"), NOW + 3) == 1
        assert refresh.record(conn, machine, Seen.read({"products": []}, "web2"), NOW + 4) == 1
    with store.read() as conn:
        past = inventory.history(conn, "name=web2", 0, NOW)
        assert inventory.states_at(conn, NOW) == {"licensed": 1, "initial-grace": 1}
        assert inventory.states_at(conn, NOW + 4) == {"licensed": 1}
    assert [row["state"] for row in past] == ["removed", "licensed", "licensed", "initial-grace"]


def test_a_product_that_cannot_be_loaded_keeps_its_row(store: FleetStore) -> None:
    broken = {"products": [{"product": "acme-cad", "error": {"code": "definition-missing", "message": "gone"}}]}
    with store.write() as conn:
        machine = machines.ids(conn, ["web1"])["web1"]
        refresh.record(conn, machine, Seen.read(broken, "web1"), NOW + 1)
        shown = inventory.machine(conn, "web1")
    (row,) = shown.products
    assert (row["state"], row["reason"], row["root"]) == ("error", "definition-missing", ROOT)


def test_an_answer_full_of_rubbish_does_no_harm(store: FleetStore) -> None:
    rubbish = _answer(
        count=-1, threshold=2**70, until="never", host={"a": 1}, edition="\x1b[31m\x00" + "x" * 500, fingerprint="zz",
        version=True, last_attempt=[], reason="?", root=7,
    )  # fmt: skip
    with store.write() as conn:
        machine = machines.ids(conn, ["db1"])["db1"]
        refresh.record(conn, machine, Seen.read(rubbish, "db1"), NOW)
        (row,) = inventory.machine(conn, "db1").products
    assert (row["count"], row["threshold"], row["expires_at"], row["last_host"], row["version"]) == (None,) * 5
    assert row["edition"].isprintable()


def test_finding_again_adds_nothing_and_overwrites_nothing(store: FleetStore) -> None:
    with store.write() as conn:
        again = machines.add(conn, [Found("WEB1.", "x", "192.0.2.1"), Found("new1", "x")], NOW, "anna")
        assert (again.new, again.known) == (("new1",), ("web1",))
        assert inventory.machine(conn, "web1").row["address"] == "192.0.2.1"
        machines.add(conn, [Found("web1", "x", "192.0.2.99")], NOW, "anna")
        assert inventory.machine(conn, "web1").row["address"] == "192.0.2.1"


def test_a_removed_machine_is_gone_with_everything_of_it(store: FleetStore) -> None:
    with store.write() as conn:
        assert machines.remove(conn, machines.named(conn, ["web1"]), NOW, "anna") == 1
        with pytest.raises(MachineMissingError):
            inventory.machine(conn, "web1")
        assert inventory.overview(conn).states == {"initial-grace": 1}
    assert [row.act for row in store.audit()] == ["remove", "discover"]


def test_a_view_keeps_a_list_and_refuses_what_no_list_has(store: FleetStore) -> None:
    with store.write() as conn:
        saved = views.save(conn, View("soon", "expires<+30d", ("-expires",), ("name", "expires")), NOW, "anna")
        assert views.find(conn, "soon") == saved
        assert (saved.owner, saved.columns) == ("anna", ("name", "expires"))
        with pytest.raises(FilterError):
            views.save(conn, View("bad", "x"), NOW, "anna")
        with pytest.raises(ColumnUnknownError):
            views.save(conn, View("bad", "", ("password",)), NOW, "anna")
        views.remove(conn, "soon", NOW, "anna")
        assert not views.all_views(conn)
