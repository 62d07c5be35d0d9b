# SPDX-License-Identifier: Apache-2.0
"""``volact demo`` as a newcomer runs it: real processes on free ports, ended as people end things."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.processes import wait_for

MARK = "SITE_OF_TEST"  # an inherited variable by which every process of one demo is found again, whatever its name
WAIT_SECONDS = 300  # a guard, no promise: other tests run beside it
STAYS = "Ctrl-C ends the site."

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")


class Demo:
    """One run; ``until`` reads what it tells, line by line."""

    def __init__(self, *words: str, **variables: str) -> None:
        self.mark = uuid.uuid4().hex
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "volact.cli.main", "demo", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**kept, **variables, MARK: self.mark, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a terminal of its own, so to speak: Ctrl-C goes to this whole group
        )
        self.told: list[str] = []
        self._guard = threading.Timer(WAIT_SECONDS, self.process.terminate)  # which it hands on to its servers
        self._guard.start()

    def __enter__(self) -> "Demo":
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing of it outlives a test that failed midway."""
        self._guard.cancel()
        self.process.terminate()
        self.process.wait(WAIT_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def until(self, text: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append(line.rstrip("\n"))
            if text in line:
                return self.told[-1]
        raise AssertionError(f"the demo ended without {text!r}:\n" + "\n".join(self.told))

    def end(self) -> int:
        """Reads to the end and gives the exit code."""
        assert self.process.stdout is not None
        self.told += [line.rstrip("\n") for line in self.process.stdout]
        return self.process.wait(WAIT_SECONDS)

    def ctrl_c(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def commands(self) -> list[str]:
        """The lines that are meant to be pasted."""
        return [line.strip() for line in self.told if re.match(r"  (\S*volact|\S*python3?|curl) ", line)]

    def temporary_folder(self) -> Path:
        return Path(self.told[1].removeprefix("Nothing outside ").removesuffix(" is touched."))

    def left(self) -> list[str]:
        """The command lines of its processes that still run."""
        return [words for pid, words in _processes(self.mark) if pid != os.getpid()]


def _processes(mark: str) -> Iterator[tuple[int, str]]:
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                yield int(folder.name), words
        except OSError:  # it ended meanwhile, or is somebody else's
            continue


def _paste(command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)


@dataclass
class Kept:
    """A whole run: what was pasted while it stayed up, and what it left."""

    demo: Demo
    folder: Path
    code: int
    pasted: dict[str, "subprocess.CompletedProcess[str]"]

    @property
    def result(self) -> dict[str, Any]:
        (line,) = (line for line in self.demo.told if line.startswith("{"))
        result: dict[str, Any] = json.loads(line)
        return result


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """With settings of the user's own installation around it, and a folder whose name needs quoting."""
    folder = tmp_path_factory.mktemp("demo") / "a site"
    own = {"VOLACT_HOST_PASSPHRASE_FILE": "/nonexistent", "VOLACT_CLIENT_DIR": "/nonexistent"}
    with Demo("--machines", "26", "--dir", str(folder), "--json", **own) as demo:
        demo.until(STAYS)
        pasted = {command: _paste(command) for command in demo.commands()}
        demo.ctrl_c()
        return Kept(demo, folder, demo.end(), pasted)


def test_the_count_climbs_and_the_25th_machine_crosses_the_threshold(kept: Kept) -> None:
    told = [re.findall(r"machine-(\d+) .* +(\d+)/25  ([a-z-]+)(?:  ([a-z-]+))?$", line) for line in kept.demo.told]
    machines = [found[0] for found in told if found]
    first, again = machines[:26], machines[26:]
    assert [(int(number), int(count)) for number, count, _, _ in first] == [(n, n) for n in range(1, 27)]
    assert {(state, reason) for _, _, state, reason in first[:24]} == {("initial-grace", "count-below-threshold")}
    assert {state for _, _, state, _ in first[24:]} == {"licensed"}
    assert [(int(number), int(count), state) for number, count, state, _ in again] == [
        (number, 26, "licensed") for number in range(1, 25)
    ]


def test_the_result_is_one_line_of_json(kept: Kept) -> None:
    result = kept.result
    assert (result["machines"], result["threshold"], result["count"], result["licensed"]) == (26, 25, 26, 26)
    assert 0 < result["seconds"] < WAIT_SECONDS
    assert result["dir"] == str(kept.folder)


def test_its_last_line_is_a_link_that_logs_in_to_the_console_once_where_its_machines_are_listed() -> None:
    with Demo("--machines", "2") as demo:
        demo.until("The console in your browser")
        link = demo.until("http://localhost:").strip()
        assert re.fullmatch(r"http://localhost:\d+/login/link/[\w-]{43}", link), link
        base = link.partition("/login")[0]
        with httpx.Client(base_url=base, follow_redirects=True) as browser:
            token = re.search(r'name="form_token" value="(\w+)"', browser.get(link).text)
            assert token is not None
            start = browser.post(link, data={"form_token": token[1]}, headers={"Origin": base})
            assert "Log out" in start.text
            listed = "/fleet/machines"
            machines = wait_for(lambda: (page := browser.get(listed).text).count("initial grace") >= 2 and page)
            assert "machine-002" in machines
            again = browser.post(link, data={"form_token": token[1]}, headers={"Origin": base})
            assert again.status_code == 403
        demo.ctrl_c()
        assert demo.end() == 0
    assert demo.left() == []


@pytest.mark.needs("curl")
def test_every_command_it_suggests_works(kept: Kept) -> None:
    assert [(command, done.stderr) for command, done in kept.pasted.items() if done.returncode] == []
    status, events, ledger, client, licence, issuer = (done.stdout for done in kept.pasted.values())
    assert "101 acme-clients  26 " in status
    assert "machine-activated" in events
    assert "host-activated" in ledger
    assert re.search(r"acme-cad +professional +licensed .* 26/25 ", client)
    assert licence.count(".") == 2
    assert "descriptor" in json.loads(issuer)


def test_ctrl_c_ends_everything_and_keeps_the_folders(kept: Kept) -> None:
    assert kept.code == 0
    assert kept.demo.left() == []
    assert len(list((kept.folder / "machines").iterdir())) == 26


def test_the_folders_that_stay_run_as_the_same_site_again(kept: Kept) -> None:
    place = next(n for n, line in enumerate(kept.demo.told) if line.endswith("The site runs again with:"))
    commands = kept.demo.told[place + 1 :]
    servers = [subprocess.Popen(shlex.split(command)) for command in commands]
    try:
        assert len(servers) == 3
        for url in (kept.result["publisher"], f"http://{kept.result['host']}"):
            _wait_until_ready(f"{url}/readyz")
        _wait_until_ready(f"{kept.result['console']}/healthz")
        machine, host = (shlex.quote(str(kept.folder / name)) for name in ("machines/007", "host"))
        again = _paste(f"{sys.executable} -m volact.testing --machine 7 -- client activate acme-cad --dir {machine}")
        assert again.stdout.startswith("acme-cad: licensed until "), again.stderr
        renewed = _paste(f"{sys.executable} -m volact.cli.main host activate --dir {host}")
        assert renewed.stderr.startswith("volact: activated for Example Ltd"), renewed.stderr
    finally:
        for server in servers:
            server.terminate()
        codes = [server.wait(WAIT_SECONDS) for server in servers]
    assert codes == [0, 0, 0]


def test_below_the_threshold_it_says_so_and_is_no_failure() -> None:
    with Demo("--machines", "2", "--exit", "--json") as demo:
        assert demo.end() == 0
    assert json.loads(demo.told[-1])["licensed"] == 0
    assert any(line.startswith("0 of 2 machines licensed, the host counts 2") for line in demo.told)
    assert "  Below the threshold of 25, machines stay in grace and ask again every two hours." in demo.told
    assert demo.left() == []
    assert not demo.temporary_folder().exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
def test_whatever_interrupts_it_midway_leaves_no_process_and_no_folder(how: signal.Signals) -> None:
    with Demo("--machines", "30") as demo:
        demo.until("machine-001")
        demo.ctrl_c() if how is signal.SIGINT else demo.process.send_signal(how)
        assert demo.end() == 130
    assert not any("Traceback" in line or "error" in line for line in demo.told), demo.told
    assert demo.left() == []
    assert not demo.temporary_folder().exists()


def test_a_reader_that_leaves_ends_the_site() -> None:
    with Demo("--machines", "1") as demo:
        demo.until("Acme Software answers")
        assert demo.process.stdout is not None
        demo.process.stdout.close()
        assert demo.process.wait(WAIT_SECONDS) == 1
    assert demo.left() == []


def test_a_part_that_dies_is_named_and_ends_the_rest(tmp_path: Path) -> None:
    with Demo("--machines", "1", "--dir", str(tmp_path / "site")) as demo:
        demo.until(STAYS)
        (host,) = (pid for pid, words in _processes(demo.mark) if " host serve " in words)
        os.kill(host, signal.SIGKILL)
        assert demo.end() == 1
    assert any(line.startswith("volact: error: the demo's host failed: it ended") for line in demo.told)
    assert demo.left() == []


def test_a_folder_that_is_used_or_cannot_be_made_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with Demo("--dir", str(tmp_path)) as used, Demo("--dir", str(tmp_path / "file" / "site")) as within_file:
        assert (used.end(), within_file.end()) == (1, 1)
    assert used.told[0] == f"volact: error: the demo's folder {tmp_path} is not empty"
    assert within_file.told[0].endswith("file/site: Not a directory")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _wait_until_ready(url: str) -> None:
    pause = threading.Event()
    for _ in range(WAIT_SECONDS * 10):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            pause.wait(0.1)
    raise AssertionError(f"{url} did not become ready")
