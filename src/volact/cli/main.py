# SPDX-License-Identifier: Apache-2.0
"""``volact``: finds the command group, loads only its file, runs it, and turns errors into two lines and a code.

Not here: what a command does.  Only the standard library is imported here and by ``client``'s file: a cold
``volact client status`` has 0.15 s.  Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted.
"""

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from volact import __version__
from volact.cli.environment import Environment, FolderError, OutputError
from volact.core.errors import ConfigError, VolactError

# Group: (module, what it is, extra of the package that it needs).
GROUPS = {
    "client": ("volact.cli.client", "the licensing service of this machine: keys, activation, status", None),
    "host": ("volact.cli.host", "the KMS host: activate this network's machines on 1688/TCP", "host"),
    "vm": ("volact.cli.vm", "the VM host: license this computer's guests without a network", "vm"),
    "publisher": (
        "volact.cli.publisher",
        "the publisher's activation service: products, keys, certificates",
        "publisher",
    ),
    "directory": (
        "volact.cli.directory",
        "activation objects in Active Directory and LDAP: computers activate without a host",
        "directory",
    ),
    "fleet": ("volact.cli.fleet", "thousands of machines: find, ask, give keys, activate, report", "fleet"),
    "console": ("volact.cli.console", "the web console: set up, activate and watch in a browser", "console"),
    "doctor": ("volact.cli.doctor", "find out why a product of this machine is not licensed, and what to do", None),
    "simulate": ("volact.cli.simulate", "a fleet over years: what policy, outages and mistakes do to it", "simulate"),
    "completion": (
        "volact.cli.completion",
        "a script for bash or zsh that completes groups, verbs and options",
        "fleet",
    ),
    "demo": ("volact.cli.demo", "a whole site on this machine: publisher, KMS host and 30 machines", "demo"),
}

HELP_COLUMN = 31  # holds "    clear-host (ckms, remhst)"

# A short command makes objects, in its imports, and hardly any garbage: Python's own 700 looks for it a hundred times.
OBJECTS_BEFORE_COLLECTING = 50_000

DESCRIPTION = "Volume activation for any software."
EPILOG = """\
examples:
  volact demo                                   # see a whole site activate itself
  volact client add-product acme.volproduct --root sha256:…
  volact client activate acme-cad               # activate through the network's KMS host
  volact host status                            # count, threshold, leases of a KMS host

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


class InternalError(VolactError):
    """A fault of Volact's own, where it should have said what is wrong."""

    code = "internal-error"
    fmt = "internal error: {what}"
    remedy = (
        "this is a fault of volact {version}: run it again with VOLACT_DEBUG=1, "
        "and report what it prints with the command line"
    )


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of examples, and puts a verb with its aliases on the line of its sentence."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=HELP_COLUMN)

    def add_argument(self, action: argparse.Action) -> None:
        """argparse's own measures a verb as if it were not indented below ``VERB``, and then breaks the longest."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            names = [len(self._format_action_invocation(verb)) for verb in action._get_subactions()]
            deeper = self._current_indent + self._indent_increment
            self._action_max_length = max([self._action_max_length, *(length + deeper for length in names)])


class _Parser(argparse.ArgumentParser):
    """argparse with this project's manners: our error lines, exit code 2, and help that keeps its examples' layout."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("formatter_class", _Help)
        kwargs.setdefault("allow_abbrev", False)
        self._mixing = False
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise UsageError(message=message, program=self.prog)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Complains at the verb where an option was typed, not at the group, whose help would not list it.

        A verb that ``takes_command`` leaves what stands after ``--`` as it is; values of the options in ``takes_minus``
        may begin with a minus."""
        args = _joined(args, getattr(self, "takes_minus", ()))
        if getattr(self, "takes_command", False) and args is not None and "--" in args:
            place = list(args).index("--")
            args, command = list(args)[:place], list(args)[place + 1 :]
            known = self.parse_known_args(args, namespace)[0]
            known.command = command or None
            return known, []
        known, extra = super().parse_known_args(args, namespace)
        if self._mixing:
            return known, extra
        if extra and self._leaves_out(extra):
            known, extra = self._parse_mixed(args, namespace)
        if extra:
            options = [option for action in self._actions for option in action.option_strings]
            what = "option" if extra[0].startswith("-") else "argument"
            self.error(f"unknown {what} {extra[0]!r}{_suggestion(extra[0].partition('=')[0], options)}")
        return known, extra

    def _leaves_out(self, extra: Sequence[str]) -> bool:
        """Whether the words that are left may belong to an argument that argparse took for left out: it does so where
        an option stands before it, as in ``install-key PRODUCT --edition EDITION KEY``."""
        optional = any(action.nargs in ("?", "*") for action in self._get_positional_actions())
        return optional and not self._mixing and not any(word.startswith("-") for word in extra)

    def _parse_mixed(self, args: Any, namespace: Any) -> Any:
        """Options first, then what is left of the words; argparse does it by way of the function above, twice."""
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def _print_message(self, message: str, file: Any = None) -> None:
        """argparse's own keeps quiet when help could not be written."""
        stream = file or sys.stdout
        try:
            if stream is not None:
                stream.write(message)
        except BrokenPipeError:
            raise
        except OSError as exc:
            raise OutputError(why=exc.strerror or str(exc)) from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            what = str(action.metavar or "verb").lower()
            self.error(f"unknown {what} {value!r}{_suggestion(value, action.choices)}")
        super()._check_value(action, value)


