# SPDX-License-Identifier: Apache-2.0
"""Examples of products in other languages, compiled and run against a running service; a licence verified by Java."""

import base64
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from volact.client.activation import online
from volact.client.discovery.routes import Route
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products import installing
from volact.sealing import certificates
from volact.testing import Site

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "embed"
PRODUCT, GROUP = "acme-cad", 101


@pytest.fixture(scope="module")
def licensed() -> Iterator[tuple[Path, Site]]:
    """A machine that is licensed, in a folder whose socket's path is short."""
    site, parent = Site.make(now=int(time.time())), Path("/tmp") / f"volact-embed-{os.getpid()}"
    store = ClientStore(parent / "client")
    installing.add_product(store, site.token, site.publisher.fingerprint, 0, site.clock())
    installing.install_generic_key(store, PRODUCT, "client")
    host = site.kms_host()
    host.fill(GROUP, 24)
    route = Route(host, "kms.example.test:1688", "given")
    online.activate(PRODUCT, store, [route], LocalMachine.of_system(), site.clock, Random(1))
    yield store.folder, site
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def api(licensed: tuple[Path, Site]) -> Iterator[Path]:
    folder, _ = licensed
    words = ["client", "serve", "--dir", str(folder)]
    process = subprocess.Popen([sys.executable, "-m", "volact.cli.main", *words], stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert b"its API is at" in process.stderr.readline()
    yield folder / "api.sock"
    process.terminate()
    assert process.wait(15) == 0
    process.stderr.close()


def command(language: str, build: Path) -> list[str]:
    """How the example is run; compiled first where it has to be."""
    if language == "c":
        source = EXAMPLES / "c" / "check.c"
        subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-O1", "-o", build / "check", source], check=True)
        return [str(build / "check")]
    if language == "go":
        source = EXAMPLES / "go" / "check.go"
        subprocess.run(
            ["go", "build", "-o", build / "check", source], check=True, env={**os.environ, "HOME": str(build)}
        )
        return [str(build / "check")]
    if language == "java":
        subprocess.run(["javac", "-Xlint:all", "-Werror", "-d", build, EXAMPLES / "java" / "Check.java"], check=True)
        return ["java", "-cp", str(build), "Check"]
    if language == "csharp":
        source, program = EXAMPLES / "csharp" / "Check.cs", build / "Check.exe"
        subprocess.run(["mcs", "-warnaserror", "-r:System.Core.dll", f"-out:{program}", source], check=True)
        return ["mono", str(program)]
    return ["node", str(EXAMPLES / "js" / "check.mjs")]


TOOLS = {"c": "cc", "java": "javac"}
LANGUAGES = [
    "c",
    "java",
    pytest.param("js", marks=pytest.mark.needs("node")),
    pytest.param("go", marks=pytest.mark.needs("go")),
    pytest.param("csharp", marks=pytest.mark.needs("mono")),
]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_product_in_another_language_asks_and_gets_its_answer(
    language: str, licensed: tuple[Path, Site], api: Path, tmp_path: Path
) -> None:
    if language in TOOLS and shutil.which(TOOLS[language]) is None:
        pytest.skip(f"{TOOLS[language]} is not installed")
    run, root = command(language, tmp_path), licensed[1].publisher.fingerprint
    good = subprocess.run([*run, str(api), PRODUCT, root], capture_output=True, text=True, check=False, timeout=60)
    assert good.returncode == 0, good.stderr
    assert "licensed" in good.stdout
    other = [*run, str(api), PRODUCT, "sha256:" + "0" * 64]
    assert subprocess.run(other, capture_output=True, check=False, timeout=60).returncode == 1
    gone = [*run, str(tmp_path / "nobody"), PRODUCT, root]
    assert subprocess.run(gone, capture_output=True, check=False, timeout=60).returncode == 2
    short = subprocess.run([*run, str(api), PRODUCT], capture_output=True, text=True, check=False, timeout=60)
    assert (short.returncode, short.stderr.startswith("usage: ")) == (2, True)


def test_a_product_in_python_needs_no_service(licensed: tuple[Path, Site], tmp_path: Path) -> None:
    folder, site = licensed
    run = [sys.executable, str(EXAMPLES / "python" / "check.py")]
    root = site.publisher.fingerprint
    good = subprocess.run([*run, str(folder), PRODUCT, root], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout.splitlines()[-1]) == (0, "exported")
    none = subprocess.run([*run, str(tmp_path), PRODUCT, root], capture_output=True, text=True, check=False)
    assert none.returncode == 1
    assert "exported" not in none.stdout


@pytest.mark.skipif(shutil.which("javac") is None, reason="javac is not installed")
def test_java_verifies_a_licence_without_volact_and_refuses_what_is_wrong(
    licensed: tuple[Path, Site], tmp_path: Path
) -> None:
    folder, site = licensed
    subprocess.run(
        ["javac", "-Xlint:all", "-Werror", "-d", tmp_path, EXAMPLES / "java" / "VerifyLicence.java"], check=True
    )
    token = (folder / "products" / PRODUCT / "answers" / "volume.vollicence").read_text().strip()
    (tmp_path / "root.pem").write_bytes(certificates.pem(site.publisher.root))
    (tmp_path / "other.pem").write_bytes(certificates.pem(Site.make().publisher.root))
    machine = ClientStore(folder).machine_id()
    assert machine is not None

    def verify(
        token: str = token,
        root: str = "root.pem",
        product: str = PRODUCT,
        who: str = machine.hex(),
        group: int = GROUP,
        at: int = site.clock(),
    ) -> str:
        (tmp_path / "licence").write_text(token)
        words: list[str | Path] = [tmp_path / "licence", tmp_path / root, product, who, str(group), str(at)]
        done = subprocess.run(
            ["java", "-cp", tmp_path, "VerifyLicence", *words], capture_output=True, text=True, check=False, timeout=60
        )
        assert (done.returncode == 0) == (not done.stderr)
        return done.stderr.strip()

    assert verify() == ""
    head, claims, signature = token.split(".")
    data = bytearray(base64.urlsafe_b64decode(claims + "=="))
    data[len(data) // 2] ^= 1
    changed = base64.urlsafe_b64encode(bytes(data)).decode().rstrip("=")
    assert "signature" in verify(f"{head}.{changed}.{signature}")
    assert verify(root="other.pem") != ""
    assert verify(product="acme-cam") == "another product"
    assert verify(who="00" * 32) == "another machine"
    assert verify(group=102) == "another product group"
    assert verify(at=site.clock() + 181 * 86400) == "the lease is over"
