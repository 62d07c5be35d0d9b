# SPDX-License-Identifier: Apache-2.0
"""``volact``: finds the command group, loads only its file, runs it, and turns errors into two lines and a code.

Only the standard library is imported here and by ``client``'s file: a cold ``volact client status`` has 0.15 s.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from volact import __version__
from volact.cli.environment import Environment
from volact.core.errors import ConfigError, VolactError

# Group: (module, what it is, extra of the package that it needs).
GROUPS = {
    "client": ("volact.cli.client", "the licensing service of this machine: keys, activation, status", None),
    "host": ("volact.cli.host", "the KMS host: activate this network's machines on 1688/TCP", "host"),
    "publisher": (
        "volact.cli.publisher",
        "the publisher's activation service: products, keys, certificates",
        "publisher",
    ),
    "demo": ("volact.cli.demo", "a whole site on this machine: publisher, KMS host and 30 machines", "demo"),
}

DESCRIPTION = "Volume activation for any software."
EPILOG = """\
examples:
  volact demo                                   see a whole site activate itself
  volact client add-product acme.volproduct --root sha256:…
  volact client activate acme-cad               activate through the network's KMS host
  volact host status                            count, threshold, leases of a KMS host

`volact GROUP --help` shows a group's verbs, `volact GROUP VERB --help` its options and examples.
State lives in one folder per role: --dir, or VOLACT_CLIENT_DIR and so on, or the system's place."""


class ExtraMissingError(ConfigError):
    code = "extra-missing"
    fmt = "volact {group} needs {module}, which is not installed"
    remedy = "install it with: pip install 'volact[{extra}]'"


class UsageError(ConfigError):
    code = "usage"
    fmt = "{message}"
    remedy = "see `{program} --help`"


class _Parser(argparse.ArgumentParser):
    """argparse with this project's manners: our error lines, exit code 2, and help that keeps its examples' layout."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UsageError(message=message, program=self.prog)


def main(argv: Sequence[str] | None = None, environment: Environment | None = None) -> int:
    """Run one command; returns the exit code and never raises for what a user can cause."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    env = environment or Environment.of_process()
    env.json = "--json" in arguments
    try:
        return _run(arguments, env)
    except UsageError as exc:
        env.error(exc)
        return 2
    except VolactError as exc:
        env.error(exc)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our stdout has seen enough (`| head`); Python must not complain while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as exc:  # argparse after --help and --version
        return int(exc.code or 0)


def build_parser(group: str) -> argparse.ArgumentParser:
    """The whole parser of one group: what ``--help`` and the documentation tests read."""
    module, help_text, _ = GROUPS[group]
    parser = _Parser(prog=f"volact {group}", description=help_text[0].upper() + help_text[1:] + ".")
    importlib.import_module(module).build(parser)
    return parser


def _run(arguments: list[str], env: Environment) -> int:
    group = arguments[0] if arguments else ""
    if group not in GROUPS:
        return _top_level(arguments, env)
    try:
        parser = build_parser(group)
    except ModuleNotFoundError as exc:
        extra = GROUPS[group][2]
        if extra is None or (exc.name or "").startswith("volact"):
            raise
        raise ExtraMissingError(group=group, module=exc.name, extra=extra) from None
    args = parser.parse_args(arguments[1:])
    if not hasattr(args, "run"):
        parser.print_help(env.stdout)
        return 2
    code: int = args.run(args, env)
    return code


def _top_level(arguments: list[str], env: Environment) -> int:
    parser = _Parser(prog="volact", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"volact {__version__}")
    groups = parser.add_subparsers(title="groups", metavar="GROUP", dest="group")
    for name, (_, help_text, _) in GROUPS.items():
        groups.add_parser(name, help=help_text, add_help=False)
    parser.parse_args(arguments)
    parser.print_help(env.stdout)
    return 2


if __name__ == "__main__":
    sys.exit(main())
