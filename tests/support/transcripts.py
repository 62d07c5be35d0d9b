# SPDX-License-Identifier: Apache-2.0
"""Runs the shell blocks of a documentation page as a reader would type them, and compares what they print.

In the page, a line ``<!-- tested -->`` stands before each ```` ```sh ```` block that runs.  All such blocks of a page
run in order in one bash, in a new folder.  A ```` ```text ```` block that follows directly shows the output, stdout
and stderr as a terminal shows them; in it

- a line ``…`` stands for any lines, and ``…`` within a line for any text;
- times, keys, fingerprints and other hex, and the widths of columns are compared by their form only.

Each command must succeed; one that is meant to fail says so to the reader too: ``command || echo "exit code $?"``.
What the reader has already, the page can prepare in a comment that is not shown: ``<!-- tested setup`` … ``-->``.
Default ports are replaced by free ones on the way in, and back on the way out.  A page that needs a real part says
``<!-- tested: needs bind dig -->`` once.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PORTS = (1688, 1690, 1691, 5300)  # the KMS host's, the publisher's two, a name server to try things with
MOST_SECONDS = 300

BLOCK = re.compile(
    r"^<!-- tested setup\n(?P<setup>.*?)^-->\n"
    r"|^<!-- tested -->\n+```sh\n(?P<commands>.*?)^```\n(?:\s*```text\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
NEEDS = re.compile(r"^<!-- tested: needs (.+?) -->$", re.MULTILINE)
BEGINS, FAILED = "::block ", "::failed "

# What differs in each run, by the form that stays: tried from left to right at each place of a shown line.
FORMS = (
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    r"[0-9A-Z]{5}(?:-[0-9A-Z]{5}){4}",
    r"[0-9a-f]{8,}",
    r"\b[0-9A-Z]{5}\b",
    r"\d+ days \d+ hours",
    r"\d+\.\d+",
)
KINDS = {**{f"form{number}": form for number, form in enumerate(FORMS)}, "any": "…", "gap": r"\s+"}
SHOWN = re.compile("|".join(f"(?P<{kind}>{form})" for kind, form in KINDS.items()))


@dataclass(frozen=True, slots=True)
class Block:
    commands: str
    output: str | None


def blocks_of(page: Path) -> list[Block]:
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["setup"] or match["commands"], match["output"]) for match in found]


def needs_of(page: Path) -> tuple[str, ...]:
    return tuple(word for match in NEEDS.findall(page.read_text(encoding="utf-8")) for word in match.split())


def failures(page: Path, folder: Path, pick_port: Callable[[], int]) -> list[str]:
    """What a reader of the page would stumble over; empty if all is as it says."""
    blocks = blocks_of(page)
    printed = _run(blocks, folder, {str(port): str(pick_port()) for port in PORTS})
    found = []
    for number, block in enumerate(blocks):
        if number >= len(printed):
            found.append(f"the page did not get as far as:\n{block.commands}")
            continue
        failed = [line for line in printed[number] if line.startswith(FAILED)]
        shown = [line for line in printed[number] if not line.startswith(FAILED)]
        if failed or (block.output is not None and not matches(block.output, "\n".join(shown))):
            told = "\n".join(printed[number])
            found.append(f"typed:\n{block.commands}\nthe page shows:\n{block.output or ''}\nit printed:\n{told}")
    return found


def matches(shown: str, printed: str) -> bool:
    """Whether a page's output is that of the run."""
    lines = shown.strip("\n").split("\n")
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "…" else _line_pattern(line) + r"\n" for line in lines)
    return re.fullmatch(pattern, re.sub(r"[ \t]+$", "", printed.strip("\n"), flags=re.MULTILINE) + "\n") is not None


def _line_pattern(line: str) -> str:
    parts, place, line = [], 0, line.rstrip()
    for match in SHOWN.finditer(line):
        parts.append(re.escape(line[place : match.start()]))
        kind = match.lastgroup or ""
        parts.append(".*" if kind == "any" else KINDS[kind])
        place = match.end()
    return "".join([*parts, re.escape(line[place:])])


def _run(blocks: list[Block], folder: Path, ports: dict[str, str]) -> list[list[str]]:
    """The lines that each block printed."""
    script = f"trap 'echo \"{FAILED}$BASH_COMMAND\"' ERR\n"
    script += "".join(f"echo '{BEGINS}{number}'\n{block.commands}\n" for number, block in enumerate(blocks))
    log = folder.parent / f"{folder.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-c", _exchange(script, ports)],
            cwd=folder,
            env=_variables(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(MOST_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = _exchange(log.read_text(encoding="utf-8", errors="replace"), {free: port for port, free in ports.items()})
    parts = re.split(rf"^{BEGINS}\d+\n", text, flags=re.MULTILINE)[1:]
    return [part.splitlines() for part in parts]


def _exchange(text: str, words: dict[str, str]) -> str:
    return re.sub(rf"\b({'|'.join(words)})\b", lambda match: words[match[0]], text)


def _variables(folder: Path) -> dict[str, str]:
    """A terminal's: this environment's ``volact`` on the path, a home of its own, output as it comes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "HOME": str(folder), "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"}
