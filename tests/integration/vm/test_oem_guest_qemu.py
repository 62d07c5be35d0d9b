# SPDX-License-Identifier: Apache-2.0
"""Two computers of a maker as QEMU shows them, read by a real kernel: one the marker is for, one it was copied to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.guest import EDITION, PRODUCT, Publisher, short_folder
from support.processes import good
from support.qemu import Guest

pytestmark = pytest.mark.needs("qemu", "guest-image")

DEFINITION = "/tmp/acme-cad.volproduct"
UUID = "4c4c4544-0042-3510-8052-b4c04f4e4232"
BOOK = ["--manufacturer", "Contoso", "--product-name", "Book 14"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


@pytest.fixture(scope="module")
def acme(folder: Path) -> Publisher:
    made = Publisher.make(folder / "acme", "Acme")
    made.make_marker(folder / "marker", *BOOK, "--uuid", UUID, "--group", "101")
    secret = ("--passphrase-file", made.folder / "passphrase")
    words = ["--group", "101", "--acpi", folder / "table", "--oem-id", "CONTSO", "--table-id", "BOOK14"]
    good("publisher", "oem", "marker", "--dir", made.folder / "maker", *BOOK, *words, *secret)
    (folder / "string").write_text("volact:" + (folder / "marker").read_text())
    return made


@pytest.fixture(scope="module")
def boot(folder: Path, acme: Publisher) -> Iterator[Callable[..., Guest]]:
    """A computer with that model's name and more of a firmware, and the product's definition on its disk."""
    with ExitStack() as running:

        def boot(name: str, model: str, *firmware: str) -> Guest:
            system = f"type=1,manufacturer=Contoso,product={model},uuid={UUID}"
            guest = Guest(folder / f"qemu-{name}", folder, name, ["-smbios", system, *firmware])
            running.callback(guest.stop)
            guest.wait_until_ready().put(DEFINITION, acme.file.read_bytes())
            return guest

        yield boot


def test_the_string_in_smbios_licenses_the_one_device_that_it_is_for(
    folder: Path, acme: Publisher, boot: Callable[..., Guest]
) -> None:
    guest = boot("one", "Book 14", "-smbios", f"type=11,path={folder / 'string'}")
    added = guest.volact("client", "add-product", DEFINITION, "--root", acme.root)
    assert added.code == 0, added.err
    (row,) = guest.volact("client", "status", "--json").json["products"]
    assert (row["channel"], row["edition"], row["state"], row["until"]) == ("oem", EDITION, "licensed", None)
    assert guest.volact("client", "check", PRODUCT, "--root", acme.root).code == 0
    assert guest.volact("client", "licence", PRODUCT).out.strip() == (folder / "marker").read_text()


def test_the_makers_whole_acpi_table_copied_to_another_model_is_refused_by_name(
    folder: Path, acme: Publisher, boot: Callable[..., Guest]
) -> None:
    guest = boot("two", "Book 15", "-acpitable", f"file={folder / 'table'}")
    added = guest.volact("client", "add-product", DEFINITION, "--root", acme.root)
    assert added.code == 0
    assert "was made for Contoso Book 14, and this is another" in added.err
    (row,) = guest.volact("client", "status", "--json").json["products"]
    assert (row["channel"], row["state"]) == (None, "unlicensed")
