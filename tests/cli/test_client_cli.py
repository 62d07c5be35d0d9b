# SPDX-License-Identifier: Apache-2.0
"""``volact client`` as an administrator types it, against an issuer behind a real port."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.processes import ADDRESS
from support.site import served
from volact.cli.environment import Environment
from volact.cli.main import build_parser, main
from volact.core.product_key import Channel
from volact.testing import KmsHostSimulator, Site, simulated_environment

PRODUCT = "acme-cad"


@dataclass
class Typed:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal:
    """One machine's shell: each line is a process of its own, as far as the folder is concerned."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.folder, self.site = folder, site
        self.definition = folder / "acme-cad.volproduct"
        self.definition.write_text(site.token + "\n")

    def __call__(self, *words: object, stdin: str = "") -> Typed:
        out, err = io.StringIO(), io.StringIO()
        variables = {"VOLACT_CLIENT_DIR": str(self.folder / "client")}
        streams = (out, err, io.StringIO(stdin))
        base = Environment(*streams, variables, self.site.clock, dict, lambda: "unused")
        code = main(["client", *map(str, words)], simulated_environment(1, base, self.site.clock))
        return Typed(code, out.getvalue(), err.getvalue())

    def good(self, *words: object, stdin: str = "") -> Typed:
        done = self(*words, stdin=stdin)
        assert done.code == 0, done
        return done

    def ready(self) -> "Terminal":
        self.good("add-product", self.definition, "--root", self.site.publisher.fingerprint)
        self.good("install-key", PRODUCT, "--generic", "--edition", "client")
        return self

    def files(self) -> dict[str, bytes]:
        """Everything but the time that was last seen, which any look may note, and the log of events."""
        found = [path for path in self.folder.rglob("*") if path.is_file()]
        return {
            str(path): path.read_bytes() for path in found if path.name.split(".")[0] not in ("lock", "clock", "events")
        }


@pytest.fixture
def site() -> Site:
    return Site.make()


@pytest.fixture
def volact(tmp_path, site: Site) -> Terminal:
    return Terminal(tmp_path, site)


@pytest.fixture
def host(site: Site) -> KmsHostSimulator:
    return site.kms_host()


@pytest.fixture
def port(host: KmsHostSimulator) -> Iterator[int]:
    with served(host) as port:
        yield port


def test_from_nothing_to_licensed(volact, site, host, port):
    root = site.publisher.fingerprint
    done = volact("status")
    assert (done.code, done.out) == (0, "")
    assert "no product has been added" in done.err

    assert f"root {root}" in volact.good("add-product", volact.definition, "--root", root).err
    assert "63R73" not in volact.good("status").out
    assert "edition client" in volact.good("install-key", PRODUCT, "--generic", "--edition", "client").err

    below = volact("activate", "--host", f"{ADDRESS}:{port}")
    assert below.code == 1  # answered, and not licensed yet
    assert below.out.startswith("acme-cad: initial-grace until ")
    assert "counted 1 of the 25 machines" in below.err

    host.fill(101, 24)
    done = volact.good("activate", PRODUCT, "--host", f"{ADDRESS}:{port}")
    assert done.out.startswith("acme-cad: licensed until ")
    assert done.err == ""

    table = volact.good("status").out.splitlines()
    assert table[0].split() == ["product", "edition", "state", "until", "count", "host", "last", "attempt"]
    assert table[1].startswith("acme-cad  client   licensed")
    assert "25/25" in table[1]
    assert f"{ADDRESS}:{port}" in table[1]


