# SPDX-License-Identifier: Apache-2.0
"""What the verbs on keys, activations and bundles share: the fleet opened, machines selected, a job shown."""

import argparse
import getpass
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from volact.cli.environment import Environment, counted
from volact.cli.options import Run, add_verb, between
from volact.core.errors import ConfigError
from volact.fleet.activation.install import INSTALL
from volact.fleet.api import PASSPHRASE_VARIABLE, Fleet
from volact.fleet.desk import SshOptions
from volact.fleet.folder import MOST_PARALLEL, MOST_SECONDS, FleetFolder
from volact.fleet.jobs.records import Job, JobState, TaskState
from volact.fleet.keys import vault
from volact.fleet.keys.vault import VaultPassphraseMissingError
from volact.sealing import keys

MOST_SHOWN = 200  # tasks in trouble, a line each


class Listed(Protocol):
    def to_json(self) -> Any: ...


T = TypeVar("T", bound=Listed)


class VaultPassphrasesDifferError(ConfigError):
    code = "vault-passphrases-differ"
    fmt = "the two passphrases are not the same"
    remedy = "run the command again; nothing was changed"


def verb(
    group: Any,
    name: str,
    run: Run,
    what: str,
    *examples: str,
    secret: bool = False,
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """``secret``: it may need the key vault."""
    parser = add_verb(group, name, what, run, examples=examples, aliases=aliases)
    shown = f"first line: the key vault's passphrase (else {PASSPHRASE_VARIABLE}, else the folder's own)"
    parser.add_argument("--passphrase-file", metavar="FILE", help=shown if secret else argparse.SUPPRESS)
    parser.set_defaults(parser=parser)
    return parser


def add_selection(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Which machines.  ``default``: those that it is for where nothing is said; else something must be."""
    told = f" (default: {default})" if default else ""
    parser.add_argument("names", metavar="MACHINE", nargs="*", help=f"machines of the inventory{told}")
    add_filter(parser)


def add_filter(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", default="", metavar="EXPR", help="those that fit, as in `volact fleet list`")
    parser.add_argument("--all", action="store_true", help="every machine")


def chosen(args: argparse.Namespace) -> dict[str, Any]:
    """As the fleet's methods take it."""
    return {"names": args.names, "filter": args.filter, "all": args.all}


def add_machines(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Which machines a job is for, and how it is done."""
    add_selection(parser, default)
    job = parser.add_argument_group("the job")
    job.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    job.add_argument("--no-wait", action="store_true", help="only make the job: `volact fleet serve` works on it")
    job.add_argument("--parallel", type=between(1, MOST_PARALLEL), metavar="N", help="machines at once")
    job.add_argument("--timeout", type=between(1, MOST_SECONDS), metavar="SECONDS", help="for each machine")
    job.add_argument("--accept-new-host-keys", action="store_true", help="keep SSH host keys seen for the first time")


def folder_of(args: argparse.Namespace, env: Environment) -> Path:
    return env.folder("fleet", args.dir)


def open_fleet(args: argparse.Namespace, env: Environment) -> Fleet:
    """The folder's fleet; its vault is opened only where a key is needed."""
    changes = {name: getattr(args, name, None) for name in ("parallel", "timeout")}
    ssh = SshOptions(accept_new=getattr(args, "accept_new_host_keys", False), changes=changes)
    path = folder_of(args, env)
    return Fleet.open(
        path,
        clock=env.clock,
        passphrase=lambda: read_passphrase(args, env, FleetFolder.open(path)),
        ssh=ssh,
    )


def read_passphrase(args: argparse.Namespace, env: Environment, folder: FleetFolder) -> bytes:
    """From a file, from the folder, at the prompt; for a new vault without any of these, one of our own making."""
    file = args.passphrase_file or env.variables.get(PASSPHRASE_VARIABLE)
    if file:
        return keys.read_passphrase(Path(file))
    kept = vault.kept_passphrase(folder)
    if kept is not None:
        return kept
    with folder.store() as store, store.read() as conn:
        there = vault.exists(conn)
    if not there:
        env.say(f"made the key vault's passphrase in {vault.passphrase_file(folder)}; keep a copy elsewhere")
        return vault.new_passphrase(folder)
    if not env.stdin.isatty():
        raise VaultPassphraseMissingError(variable=PASSPHRASE_VARIABLE)
    return getpass.getpass("Passphrase of the key vault: ", stream=env.stderr).encode()


def new_passphrase(file: str | None, env: Environment) -> bytes:
    """A new one, from a file or twice at the prompt."""
    if file:
        return keys.read_passphrase(Path(file))
    if not env.stdin.isatty():
        raise VaultPassphraseMissingError(variable="--new-passphrase-file")
    first = getpass.getpass("New passphrase: ", stream=env.stderr)
    if getpass.getpass("The same again: ", stream=env.stderr) != first:
        raise VaultPassphrasesDifferError()
    return first.encode()


def show_list(
    env: Environment, found: Sequence[T], columns: Sequence[str], row: Callable[[T], Sequence[object]]
) -> int:
    """Rows, each of which has its ``to_json``, as JSON or as a table."""
    if env.json:
        env.write_json([one.to_json() for one in found])
    else:
        env.table(columns, [row(one) for one in found])
    return 0


def tell(env: Environment, value: Any, sentence: str) -> int:
    """What was done: for programs, or for people."""
    env.write_json(value) if env.json else env.say(sentence)
    return 0


def run_job(args: argparse.Namespace, env: Environment, make: Callable[[Fleet], Job]) -> int:
    """Make a job, work through it with a progress bar, and show it.  Exit code 1: a machine is in trouble."""
    with open_fleet(args, env) as fleet:
        job = make(fleet)
        if args.no_wait:
            return show_job(fleet, job, env, waiting=True)
        with env.progress("machines", job.total) as bar:
            fleet.progress = lambda step: bar(step.finished)
            job = work(fleet, job.id, env)
        return show_job(fleet, job, env)


def work(fleet: Fleet, job: int, env: Environment) -> Job:
    """Ctrl-C loses nothing, which is said."""
    try:
        return fleet.run_job(job)
    except KeyboardInterrupt:
        env.hint(f"nothing is lost: `volact fleet jobs run {job}` goes on, `volact fleet jobs cancel {job}` ends it")
        raise


def show_job(fleet: Fleet, job: Job, env: Environment, *, waiting: bool = False) -> int:
    tasks = fleet.job_tasks(job.id, limit=1_000_000 if env.json else MOST_SHOWN)
    if env.json:
        env.write_json({**job.to_json(), "machines": [task.to_json() for task in tasks]})
        return 0 if job.well or waiting else 1
    if waiting:
        env.write(f"job {job.id}: {job.kind} on {job.total} machines, waiting")
        env.hint(f"`volact fleet serve` works on it, or `volact fleet jobs run {job.id}`")
        return 0
    env.write(_heading(job))
    rows = [line for task in tasks for line in _lines(task.machine, task.result, task.error_text)]
    if rows:
        env.table(["machine", "product", "what", "why not"], rows)
    if job.kind == INSTALL and not rows and job.counts.get(TaskState.SKIPPED):
        env.hint("nothing was to be installed: products that have a key keep it, unless --replace is said")
    if job.state == JobState.PAUSED:
        env.hint(f"it is paused: `volact fleet jobs run {job.id}` goes on")
    elif not job.well and not job.dry_run:
        env.hint(f"try the failed ones again: `volact fleet jobs retry {job.id}`")
    return 0 if job.well else 1


def _heading(job: Job) -> str:
    if not job.dry_run:
        counts = ", ".join(f"{number} {state}" for state, number in sorted(job.counts.items()))
        return f"job {job.id}: {job.kind}: {counts}"
    failed = job.counts.get(TaskState.FAILED, 0)
    asked = f"job {job.id}: dry run of {job.kind} on {counted(job.total, 'machine')}"
    return f"{asked}: nothing was changed" + (f", {failed} failed" if failed else "")


def _lines(machine: str, result: Any, error: str | None) -> list[list[object]]:
    products = result.get("products") if isinstance(result, dict) else None
    if not isinstance(products, list) or not products:
        return [[machine, None, None, error]] if error else []
    return [[machine, one.get("product"), _what(one), _why(one)] for one in products if isinstance(one, dict)]


def _what(one: dict[str, Any]) -> str:
    for name in ("would_install", "would_collect", "would_apply"):
        if name in one:
            return f"would {name.removeprefix('would_')} {one[name] if one[name] is not True else ''}".strip()
    if "by" in one and "way" not in one:  # a preview of activations
        return f"{one.get('state')}, left alone" if one["by"] == "none" else f"would activate, {one['by']}"
    shown = [one.get("state"), one.get("way") or one.get("by"), one.get("partial_key"), one.get("was")]
    return ", ".join(str(part) for part in shown if part and part != "none")


def _why(one: dict[str, Any]) -> str | None:
    return one.get("message") or one.get("error")
