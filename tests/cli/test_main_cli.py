# SPDX-License-Identifier: Apache-2.0
"""The manners that every command has: what is typed wrongly, pipes, locales, colours, faults, exit codes.

A transcript is one real process: the arguments, what stdout and stderr then hold, and the exit code.
"""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from volact import __version__
from volact.cli import environment

COMMAND = (sys.executable, "-m", "volact.cli.main")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs ``volact`` with a home of its own; ``patch`` is Python that runs in the process first."""

    def run(*words: str, patch: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", f"{patch}\n{CALL}", *words] if patch else [*COMMAND, *words]
        return subprocess.run(command, capture_output=True, text=True, env=_variables(tmp_path, variables), check=False)

    return run


CALL = "import sys; from volact.cli.main import main; sys.exit(main())"


def _variables(home: Path, more: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOLACT_", "PYTHON", "LC_"))}
    return {**kept, "HOME": str(home), "VOLACT_CLIENT_DIR": str(home / "client"), **more}


NO_FOLDER = "argument --dir: an empty text names no folder"
MACHINES = "is not a whole number from 1 to 999"
TYPED_WRONGLY = [
    ("volact", "hots", "unknown group 'hots'; did you mean 'host'?"),
    ("volact", "pub", "unknown group 'pub'; did you mean 'publisher'?"),
    ("volact", "qqq", "unknown group 'qqq'"),
    ("volact", "--vesion", "unknown option '--vesion'; did you mean '--version'?"),
    ("volact host", "statsu", "unknown verb 'statsu'; did you mean 'status'?"),
    ("volact host dns", "publsh", "unknown verb 'publsh'; did you mean 'publish'?"),
    ("volact client activate", "--hst=x", "unknown option '--hst=x'; did you mean '--host'?"),
    ("volact client status", "acme-cad", "unknown argument 'acme-cad'"),
    ("volact client info", "", "the following arguments are required: PRODUCT"),
    ("volact publisher product list", "--dir=", NO_FOLDER),
    ("volact demo", "--dir=", NO_FOLDER),
    ("volact demo", "--machines 0", f"argument --machines: 0 {MACHINES}"),
    ("volact demo", "--machines 1000", f"argument --machines: 1000 {MACHINES}"),
    ("volact demo", "--machines many", f"argument --machines: many {MACHINES}"),
]


@pytest.mark.parametrize(("command", "typed", "sentence"), TYPED_WRONGLY)
def test_what_is_typed_wrongly_is_named_with_its_help_and_exit_code_2(
    run: Run, command: str, typed: str, sentence: str
) -> None:
    done = run(*command.split()[1:], *typed.split())
    assert done.stderr.splitlines() == [f"volact: error: {sentence}", f"volact: hint: see `{command} --help`"]
    assert (done.stdout, done.returncode) == ("", 2)


def test_without_a_group_it_shows_the_help_and_exits_with_2(run: Run) -> None:
    bare, asked = run(), run("--help")
    assert bare.stdout == asked.stdout
    assert (bare.returncode, asked.returncode) == (2, 0)
    assert bare.stdout.startswith("usage: volact ")
    assert bare.stderr == asked.stderr == ""


def test_a_group_without_a_verb_shows_its_verbs_and_exits_with_2(run: Run) -> None:
    done = run("client")
    assert "verbs:" in done.stdout
    assert (done.stderr, done.returncode) == ("", 2)


def test_a_group_or_verb_stands_on_the_line_of_its_sentence(run: Run) -> None:
    groups, verbs = run("--help", COLUMNS="100").stdout, run("client", "--help", COLUMNS="100").stdout
    assert re.search(r"^    completion +a script", groups, re.MULTILINE)
    assert re.search(r"^    clear-host \(ckms, remhst\) +back to", verbs, re.MULTILINE)


def test_version_is_one_line_of_data(run: Run) -> None:
    done = run("--version")
    assert (done.stdout, done.stderr, done.returncode) == (f"volact {__version__}\n", "", 0)


def test_an_error_is_a_sentence_and_a_remedy_and_in_json_an_object_too(run: Run) -> None:
    plain, with_json = run("client", "info", "acme-cad"), run("client", "info", "acme-cad", "--json")
    assert [line.partition(": ")[0] for line in plain.stderr.splitlines()] == ["volact", "volact"]
    assert plain.stderr.splitlines()[0].startswith("volact: error: ")
    assert plain.stderr.splitlines()[1].startswith("volact: hint: ")
    assert with_json.stderr == plain.stderr
    error = json.loads(with_json.stdout)["error"]
    assert f"volact: error: {error['message']}" == plain.stderr.splitlines()[0]
    assert set(error) == {"code", "message", "remedy", "fields"}
    assert plain.returncode == with_json.returncode == 1


def test_a_usage_error_is_json_too_where_json_was_asked_for(run: Run) -> None:
    done = run("host", "statsu", "--json")
    assert json.loads(done.stdout)["error"]["code"] == "usage"
    assert done.returncode == 2


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize("group", ["host", "publisher", "demo"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(run: Run, group: str) -> None:
    done = run(group, "--help", patch=BLOCK.format(blocked={"sqlalchemy", "granian", "connectrpc"}))
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"volact: error: volact {group} needs ")
    assert error.endswith(", which is not installed")
    assert hint == f"volact: hint: install it with: pip install 'volact[{group}]'"
    assert (done.stdout, done.returncode) == ("", 1)


def test_the_client_needs_no_extra(run: Run) -> None:
    extras = {"sqlalchemy", "alembic", "granian", "connectrpc", "protobuf", "rich", "prometheus_client", "uvloop"}
    done = run("client", "status", patch=BLOCK.format(blocked=extras))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough_causes_no_complaint(tmp_path: Path, unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    variables = _variables(tmp_path, {"PYTHONUNBUFFERED": unbuffered})
    words = (*COMMAND, "client", "status", "--json")
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, env=variables, check=False)
    os.close(writing)
    assert (done.stderr, done.returncode) == ("", 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--help",), ("host", "--help"), ("client", "status", "--json")])
def test_a_full_disk_behind_stdout_is_an_error(tmp_path: Path, words: tuple[str, ...], unbuffered: str) -> None:
    variables = _variables(tmp_path, {"PYTHONUNBUFFERED": unbuffered})
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=variables, check=False
        )
    assert done.stderr.splitlines()[0] == "volact: error: cannot write the output: No space left on device"
    assert (len(done.stderr.splitlines()), done.returncode) == (2, 1)


def test_a_closed_stdout_is_no_fault(tmp_path: Path) -> None:
    shell = f"exec {sys.executable} -m volact.cli.main client status --json >&-"
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, env=_variables(tmp_path, {}), check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)


NOT_UNICODE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
SHOW = r"""
import volact.cli.client.looking as looking
def status(args, env):
    env.write_json({"name": "M\u00fcller"}) if env.json else env.write("M\u00fcller \u2026")
    return 0