def test_status_json_is_stable(volact, site, host, port):
    volact.ready()
    host.fill(101, 24)
    volact.good("activate", "--host", f"{ADDRESS}:{port}")
    shown = volact.good("status", "--json").json
    (row,) = shown["products"]
    attempt = row.pop("last_attempt")
    due = row.pop("next_attempt")
    partial = row.pop("partial_key")
    assert set(shown["machine"]) == {"name", "id", "os", "volact"}
    assert re.fullmatch("[0-9a-f]{64}", shown["machine"]["id"])
    assert row.pop("root") == site.publisher.fingerprint
    assert re.fullmatch("[0-9a-f]{32}", row.pop("fingerprint"))
    assert row == {
        "product": PRODUCT,
        "version": 1,
        "publisher": site.definition.publisher,
        "edition": "client",
        "group": site.definition.edition("client").group,
        "organisation": "Contoso",
        "channel": "volume",
        "state": "licensed",
        "licensed": True,
        "enforcement": "count-only",
        "until": "2027-07-14T08:00:00Z",
        "reason": None,
        "count": 25,
        "threshold": 25,
        "host": f"{ADDRESS}:{port}",
        "host_source": "given",
    }
    assert partial == site.definition.edition("client").keys[Channel.VOLUME].partial
    assert (attempt["code"], [one["code"] for one in attempt["tried"]]) == ("licensed", [""])
    assert "2027-01-21" < due < "2027-01-24"


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("activate", "ato"),
        ("status", "dli"),
        ("info", "dlv"),
        ("expiry", "xpr"),
        ("install-key", "ipk"),
        ("remove-key", "upk"),
        ("set-host", "skms"),
        ("clear-host", "ckms"),
    ],
)
def test_administrators_find_the_verbs_they_know(name, alias):
    assert f"{name} ({alias}" in build_parser("client").format_help()


def test_every_verb_has_help_with_an_example():
    verbs = next(action for action in build_parser("client")._actions if action.dest == "verb").choices
    assert isinstance(verbs, dict)
    assert len(verbs) >= 12 + 8
    for parser in verbs.values():
        assert "volact client " in parser.epilog
        assert "--json" in parser.format_help()


def test_a_failed_attempt_changes_nothing_but_its_own_record(volact, host, port):
    volact.ready()
    host.fill(101, 24)
    volact.good("activate", "--host", f"{ADDRESS}:{port}")
    before = volact.files()
    host.down = True
    done = volact("activate", "--host", f"{ADDRESS}:{port}")
    assert done.code == 1
    assert "volact: error: acme-cad: " in done.err
    assert f"volact: hint: asked {ADDRESS}:{port} (given): " in done.err
    changed = {path for path, data in volact.files().items() if before.get(path) != data}
    assert {Path(path).name for path in changed} == {"attempt.json"}
    (row,) = volact("activate", "--host", f"{ADDRESS}:{port}", "--json").json["products"]
    assert (row["state"], row["licensed"], row["error"]["code"]) == ("licensed", True, "server-error")


def test_the_inner_cause_is_the_one_reported_and_kept(volact, host, port):
    volact.ready()
    host.clock = lambda: volact.site.clock() + 5 * 3600
    done = volact("activate", "--host", f"{ADDRESS}:{port}")
    assert "clock differs from the issuer's by 18000 seconds" in done.err
    assert "clock-skew: this machine's clock differs" in volact.good("status").out
    assert "clock-skew" in volact.good("info", PRODUCT).out


def test_info_shows_what_slmgr_dlv_shows(volact, site, host, port):
    volact.ready()
    before = volact.good("info", PRODUCT).out
    assert "made at the first activation" in before
    host.fill(101, 24)
    volact.good("ato", "--host", f"{ADDRESS}:{port}")
    facts = dict(line.split(":", 1) for line in volact.good("dlv", PRODUCT).out.splitlines() if ":" in line)
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["root"] == site.publisher.fingerprint
    assert facts["channel"] == "volume"
    assert facts["state"] == "licensed (1)"
    assert facts["left"] == "180 days 0 hours"
    assert facts["count/threshold"] == "25/25"
    assert facts["last good host"] == f"{ADDRESS}:{port} (given)"
    assert facts["renewal interval"] == "10080 minutes"
    assert len(facts["machine ID"]) == 64
    shown = volact.good("info", PRODUCT, "--json").json
    assert shown["machine_id"] == facts["machine ID"]
    assert shown["status_epoch"] == 1


