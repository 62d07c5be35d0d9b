# SPDX-License-Identifier: Apache-2.0
"""``volact completion``: a script that completes groups, verbs and options in bash or zsh.

Written out once, from the parsers themselves, by shtab; pressing Tab then starts no Python.  Groups whose extra is not
installed are left out.
"""

import argparse
from typing import Any

from volact.cli.environment import Environment

SHELLS = ("bash", "zsh")
ABOUT = """\
  volact completion bash > /etc/bash_completion.d/volact
  volact completion zsh > "${fpath[1]}/_volact\""""


def build(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"examples, and where it goes:\n{ABOUT}"
    parser.add_argument("shell", choices=SHELLS, help="whose script")
    parser.add_argument("--json", action="store_true", help="print JSON: the script as a text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    import shtab

    script = shtab.complete(whole_parser(), shell=args.shell)
    if args.json:
        env.write_json({"shell": args.shell, "script": script})
    else:
        env.write(script)
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Every group as one parser, as the scripts need it."""
    from volact.cli.main import GROUPS, build_parser

    whole = argparse.ArgumentParser(prog="volact", add_help=True)
    groups: Any = whole.add_subparsers(dest="group", metavar="GROUP")
    for name, (_, help_text, _) in GROUPS.items():
        try:
            group = build_parser(name)
        except ModuleNotFoundError:
            continue
        groups._name_parser_map[name] = group
        groups._choices_actions.append(groups._ChoicesPseudoAction(name, [], help_text))
    return whole