looking.status = status
"""


def test_an_output_that_is_not_unicode_gets_question_marks_and_json_its_escapes(run: Run) -> None:
    plain, as_json = (run("client", "status", *more, patch=SHOW, **NOT_UNICODE) for more in ((), ("--json",)))
    assert (plain.stdout, plain.returncode) == ("M?ller ?\n", 0)
    assert as_json.stdout == '{"name": "M\\u00fcller"}\n'


FAULT = """
import volact.cli.client.looking as looking
def status(args, env):
    raise KeyError("no such row")
looking.status = status
"""


def test_a_fault_of_ours_is_one_sentence_and_how_to_report_it(run: Run) -> None:
    done = run("client", "status", "--json", patch=FAULT)
    assert done.stderr.splitlines() == [
        "volact: error: internal error: KeyError: 'no such row'",
        f"volact: hint: this is a fault of volact {__version__}: run it again with VOLACT_DEBUG=1, "
        "and report what it prints with the command line",
    ]
    assert json.loads(done.stdout)["error"]["code"] == "internal-error"
    assert done.returncode == 1


FORBIDDEN = """
import volact.cli.client.looking as looking
def status(args, env):
    raise PermissionError(13, "Permission denied", "/srv/volact/keys")
looking.status = status
"""


def test_a_file_that_the_user_may_not_use_is_named_and_is_no_fault_of_ours(run: Run) -> None:
    done = run("client", "status", patch=FORBIDDEN)
    assert done.stderr.splitlines()[0] == "volact: error: cannot use /srv/volact/keys: Permission denied"
    assert "owns the folder" in done.stderr.splitlines()[1]
    assert done.returncode == 1


def test_a_fault_of_ours_shows_its_trace_when_debugging(run: Run) -> None:
    done = run("client", "status", patch=FAULT, VOLACT_DEBUG="1")
    assert done.stderr.startswith("Traceback ")
    assert done.stderr.splitlines()[-2] == "volact: error: internal error: KeyError: 'no such row'"


WAIT = """
import sys, threading
import volact.cli.client.looking as looking
def status(args, env):
    print("waiting", file=sys.stderr, flush=True)
    threading.Event().wait()