def test_licence_prints_the_compact_jws_and_nothing_else(volact, host, port):
    volact.ready()
    done = volact("licence", PRODUCT)
    assert (done.code, done.out) == (1, "")
    assert "has no stored licence" in done.err
    host.fill(101, 24)
    volact.good("activate", "--host", f"{ADDRESS}:{port}")
    token = volact.good("licence", PRODUCT).out
    assert token.count(".") == 2
    assert token.endswith("\n")
    assert volact.good("licence", PRODUCT, "--json").json["licence"] == token.strip()


def test_expiry_says_when_and_for_how_long(volact, site, host, port):
    volact.ready()
    assert volact.good("xpr").out.startswith("acme-cad: initial-grace until ")
    host.fill(101, 24)
    volact.good("activate", "--host", f"{ADDRESS}:{port}")
    assert volact.good("expiry", PRODUCT, "--json").json == {
        "products": [{"product": PRODUCT, "state": "licensed", "until": "2027-07-14T08:00:00Z"}]
    }
    site.clock.advance(days=300)
    assert volact.good("xpr", PRODUCT).out == "acme-cad: notification, until it is activated\n"


def test_check_exits_by_the_licence(volact, site, host, port):
    volact.ready()
    root = site.publisher.fingerprint
    done = volact("check", PRODUCT, "--root", root)
    assert (done.code, done.out) == (1, "acme-cad: initial-grace, count-only\n")
    host.fill(101, 24)
    volact.good("activate", "--host", f"{ADDRESS}:{port}")
    assert volact.good("check", PRODUCT, "--root", root, "--json").json["licensed"] is True
    other = "sha256:" + "0" * 64
    done = volact("check", PRODUCT, "--root", other, "--json")
    assert (done.code, done.json["reason"]["code"]) == (1, "issuer-untrusted")


def test_a_key_is_read_from_standard_input(volact, site):
    volact.good("add-product", volact.definition, "--root", site.publisher.fingerprint)
    key = str(site.definition.edition("server").keys[Channel.VOLUME])
    volact.good("install-key", PRODUCT, "-", stdin=f"  {key.lower()}\n")
    assert "server" in volact.good("status").out
    volact.good("remove-key", PRODUCT)
    assert "unlicensed" in volact.good("status").out


def test_options_may_stand_between_product_and_key_and_the_key_may_be_several_words(volact, site):
    volact.good("add-product", volact.definition, "--root", site.publisher.fingerprint)
    key = str(site.definition.edition("server").keys[Channel.VOLUME])
    for words in ((key,), key.split("-")):
        volact.good("install-key", PRODUCT, "--edition", "server", *words)
        assert "server" in volact.good("status").out
        volact.good("remove-key", PRODUCT)
    done = volact("install-key", "--generic", PRODUCT, "--edition", "server", *key.split("-"))
    assert (done.code, "give either KEY or --generic" in done.err) == (2, True)
    assert f"{PRODUCT} had no key" in volact.good("remove-key", PRODUCT).err


def test_a_mistyped_issuer_is_a_slip_and_no_attempt_of_any_product(volact):
    volact.ready()
    before = volact.files()
    for words in (("--host", "kms1:99999"), ("--host", "a b"), ("--publisher", "ftp://x")):
        done = volact("activate", *words)
        assert (done.code, done.out, done.err.count("volact: error:")) == (1, "", 1), words
    assert volact.files() == before
    assert volact.good("events", "--json").json == {"events": []}


@pytest.mark.parametrize("words", [("generalize", "--dir", ""), ("status", "--dir="), ("prepare", "x", "--image", "")])
def test_a_folder_that_a_script_left_empty_is_not_this_machines_own(volact, words):
    volact.ready()
    before = volact.files()
    done = volact(*words)
    assert (done.code, "an empty text names no folder" in done.err) == (2, True)
    assert volact.files() == before


