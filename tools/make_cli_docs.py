# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference/cli.md: every group, verb, option and example of ``volact``, from its parsers.

Not from ``--help``'s text, whose layout differs between Python versions, but from what the parsers hold.

    python tools/make_cli_docs.py            write the page
    python tools/make_cli_docs.py --check    exit 1 if the page is not what would be written
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from volact.cli.main import GROUPS, build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reference" / "cli.md"
EVERYWHERE = {"-h", "--help"}

HEAD = """\
<!-- Written by tools/make_cli_docs.py. Edit the commands in src/volact/cli. -->
# Commands

`volact GROUP VERB`; names in parentheses are aliases. Data goes to standard output, messages to standard error as
`volact: error: …` and `volact: hint: …`. `--json` gives data for programs, and errors too, as
`{"error": {"code": …}}`; the codes are in [errors](errors.md). Exit code: 0 done, 1 failed, 2 used wrongly, 130
interrupted by Ctrl-C.

Each role has a folder: `--dir`, or `VOLACT_CLIENT_DIR`, `VOLACT_HOST_DIR`, `VOLACT_PUBLISHER_DIR`, or the system's
place (`/var/lib/volact/ROLE` for root, `~/.local/state/volact/ROLE` for others). `NO_COLOR=1` keeps colours away;
`VOLACT_DEBUG=1` shows the trace of an internal error.
"""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference/cli.md from the commands' parsers.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is out of date")
    page = render()
    return check(page) if parser.parse_args(arguments).check else write(page)


def render() -> str:
    parsers = {group: build_parser(group) for group in GROUPS}
    parts = [HEAD, *(_contents(parser) for parser in parsers.values())]
    for group, parser in parsers.items():
        parts.append(f"\n## volact {group}\n\n{_sentence(parser)}\n")
        parts += [] if _verbs(parser) else [_body(parser)]
        parts += [section(verb, aliases) for verb, aliases in _all_verbs(parser)]
    return "".join(parts)


def section(parser: argparse.ArgumentParser, aliases: list[str]) -> str:
    also = f" ({', '.join(aliases)})" if aliases else ""
    return f"\n### {parser.prog}{also}\n\n{_sentence(parser)}\n{_body(parser)}"


def synopsis(parser: argparse.ArgumentParser) -> str:
    """The command line in one line: what must be given, then what may be."""
    needed = [_usage(action) for action in _arguments(parser) if _is_needed(action)]
    optional = any(not _is_needed(action) for action in _arguments(parser))
    return " ".join([parser.prog, *(["[options]"] if optional else []), *needed])


def check(page: str) -> int:
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
        return 0
    print(f"volact: error: {PAGE.relative_to(ROOT)} does not match the commands", file=sys.stderr)
    print("volact: hint: run `python tools/make_cli_docs.py` and commit the page", file=sys.stderr)
    return 1


def write(page: str) -> int:
    PAGE.write_text(page, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {page.count(chr(10) + '### ')} verbs", file=sys.stderr)
    return 0


def _contents(parser: argparse.ArgumentParser) -> str:
    links = [f"[{_short(verb)}](#{_anchor(verb, aliases)})" for verb, aliases in _all_verbs(parser)]
    listed = ": " + " · ".join(links) if links else ""
    return f"\n**[{parser.prog}](#{parser.prog.replace(' ', '-')})**{listed}\n"


def _body(parser: argparse.ArgumentParser) -> str:
    rows = [f"| `{_name(action)}` | {_help(action)} |\n" for action in _arguments(parser)]
    table = "\n| argument | what it is |\n|---|---|\n" + "".join(rows) if rows else ""
    return f"\n```text\n{synopsis(parser)}\n```\n{table}{_epilog(parser)}"


def _epilog(parser: argparse.ArgumentParser) -> str:
    """Paragraphs stay paragraphs; what is indented or lists exit codes keeps its lines."""
    parts = [part for part in (parser.epilog or "").strip().split("\n\n") if part]
    return "".join(f"\n{_paragraph(part)}\n" for part in parts)


def _paragraph(text: str) -> str:
    lines, prose = text.strip("\n").splitlines(), []
    while lines and not lines[0].startswith(" ") and not re.match(r"examples?:$", lines[0]):
        prose.append(lines.pop(0))
    if lines and re.match(r"examples?:$", lines[0]):
        lines.pop(0)
    shown = ["\n".join(map(_escape, prose))] if prose else []
    if lines:
        indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
        shown.append("\n".join(["```sh", *(line[indent:] for line in lines), "```"]))
    return "\n\n".join(shown)


def _all_verbs(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, list[str]]]:
    """The verbs that do something, families opened up, each once."""
    for verb, aliases in _verbs(parser):
        if _verbs(verb):
            yield from _all_verbs(verb)
        else:
            yield verb, aliases


def _verbs(parser: argparse.ArgumentParser) -> list[tuple[argparse.ArgumentParser, list[str]]]:
    found: dict[int, tuple[argparse.ArgumentParser, list[str]]] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, verb in action.choices.items():
                found.setdefault(id(verb), (verb, []))[1].append(name)
    return [(verb, names[1:]) for verb, names in found.values()]


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    shown = [a for a in parser._actions if a.help != argparse.SUPPRESS and not EVERYWHERE & set(a.option_strings)]
    return [a for a in shown if not a.option_strings] + [a for a in shown if a.option_strings]


def _is_needed(action: argparse.Action) -> bool:
    return action.required and action.nargs not in ("?", "*")


def _usage(action: argparse.Action) -> str:
    return f"{action.option_strings[-1]} {_value(action)}" if action.option_strings else _value(action)


def _name(action: argparse.Action) -> str:
    if not action.option_strings:
        return {"?": "[{}]", "*": "[{} …]", "+": "{} …"}.get(str(action.nargs), "{}").format(_value(action))
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return ", ".join(action.option_strings) + value


def _value(action: argparse.Action) -> str:
    if action.choices and not action.metavar:
        return "|".join(map(str, action.choices))
    return str(action.metavar or action.dest.upper().replace("_", "-"))


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {**vars(action), "prog": "volact"}
    needed = " (must be given)" if action.option_strings and action.required else ""
    return _escape(text).replace("|", r"\|") + needed


def _sentence(parser: argparse.ArgumentParser) -> str:
    return _escape(parser.description or "")


def _escape(text: str) -> str:
    """Words in capitals and angle brackets are no mark-up, and code stays code."""
    return text.replace("<", "&lt;").replace("*", r"\*")


def _short(verb: argparse.ArgumentParser) -> str:
    return " ".join(verb.prog.split()[2:])


def _anchor(verb: argparse.ArgumentParser, aliases: list[str]) -> str:
    heading = " ".join([verb.prog, *aliases])
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