looking.status = status
"""


def test_ctrl_c_ends_a_command_without_a_trace(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"{WAIT}\n{CALL}", "client", "status"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_variables(tmp_path, {}),
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("", "", 130)


SECTIONS = """
import volact.cli.client.looking as looking
def status(args, env):
    env.facts([("port", 1688), ("domain", None)], title="Settings")
    env.table(("key", "state"), [("A", "\\x1b[31mred")], title="Keys")
    return 0
looking.status = status
"""


def test_a_pipe_gets_titles_aligned_columns_and_no_escape_sequence(run: Run) -> None:
    done = run("client", "status", patch=SECTIONS)
    assert done.stdout.splitlines() == [
        "Settings",
        "port:   1688",
        "domain: –",
        "",
        "Keys",
        "key  state",
        "A    �[31mred",
    ]


SENT = "\\x1b]0;title\\x07 \\x7f \\x9b31m \\u202e é"
HOSTILE = f"""
import volact.cli.client.looking as looking
from volact.wire.client import UnreachableError
def status(args, env):
    env.say("{SENT}")
    raise UnreachableError(host="kms", port=1688, why="{SENT}")
looking.status = status
"""


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_what_a_server_said_is_quoted_in_messages_and_json_without_what_a_terminal_obeys(
    run: Run, option: tuple[str, ...]
) -> None:
    done = run("client", "status", *option, patch=HOSTILE)
    shown = done.stdout + done.stderr
    assert "title" in shown
    assert "é" in shown
    assert all(char.isprintable() for line in shown.split("\n") for char in line)
    if option:
        assert json.loads(done.stdout)["error"]["fields"]["why"] == "\x1b]0;title\x07 \x7f \x9b31m \u202e é"


COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|38;[\d;]+|9[0-7])m")
HEADING = """
import sys
import volact.cli.client.looking as looking
def status(args, env):
    env.write(f"colours {env.colours(env.stdout)}")
    env.write("it said \\x1b]0;title\\x07")
    env.table(("key", "state"), [("A", "licensed")], title="Keys")
    return 0
looking.status = status
"""


@pytest.mark.parametrize(
    ("variables", "colours"),
    [({"TERM": "xterm-256color"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_gets_drawn_tables_and_colours_only_where_they_are_wanted(
    tmp_path: Path, variables: dict[str, str], colours: bool
) -> None:
    text = _on_a_terminal([sys.executable, "-c", f"{HEADING}\n{CALL}", "client", "status"], tmp_path, variables)
    assert f"colours {colours}" in text
    assert "it said �]0;title�" in text
    assert "Keys" in text
    assert "┃" in text
    assert COLOUR.search(text) is None


def _on_a_terminal(command: list[str], home: Path, variables: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in _variables(home, {}).items() if name not in {"NO_COLOR", "TERM"}}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**kept, **variables, "LC_ALL": "C.UTF-8"})
    os.close(theirs)
    parts = []
    with suppress(OSError):  # Linux says EIO at a terminal's end
        while part := os.read(ours, 4096):
            parts.append(part)
    os.close(ours)
    process.wait(30)
    return b"".join(parts).decode()


def test_no_command_writes_a_message_past_what_cleans_it() -> None:
    folder = Path(environment.__file__).parent
    past = re.compile(r'stderr\.write\(f?"volact: ')
    found = [path for path in sorted(folder.rglob("*.py")) if past.search(path.read_text(encoding="utf-8"))]
    assert found == [folder / "environment.py"]
