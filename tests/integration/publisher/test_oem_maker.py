# SPDX-License-Identifier: Apache-2.0
"""A maker from its certificate request to a licensed computer, by the commands that people type."""

import io
import struct
import time
from pathlib import Path

import pytest

from support.firmware import FirmwareTree
from support.processes import Done, good, volact
from volact.cli.environment import Environment
from volact.cli.main import main
from volact.client.platform import firmware
from volact.publisher.administration import oem
from volact.sealing import keys
from volact.testing import simulated_environment

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "acme-cad.toml"
MODEL = ["--manufacturer", "Contoso", "--product-name", "Book 14"]


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_publisher):
    """A publisher and a maker that it certified, with what belongs to each."""
    folder = tmp_path_factory.mktemp("oem")
    make_publisher(folder / "acme", int(time.time()))
    (folder / "pass").write_text("a passphrase for tests\n")
    common = ["--passphrase-file", folder / "pass"]
    good("publisher", "oem", "request", "Contoso PCs", "--dir", folder / "oem", "-o", folder / "csr", *common)
    words = ["--request", folder / "csr", "--group", "clients", "-o", folder / "pem"]
    good("publisher", "oem", "certify", "Contoso PCs", *words, "--dir", folder / "acme", *common)
    root = good("publisher", "certificate", "--dir", folder / "acme").out.strip()
    good("publisher", "oem", "install", folder / "pem", "--dir", folder / "oem", "--root", root, *common)
    good("publisher", "product", "export", "acme-cad", "-o", folder / "acme.volproduct", "--dir", folder / "acme")
    return folder, root, common


def marker(made, *words):
    folder, _, common = made
    return volact("publisher", "oem", "marker", "--dir", folder / "oem", *common, *words)


def group_of(made):
    folder, _, _ = made
    return good("publisher", "oem", "list", "--dir", folder / "acme", "--json").json[0]["groups"][0]


def on_computer(tree, *words):
    """A client's command on the computer with that firmware."""
    out, err = io.StringIO(), io.StringIO()
    base = Environment(out, err, io.StringIO(), {}, lambda: int(time.time()), dict, lambda: "", root=tree.root)
    return Done(main([str(word) for word in words], simulated_environment(1, base)), out.getvalue(), err.getvalue())


def test_the_makers_table_licenses_its_computers_at_the_first_start(made, tmp_path):
    folder, root, _ = made
    done = marker(made, *MODEL, "--group", group_of(made), "--edition", "professional", "--acpi", tmp_path / "table")
    assert done.code == 0, done.err
    tree = FirmwareTree.of(tmp_path / "computer")
    tree.table.write_bytes((tmp_path / "table").read_bytes())
    client = ["--dir", tmp_path / "client"]
    added = on_computer(tree, "client", "add-product", folder / "acme.volproduct", "--root", root, *client)
    assert added.code == 0, added.err
    assert "licensed by the marker in the firmware: edition professional" in added.err
    assert on_computer(tree, "client", "check", "acme-cad", "--root", root, *client).code == 0
    shown = on_computer(tree, "client", "status", *client, "--json").json["products"][0]
    assert (shown["channel"], shown["state"], shown["until"]) == ("oem", "licensed", None)
    tree.swap_board()
    done = on_computer(tree, "client", "activate", "acme-cad", *client)
    assert done.code == 1
    assert "holds no marker" in done.err


def test_the_same_table_in_another_model_is_refused_by_name(made, tmp_path):
    folder, root, _ = made
    words = ["--group", group_of(made), "--edition", "professional", "--acpi", tmp_path / "table"]
    assert marker(made, *MODEL, *words).code == 0
    tree = FirmwareTree.of(tmp_path / "computer", product="Book 15")
    tree.table.write_bytes((tmp_path / "table").read_bytes())
    done = on_computer(
        tree, "client", "add-product", folder / "acme.volproduct", "--root", root, "--dir", tmp_path / "client"
    )
    assert done.code == 0
    assert "was made for Contoso Book 14" in done.err