def main(argv: Sequence[str] | None = None, environment: Environment | None = None) -> int:
    """Run one command; returns the exit code and never raises for what a user can cause."""
    gc.set_threshold(OBJECTS_BEFORE_COLLECTING, 20, 20)
    arguments = list(sys.argv[1:] if argv is None else argv)
    env = environment or Environment.of_process()
    env.json = "--json" in arguments
    try:
        code = _answer(arguments, env)
        env.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough (`| head`)
        _discard_output(env)
        return 1
    except OSError as exc:  # the last line did not go out: a full disk behind `>`
        _discard_output(env)
        env.error(OutputError(why=exc.strerror or str(exc)))
        return 1
    return code


def _answer(arguments: list[str], env: Environment) -> int:
    """The one place where errors become lines and an exit code."""
    try:
        return _run(arguments, env)
    except UsageError as exc:
        env.error(exc)
        return 2
    except VolactError as exc:
        env.error(exc)
        return 1
    except SystemExit as exc:  # argparse after --help and --version
        return int(exc.code or 0)
    except BrokenPipeError:
        raise
    except Exception as exc:  # the user gets a sentence, whoever debugs it the trace
        if env.variables.get("VOLACT_DEBUG"):
            import traceback

            traceback.print_exc(file=env.stderr)
        env.error(_named(exc))
        return 1


def _named(exc: Exception) -> VolactError:
    """A file that this user may not use, or a disk that fails, is no fault of ours; everything else is."""
    if isinstance(exc, OSError) and exc.filename is not None:
        return FolderError(path=os.fsdecode(exc.filename), why=exc.strerror or str(exc))
    what = f"{type(exc).__name__}: {exc}".partition("\n")[0].removesuffix(": ")
    return InternalError(what=what, version=__version__)


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
        return _run_group(group, arguments[1:], env)
    except ModuleNotFoundError as exc:
        extra = GROUPS[group][2]
        if extra is None or exc.name is None or exc.name.partition(".")[0] == "volact":
            raise
        raise ExtraMissingError(group=group, module=exc.name, extra=extra) from None


def _run_group(group: str, arguments: list[str], env: Environment) -> int:
    parser = build_parser(group)
    args = parser.parse_args(arguments)
    if not hasattr(args, "run"):
        getattr(args, "parser", parser).print_help(env.stdout)
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


def _suggestion(typed: str, known: Iterable[str]) -> str:
    import difflib

    names = list(known)
    close = difflib.get_close_matches(typed, names, n=1) or [name for name in names if name.startswith(typed)][:1]
    return f"; did you mean {close[0]!r}?" if close else ""


def _joined(arguments: Any, options: Sequence[str]) -> Any:
    """``--sort -name`` as ``--sort=-name``, which argparse would take for two options."""
    if arguments is None or not options:
        return arguments
    made: list[str] = []
    for word in arguments:
        if made and made[-1] in options and word.startswith("-") and not word.startswith("--"):
            made[-1] = f"{made[-1]}={word}"
        else:
            made.append(word)
    return made


def _discard_output(env: Environment) -> None:
    """Python must not complain about our output once more while it shuts down."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), env.stdout.fileno())
    except (OSError, ValueError):  # not a real stream
        return


if __name__ == "__main__":
    sys.exit(main())