def test_a_product_that_is_named_twice_is_asked_for_once(volact, host, port):
    volact.ready()
    host.fill(101, 24)
    done = volact.good("activate", PRODUCT, PRODUCT, "--host", f"{ADDRESS}:{port}", "--json")
    assert len(done.json["products"]) == 1


def test_what_is_said_of_a_product_names_it_once(volact):
    assert volact("activate", "nothing").err.startswith("volact: error: nothing has not been added")


def test_to_generalize_a_folder_without_anything_makes_none(volact):
    done = volact.good("generalize", "--dir", volact.folder / "mistyped")
    assert "nothing to take away" in done.err
    assert not (volact.folder / "mistyped").exists()


def test_used_wrongly_is_exit_code_2_and_changes_nothing(volact):
    volact.ready()
    before = volact.files()
    for words in (
        ("install-key", PRODUCT),
        ("install-key", PRODUCT, "XXXXX", "--generic"),
        ("set-host",),
        ("activate", "--host", "a", "--publisher", "http://b"),
        ("add-product", volact.definition),
        ("frobnicate",),
    ):
        done = volact(*words)
        assert (done.code, done.out) == (2, ""), words
        assert done.err.startswith("volact: error: "), words
    assert volact.files() == before


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("set-host", "not a host"), "host-malformed"),
        (("set-host", "--resolver", "name"), "resolver-address-invalid"),
        (("set-host", "--domain", "-"), "lookup-domain-invalid"),
        (("set-host", "--publisher", "ftp://x"), "url-invalid"),
        (("activate", "--host", "::"), "host-malformed"),
        (("activate", "nothing"), "product-not-added"),
        (("info", "nothing"), "product-not-added"),
        (("install-key", PRODUCT, "XXXXX"), "product-key-malformed"),
        (("add-product", "/nowhere", "--root", "sha256:" + "0" * 64), "file-unreadable"),
    ],
)
def test_an_error_is_two_lines_and_its_code_in_json(volact, words, code):
    volact.ready()
    before = volact.files()
    done = volact(*words)
    assert done.code == 1
    error, hint, *_ = done.err.splitlines()
    assert error.startswith("volact: error: ")
    assert hint.startswith("volact: hint: ")
    shown = volact(*words, "--json").json
    assert (shown.get("error") or shown["products"][0]["error"])["code"] == code
    assert volact.files() == before


@pytest.mark.parametrize("root", ["sha256:abc", "5" * 64, "sha1:" + "5" * 64, "sha256:" + "g" * 64])
def test_a_root_that_is_no_fingerprint_is_a_wrong_command_and_no_impostor(volact, root):
    done = volact("add-product", volact.definition, "--root", root)
    assert (done.code, "is not a root's fingerprint" in done.err) == (2, True)


def test_a_root_may_be_written_as_openssl_prints_it(volact):
    digits = volact.site.publisher.fingerprint.removeprefix("sha256:").upper()
    colons = ":".join(digits[i : i + 2] for i in range(0, 64, 2))
    assert volact("add-product", volact.definition, "--root", "SHA256:" + colons).code == 0


def test_activate_without_a_product_and_without_a_key_says_which_is_missing(volact):
    assert (
        volact("activate").err.splitlines()[0]
        == f"volact: error: no product has been added in {volact.folder / 'client'}"
    )
    assert not (volact.folder / "client").exists()
    assert volact("add-product", volact.definition, "--root", volact.site.publisher.fingerprint).code == 0
    assert f"`volact client install-key {PRODUCT} --generic`" in volact("activate").err


def test_a_definition_of_another_root_leaves_nothing_behind(volact):
    done = volact("add-product", volact.definition, "--root", "sha256:" + "0" * 64)
    assert done.code == 1
    assert "does not chain to the publisher root" in done.err
    assert not (volact.folder / "client").exists()


