# SPDX-License-Identifier: Apache-2.0
"""``volact fleet refresh, bootstrap, jobs``: asking machines, and every bulk act while it runs and afterwards."""

import argparse
from typing import Any

from volact.cli.environment import Environment
from volact.cli.fleet.opening import add_machines, chosen, open_fleet, run_job, show_job, tell, verb, work
from volact.cli.options import add_family, between
from volact.fleet.acts import bootstrap
from volact.fleet.api import Fleet
from volact.fleet.jobs.records import Job, JobState, TaskState

MOST_JOB = 2**31 - 1


def build(group: Any) -> None:
    refresh = verb(
        group,
        "refresh",
        run_refresh,
        "ask machines over SSH for their products, and write down what they say",
        "volact fleet refresh",
        "volact fleet refresh --filter 'refreshed=none' --accept-new-host-keys",
        "volact fleet refresh pc7.example.com --json",
    )
    add_machines(refresh, "every machine")
    bring = verb(
        group,
        "bootstrap",
        run_bootstrap,
        "install volact on machines that have none, over SSH",
        "volact fleet bootstrap --artefact volact-1.0-py3-none-any.whl --filter 'result=volact-missing'",
        "volact fleet bootstrap --artefact wheels.tar.gz --upgrade --all       # nothing is fetched from anywhere",
    )
    bring.add_argument(
        "--artefact", required=True, metavar="FILE", help="a wheel, a tar.gz of wheels, or a zip application (.pyz)"
    )
    bring.add_argument("--upgrade", action="store_true", help="also where there is a volact")
    bring.add_argument("--prefix", default=bootstrap.PREFIX, metavar="DIR", help="where to (default: %(default)s)")
    bring.add_argument("--link", default=bootstrap.LINK, metavar="FILE", help="the command (default: %(default)s)")
    add_machines(bring)
    _jobs(group)


def _jobs(group: Any) -> None:
    family = add_family(group, "jobs", "bulk acts: look, pause, resume, retry")
    listed = verb(family, "list", run_jobs, "list jobs, the newest first", "volact fleet jobs list --state running")
    listed.add_argument(
        "--state", action="append", default=[], choices=[str(s) for s in JobState], help="such jobs only"
    )
    listed.add_argument("--limit", type=between(1, 10_000), default=30, metavar="N", help="at most so many (30)")
    shown = _one(family, "show", run_show, "show a job and its machines", "volact fleet jobs show 7 --state failed")
    shown.add_argument(
        "--state", action="append", default=[], choices=[str(s) for s in TaskState], help="such machines only"
    )
    shown.add_argument("--limit", type=between(1, 1_000_000), default=200, metavar="N", help="machines (200)")
    _one(family, "pause", run_pause, "begin nothing more; what is in hand is finished", "volact fleet jobs pause 7")
    _working(
        _one(
            family,
            "run",
            run_run,
            "work through a job: one that waits or is paused, or whose tool was killed",
            "volact fleet jobs run 7",
            secret=True,
            aliases=("resume",),
        )
    )
    again = _one(
        family,
        "retry",
        run_retry,
        "try the failed machines of a job again",
        "volact fleet jobs retry 7",
        "volact fleet jobs retry 7 --uncertain      # also those of which nobody knows how it went",
        secret=True,
    )
    again.add_argument("--uncertain", action="store_true", help="also the uncertain ones")
    _working(again)
    _one(family, "cancel", run_cancel, "begin nothing more, for good", "volact fleet jobs cancel 7")


def run_refresh(args: argparse.Namespace, env: Environment) -> int:
    return run_job(
        args,
        env,
        lambda fleet: fleet.refresh(**chosen(args), wait=False, dry_run=args.dry_run),
    )


def run_bootstrap(args: argparse.Namespace, env: Environment) -> int:
    how = {"prefix": args.prefix, "link": args.link, "upgrade": args.upgrade, "dry_run": args.dry_run}
    return run_job(args, env, lambda fleet: fleet.bootstrap(args.artefact, **chosen(args), **how, wait=False))


def run_jobs(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        jobs = fleet.jobs(args.limit, args.state)
    if env.json:
        env.write_json([job.to_json() for job in jobs])
        return 0
    rows = [
        (
            job.id,
            job.kind + (" (dry run)" if job.dry_run else ""),
            job.state,
            f"{job.finished}/{job.total}",
            job.counts.get(TaskState.FAILED, 0) + job.counts.get(TaskState.UNCERTAIN, 0) or None,
            job.made_by,
            env.show_time(job.made_at),
            env.show_time(job.ended_at),
        )
        for job in jobs
    ]
    env.table(("job", "kind", "state", "machines", "in trouble", "by", "made", "ended"), rows)
    return 0


def run_show(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        job = fleet.job(args.job)
        tasks = fleet.job_tasks(job.id, states=args.state, limit=args.limit)
    if env.json:
        env.write_json({**job.to_json(), "machines": [task.to_json() for task in tasks]})
        return 0
    counts = ", ".join(f"{number} {state}" for state, number in sorted(job.counts.items()))
    env.facts(
        (
            ("kind", job.kind + (" (dry run: nothing was changed)" if job.dry_run else "")),
            ("state", job.state),
            ("machines", counts),
            ("selected by", job.selection.get("filter") or " ".join(job.selection.get("names", ())) or "everything"),
            ("made", f"{env.show_time(job.made_at)} by {job.made_by}"),
            ("began", env.show_time(job.started_at)),
            ("ended", env.show_time(job.ended_at)),
        ),
        title=f"Job {job.id}",
    )
    rows = [(t.machine, t.state, t.attempt, t.error, t.error_text, env.show_time(t.ended_at)) for t in tasks]
    env.table(("machine", "state", "tries", "error", "why", "ended"), rows, title="Machines")
    return 0


def run_pause(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        return _said(fleet.job_pause(args.job), "paused", env)


def run_cancel(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        return _said(fleet.job_cancel(args.job), "cancelled", env)


def run_run(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        return _work(fleet, args.job, env)


def run_retry(args: argparse.Namespace, env: Environment) -> int:
    with open_fleet(args, env) as fleet:
        fleet.desk().retry(args.job, uncertain=args.uncertain)
        if fleet.job(args.job).state == JobState.DONE:  # there was nothing to try again
            return show_job(fleet, fleet.job(args.job), env)
        return _work(fleet, args.job, env)


def _work(fleet: Fleet, job: int, env: Environment) -> int:
    with env.progress("machines", fleet.job(job).total) as bar:
        fleet.progress = lambda step: bar(step.finished)
        return show_job(fleet, work(fleet, job, env), env)


def _said(job: Job, done: str, env: Environment) -> int:
    return tell(env, job.to_json(), f"{done} job {job.id}: {job.finished} of {job.total} ended")


def _one(family: Any, name: str, run: Any, what: str, *examples: str, **how: Any) -> argparse.ArgumentParser:
    parser = verb(family, name, run, what, *examples, **how)
    parser.add_argument("job", metavar="JOB", type=between(1, MOST_JOB), help="its number")
    return parser


def _working(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-new-host-keys", action="store_true", help="keep SSH host keys seen for the first time"
    )
