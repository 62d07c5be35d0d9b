# SPDX-License-Identifier: Apache-2.0
"""Images: an answer file laid in, the first start activates; keys changed by a script afterwards."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.client_machine import PRODUCT
from support.processes import volact, wait_for
from support.site import RealPublisher, Vendor, served
from volact.client.deployment.image import folder_in, lay_into_image, read_answer_file
from volact.client.deployment.rearm import load_rearms
from volact.client.folder.store import ClientStore
from volact.client.service.events import Log
from volact.testing import FakeClock


class Publisher(RealPublisher):
    """Takes activations back as well."""

    def activate(self, issuer: str, sealed: bytes) -> bytes:
        with self._service() as service:
            (outcome,) = service.answer_all([(issuer, sealed)])
            if isinstance(outcome, Exception):
                raise outcome
            return outcome.sealed


@pytest.fixture
def image() -> Iterator[Path]:
    folder = Path("/tmp") / f"volact-image-{os.getpid()}"
    (folder / "var").mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def answer(folder: Path, definition: Path, root: str, lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(definition, folder / "acme-cad.volproduct")
    text = f'[[product]]\ndefinition = "acme-cad.volproduct"\nroot = "{root}"\n{lines}'
    (folder / "answer.toml").write_text(text)
    return folder


def first_start(folder: Path, until: str) -> ClientStore:
    """``volact client serve``, until an event is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "volact.cli.main", "client", "serve", "--no-api", "--dir", str(folder)],
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: until in [row["event"] for row in Log(folder).read()])
    finally:
        process.terminate()
        assert process.wait(15) == 0
    return ClientStore(folder)


def test_a_mak_laid_into_an_image_activates_at_the_first_start_and_is_changed_by_a_script(
    tmp_path: Path, image: Path
) -> None:
    publisher = Publisher.make(tmp_path / "vendor")
    issue = (
        "key",
        "issue",
        "--organisation",
        "Contoso",
        "--kind",
        "mak",
        "--product",
        PRODUCT,
        "--group",
        "acme-clients",
    )
    first, second = (publisher.run(*issue, "--activations", "5").json["key"] for _ in range(2))
    with served(publisher) as port:
        keyed = f'key = "{first}"\nedition = "professional"\n'
        settings = f'{keyed}[settings]\npublisher = "http://127.0.0.1:{port}"\nmdns = true\n'
        folder = answer(tmp_path / "answer", publisher.file, publisher.root, settings)
        done = volact("client", "prepare", folder, "--image", image, "--json")
        assert done.code == 0, done.out
        assert done.json["products"] == [PRODUCT]
        client = folder_in(image)
        assert not (client / "machine.pem").exists()
        assert ClientStore(client).settings().discovery.mdns is True
        first_start(client, "activation-answered")
        status = volact("client", "status", "--json", "--dir", client).json["products"][0]
        assert (status["channel"], status["partial_key"]) == ("mak", first[-5:])
        assert (client / "machine.pem").exists()
        # a new key, as docs/guide/images.md does it
        back = volact("client", "deactivate", PRODUCT, "--dir", client)
        assert back.code == 0, back.err
        assert (
            volact(
                "client", "install-key", PRODUCT, "-", "--edition", "professional", "--dir", client, stdin=second
            ).code
            == 0
        )
        assert volact("client", "activate", PRODUCT, "--dir", client, "--json").json["products"][0]["error"] is None
        assert volact("client", "status", "--json", "--dir", client).json["products"][0]["partial_key"] == second[-5:]


def test_a_folder_of_files_that_was_only_copied_is_taken_by_the_first_start(tmp_path: Path, image: Path) -> None:
    vendor = Vendor.make(tmp_path)
    client = folder_in(image)
    client.mkdir(parents=True)
    answer(client / "answer", vendor.file, vendor.root, 'generic = true\nedition = "client"\n')
    store = first_start(client, "service-started")
    assert store.products() == [PRODUCT]
    assert not (client / "answer" / "answer.toml").exists()
    assert 4053 in [row["id"] for row in Log(client).read()]


def test_grace_begins_with_the_first_start_and_uses_up_no_rearm(tmp_path: Path, image: Path) -> None:
    clock = FakeClock()
    vendor = Vendor.make(tmp_path, clock=clock)
    folder = answer(tmp_path / "answer", vendor.file, vendor.root, 'generic = true\nedition = "client"\n')
    store = ClientStore(folder_in(image))
    lay_into_image(store, read_answer_file(folder), clock())
    clock.advance(days=300)
    volact("client", "activate", "--host", "127.0.0.1:9", "--dir", store.folder, clock=clock)
    status = volact("client", "status", "--json", "--dir", store.folder, clock=clock).json["products"][0]
    assert status["state"] == "initial-grace"
    assert load_rearms(store, PRODUCT).used == 0


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("generic = 1\n", "answer-file"),
        ("colour = 1\n", "answer-file"),
        ('generic = true\nkey = "X"\n', "answer-file"),
        ('key = "X"\n', "key-malformed"),
        ('[settings]\nhost = "a b:c"\n', "host-malformed"),
        ('[settings]\nmdns = "yes"\n', "answer-file"),
        ('[[product]]\ndefinition = "acme-cad.volproduct"\nroot = "sha256:5f0c"\n', "root-malformed"),
        ('generic = true\nedition = "nope"\n', "edition-not-in-definition"),
        ("[other]\n", "answer-file"),
        ("=", "answer-file"),
    ],
)
def test_an_answer_file_that_is_wrong_is_named_and_changes_nothing(
    tmp_path: Path, image: Path, lines: str, code: str
) -> None:
    vendor = Vendor.make(tmp_path)
    folder = answer(tmp_path / "answer", vendor.file, vendor.root, lines)
    done = volact("client", "prepare", folder, "--image", image, "--json")
    found = done.json["error"]["code"]
    assert found == code or (code == "key-malformed" and "key" in found)
    assert not folder_in(image).exists()


def test_a_definition_under_another_root_is_refused(tmp_path: Path, image: Path) -> None:
    vendor = Vendor.make(tmp_path)
    folder = answer(tmp_path / "answer", vendor.file, "sha256:" + "0" * 64, "generic = true\n")
    assert volact("client", "prepare", folder, "--image", image, "--json").json["error"]["code"] == "issuer-untrusted"
    assert (
        volact("client", "prepare", folder, "--image", tmp_path, "--json").json["error"]["code"] == "issuer-untrusted"
    )