def test_settings_are_set_shown_and_cleared(volact):
    assert (
        volact.good("set-host", "KMS.example.com:1700").out == "host:    kms.example.com\nport:    1700\ncaching: on\n"
    )
    shown = volact.good("skms", "--domain", "example.com", "--resolver", "192.0.2.53", "--no-caching", "--json").json
    assert shown == {
        "host": None,
        "port": None,
        "domain": "example.com",
        "caching": False,
        "resolver_address": "192.0.2.53",
        "mdns": None,
        "publisher": None,
    }
    assert volact.good("clear-host", "--json").json["domain"] is None


def test_a_configured_host_is_asked_without_being_named(volact, host, port):
    volact.ready()
    volact.good("set-host", f"{ADDRESS}:{port}")
    host.fill(101, 24)
    volact.good("activate")
    assert volact.good("info", PRODUCT, "--json").json["host_source"] == "configured-host"


def test_a_host_that_was_named_once_and_answered_is_asked_again_without_being_named(volact, host, port):
    volact.ready()
    host.fill(101, 24)
    volact.good("activate", "--host", f"{ADDRESS}:{port}")
    volact.site.clock.advance(days=7)
    assert volact.good("activate").out.startswith("acme-cad: licensed until ")


def test_a_licensed_machine_shows_the_count_that_licensed_it(volact, host, port):
    volact.ready()
    host.fill(101, 24)
    volact.good("activate", "--host", f"{ADDRESS}:{port}")
    host.last_seen.clear()
    volact("activate", "--host", f"{ADDRESS}:{port}")
    (row,) = volact.good("status", "--json").json["products"]
    assert (row["licensed"], row["count"], row["threshold"]) == (True, 25, 25)


def test_without_any_host_the_search_is_the_error(volact):
    volact.ready()
    volact.good("set-host", "--domain", "no-such-zone.test", "--resolver", "127.0.0.1:9")
    done = volact("activate")
    assert done.code == 1
    assert "no KMS host was found: _volact._tcp.no-such-zone.test: " in done.err


def test_a_damaged_file_is_said_and_costs_nothing(volact, host, port):
    volact.ready()
    host.fill(101, 24)
    volact.good("activate", "--host", f"{ADDRESS}:{port}")
    licence = volact.folder / "client" / "products" / PRODUCT / "answers" / "volume.vollicence"
    licence.write_bytes(b"damaged")
    done = volact.good("status")
    assert "licensed" in done.out
    assert f"volact: note: {licence} was damaged or lost" in done.err


def test_a_product_that_cannot_be_loaded_is_a_row_and_not_the_end(volact, site):
    volact.ready()
    for path in (volact.folder / "client" / "products" / PRODUCT).glob("definition.*"):
        path.write_bytes(b"damaged")
    done = volact.good("status")
    assert "error" in done.out
    assert volact.good("status", "--json").json["products"][0]["error"]["code"] == "definition-damaged"
    volact.good("add-product", volact.definition, "--root", site.publisher.fingerprint)  # and this mends it
    assert "initial-grace" in volact.good("status").out


def test_a_product_is_removed_with_its_licence(volact):
    volact.ready()
    volact.good("remove-product", PRODUCT)
    assert volact.good("status", "--json").json["products"] == []


def test_several_products_are_activated_together_and_one_failure_shows(volact, site, host, port):
    volact.ready()
    other = Site.make()
    other_file = volact.folder / "other.volproduct"
    other_file.write_text(other.publisher.sign_definition(other.publisher.definition("other-app")))
    volact.good("add-product", other_file, "--root", other.publisher.fingerprint)
    volact.good("install-key", "other-app", "--generic", "--edition", "client")
    host.fill(101, 24)
    done = volact("activate", "--host", f"{ADDRESS}:{port}", "--json")
    assert done.code == 1
    rows = {row["product"]: row for row in done.json["products"]}
    assert rows[PRODUCT]["licensed"] is True
    assert rows["other-app"]["error"]["code"] == "issuer-untrusted"