def test_a_table_is_what_acpi_says_a_table_is(made, tmp_path):
    assert marker(made, *MODEL, "--group", group_of(made), "--acpi", tmp_path / "t", "-o", tmp_path / "m").code == 0
    table = (tmp_path / "t").read_bytes()
    assert (table[:4], struct.unpack_from("<I", table, 4)[0], sum(table) % 256) == (b"VLCT", len(table), 0)
    read = firmware.parse_table(table)
    assert (read.text, read.oem_id, read.oem_table_id) == ((tmp_path / "m").read_text(), "VOLACT", "MARKER")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--group", "101"], "marker-unbound"),
        (["--group", "101", "--manufacturer", "Contoso"], "marker-options"),
        (["--group", "101", "--uuid", "00000000-0000-0000-0000-000000000000"], "device-unfit"),
        (["--group", "999", *MODEL], "marker-group"),
        (["--group", "GROUP", *MODEL, "--acpi", "x", "--oem-id", "TOOLONGID"], "oem-table-id"),
    ],
)
def test_what_cannot_be_a_marker_is_refused_by_name_and_leaves_no_file(made, tmp_path, words, code):
    words = [str(group_of(made)) if word == "GROUP" else word for word in words]
    words = [tmp_path / "x" if word == "x" else word for word in words]
    done = marker(made, *words, "-o", tmp_path / "marker", "--json")
    assert done.code == 1
    assert done.json["error"]["code"] == code
    assert not list(tmp_path.iterdir())


def test_what_is_no_request_is_not_certified(made, tmp_path):
    folder, _, _ = made
    good_request = (folder / "csr").read_bytes()
    other = oem.MakerFolder.create(tmp_path / "other", "Other", b"a passphrase for tests")
    bad = bytearray(good_request)
    bad[120] ^= 1
    for data in (b"", b"nonsense", bytes(bad), good_request * 60):
        with pytest.raises(oem.OemRequestError):
            oem.read_request(data)
    assert oem.read_request(other.request(b"a passphrase for tests"))
    with pytest.raises(oem.OemCertificateError, match="another key"):
        other.install((folder / "pem").read_bytes(), b"a passphrase for tests")
    with pytest.raises(oem.OemCertificateError):
        other.install(good_request, b"a passphrase for tests")
    with pytest.raises(oem.MakerFolderError, match="not certified"):
        other.issuer(b"a passphrase for tests")


def test_a_certificate_under_another_root_than_was_told_is_not_kept(made):
    folder, _, common = made
    words = ["--dir", folder / "oem", "--root", "sha256:" + "0" * 64, *common, "--json"]
    done = volact("publisher", "oem", "install", folder / "pem", *words)
    assert done.json["error"]["code"] == "oem-certificate-unfit"


def test_a_makers_folder_is_never_overwritten_and_holds_an_encrypted_key(made, tmp_path):
    folder, _, common = made
    done = volact(
        "publisher", "oem", "request", "X", "--dir", folder / "oem", "-o", tmp_path / "csr", *common, "--json"
    )
    assert done.json["error"]["code"] == "oem-folder"
    assert b"ENCRYPTED" in (folder / "oem" / "oem.key").read_bytes()
    with pytest.raises(keys.PassphraseError):
        oem.MakerFolder.open(folder / "oem").issuer(b"wrong")


