# SPDX-License-Identifier: Apache-2.0
"""``volact publisher serve --web`` as real processes: the API beside the service, started again where it dies."""

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.publisher.conftest import PASSPHRASE
from support.processes import volact
from volact.publisher.folder.hardware import KeyMaker, load
from volact.publisher.folder.opening import PublisherFolder
from volact.publisher.folder.rotation import rotate

PATIENCE = 30


class Served:
    def __init__(self, path, port, web, *more):
        self.web = web
        passphrase = path.parent / "passphrase"
        passphrase.write_text("a passphrase for tests\n")
        command = [sys.executable, "-m", "volact.cli.main", "publisher", "serve", "--dir", str(path)]
        options = ["--listen", "127.0.0.1", "--port", str(port), "--web", f"127.0.0.1:{web}", *more]
        self.process = subprocess.Popen(
            [*command, *options, "--passphrase-file", str(passphrase)],
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def wait(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.get("/healthz")
            assert time.monotonic() < deadline, "the API did not become ready"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1)
                raise AssertionError(self.process.communicate()[1])

    def get(self, path, token=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.web, timeout=PATIENCE)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def workers(self):
        """The web listener's processes: what listens on its port."""
        listed = subprocess.run(
            ["pgrep", "-g", str(self.process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        return [int(pid) for pid in listed if int(pid) != self.process.pid]

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=PATIENCE)[1]


@pytest.fixture
def start(site, pick_port):
    started = []

    def start(*more):
        started.append(Served(site.folder.path, pick_port(), pick_port(), *more))
        return started[-1]

    yield start
    for served in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(served.process.pid, signal.SIGKILL)
        served.process.communicate()


def test_the_api_is_served_beside_the_service_and_ends_with_it(api, start):
    served = start()
    assert served.wait() == (200, b"ok\n")
    status, body = served.get("/api/v1/whoami", api.operator())
    assert (status, json.loads(body)["role"]) == (200, "administrator")
    others = served.workers()
    before = status_signer(served)
    path, maker = api.site.folder.path, KeyMaker(PASSPHRASE)
    root = load(api.site.folder.root_key, PASSPHRASE)
    rotate(PublisherFolder.open(path), root, maker, api.site.clock(), "tester")
    deadline = time.monotonic() + PATIENCE
    while status_signer(served) == before:
        assert time.monotonic() < deadline, "the API did not take the keys that were rotated"
        time.sleep(0.05)
    told = served.end()
    assert f"its HTTP API is at http://localhost:{served.web}/api/v1" in told
    assert told.rstrip().endswith("stopped")
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in others):
        assert time.monotonic() < deadline, "a process of the web listener outlived the service"


def status_signer(served):
    """Who signs the revocation status."""
    token = json.loads(served.get("/api/v1/revocation-status")[1])["status"]
    return json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["x5c"][0]


def test_the_parent_killed_leaves_no_process_behind(start):
    served = start()
    served.wait()
    others = served.workers()
    served.process.kill()
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() for pid in others):
        assert time.monotonic() < deadline, "a process outlived its parent"
        served.process.poll()


@pytest.mark.parametrize(
    ("more", "code"),
    [(("--web", "0.0.0.0:0"), 2), (("--web", "0.0.0.0:1"), 1), (("--web-certificate", "x.pem"), 1)],
)
def test_tokens_cross_no_network_in_clear_text(start, more, code):
    served = start(*more)
    told = served.process.communicate(timeout=PATIENCE)[1]
    assert served.process.returncode == code, told
    assert "volact: error: " in told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ("--web-logins", "none.toml"),
            "settings in {folder}/none.toml do not fit: No such file or directory",
        ),
        (
            ("--web-certificate", "none.pem", "--web-key", "none.key"),
            "{folder}/none.pem and {folder}/none.key: {folder}/none.pem: No such file or directory",
        ),
    ],
)
def test_files_that_do_not_fit_are_told_before_anything_is_started(site, pick_port, tmp_path, more, told):
    path = site.folder.path
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    words = [tmp_path / word if word.startswith("none.") else word for word in more]
    ways = ["--port", pick_port(), "--web", f"127.0.0.1:{pick_port()}", "--passphrase-file", tmp_path / "passphrase"]
    done = volact("publisher", "serve", "--dir", path, *ways, *words)
    assert done.code == 1
    assert [line.endswith(told.format(folder=tmp_path)) for line in done.errors] == [True]