def test_certifying_and_revoking_are_acts_of_the_ledger(made, tmp_path):
    folder, _, common = made
    publisher = ["--dir", folder / "acme"]
    second = oem.MakerFolder.create(tmp_path / "second", "Fabrikam", b"a passphrase for tests")
    (tmp_path / "csr").write_bytes(second.request(b"a passphrase for tests"))
    words = ["--request", tmp_path / "csr", "--group", "clients", "-o", tmp_path / "pem", "--days", 30]
    good("publisher", "oem", "certify", "Fabrikam", *words, *publisher, *common)
    done = good("publisher", "oem", "revoke", "Fabrikam", "--reason", "key stolen", *publisher, "--json").json
    assert len(done["revoked"]) == 1
    shown = {one["maker"]: one for one in good("publisher", "oem", "list", *publisher, "--json").json}
    assert shown["Fabrikam"]["revoked_at"]
    assert shown["Contoso PCs"]["revoked_at"] is None
    acts = [row["act"] for row in good("publisher", "ledger", "list", *publisher, "--json").json]
    assert acts[-2:] == ["oem-certified", "issuer-revoked"]
    good("publisher", "ledger", "verify", *publisher)
    unknown = volact("publisher", "oem", "revoke", "Nobody", *publisher, "--json")
    assert unknown.json["error"]["code"] == "oem-unknown"


def test_after_a_root_roll_over_a_maker_s_markers_license_computers_that_embed_either_root(tmp_path, make_publisher):
    """The maker certified before it, and one that was certified after it; computers are in the field for years."""
    acme, old_table, new_table = tmp_path / "acme", tmp_path / "old-table", tmp_path / "new-table"
    make_publisher(acme, int(time.time()))
    common = ("--passphrase-file", tmp_path / "pass")
    (tmp_path / "pass").write_text("a passphrase for tests\n")
    old_root = good("publisher", "certificate", "--dir", acme).out.strip()
    early = certified(tmp_path, "early", old_root, common)
    old_definition = exported(tmp_path, "old.volproduct")
    assert mark(early, common, tmp_path, old_table).code == 0
    new_root = good("publisher", "rotate", "root", "--dir", acme, *common, "--json").json["root"]
    (tmp_path / "newer.toml").write_text(EXAMPLE.read_text().replace("version = 1", "version = 2"))
    good("publisher", "product", "add", tmp_path / "newer.toml", "--dir", acme, *common)
    new_definition = exported(tmp_path, "new.volproduct")
    late = certified(tmp_path, "late", new_root, common)
    assert mark(late, common, tmp_path, new_table).code == 0
    assert mark(early, common, tmp_path, tmp_path / "still").code == 0, "the maker goes on with what it has"
    for table in (old_table, new_table, tmp_path / "still"):
        for definition, root in ((old_definition, old_root), (new_definition, old_root), (new_definition, new_root)):
            tree = FirmwareTree.of(tmp_path / f"{table.name}-{definition.stem}-{root[-6:]}")
            tree.table.write_bytes(table.read_bytes())
            client = ("--dir", tree.root / "client")
            added = on_computer(tree, "client", "add-product", definition, "--root", root, *client)
            assert "licensed by the marker in the firmware" in added.err, (table.name, definition.name, added.err)
            assert on_computer(tree, "client", "check", "acme-cad", "--root", root, *client).code == 0


def certified(folder, name, root, common):
    """A maker's folder with a certificate of the publisher's present keys."""
    maker, acme = folder / name, folder / "acme"
    good("publisher", "oem", "request", name, "--dir", maker, "-o", folder / f"{name}.csr", *common)
    words = ["--request", folder / f"{name}.csr", "--group", "clients", "-o", folder / f"{name}.pem"]
    good("publisher", "oem", "certify", name, *words, "--dir", acme, *common)
    good("publisher", "oem", "install", folder / f"{name}.pem", "--dir", maker, "--root", root, *common)
    return maker


def exported(folder, name):
    good("publisher", "product", "export", "acme-cad", "-o", folder / name, "--dir", folder / "acme")
    return folder / name


def mark(maker, common, folder, table):
    group = good("publisher", "oem", "list", "--dir", folder / "acme", "--json").json[0]["groups"][0]
    words = (*MODEL, "--group", group, "--edition", "professional", "--acpi", table)
    return volact("publisher", "oem", "marker", "--dir", maker, *common, *words)
