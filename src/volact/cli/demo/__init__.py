# SPDX-License-Identifier: Apache-2.0
"""``volact demo``: a whole site on this machine, of real processes over real TCP, on embedded defaults.

``site`` starts and stops the parts and runs the machines; this file tells the story on the terminal.  Only two things
differ from a real site: the machines' hardware comes from a number (:mod:`volact.testing`), and the two hours between
a machine's attempts pass in seconds, which is said where it happens.
"""

import argparse
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from volact.cli.demo.site import MEMO, DemoSite, Machine, PartFailedError
from volact.cli.environment import Environment, FolderError
from volact.cli.options import between, path
from volact.core.errors import ConfigError, VolactError

RETRY_SECONDS = 120 * 60  # the policy's activation interval
SCALE = 2400  # one second of the demo is forty minutes of a site
MOST_MACHINES = 999  # their folders are named by three digits
AT_A_TIME = 2  # machines that ask at the same time, where their order tells nothing


class FolderNotEmptyError(ConfigError):
    code = "demo-folder-not-empty"
    fmt = "the demo's folder {path} is not empty"
    remedy = "name a new folder with --dir, or remove that one"


def build(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        "  volact demo                              # watch a site of 30 machines activate itself; Ctrl-C ends it\n"
        "  volact demo --dir site                   # keep the folders: site/publisher, site/host, site/machines/…;\n"
        "                                           # the same line again runs the same site again\n"
        "  volact demo --machines 3                 # a site below the threshold of 25\n"
        "  volact demo --machines 40 --exit --json  # for scripts: ends by itself, prints one JSON object"
    )
    machines = between(1, MOST_MACHINES)
    parser.add_argument("--machines", type=machines, default=30, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument(
        "--dir", type=path, metavar="DIR", help="where the roles' folders go and stay (default: a temporary one)"
    )
    parser.add_argument("--exit", action="store_true", help="end when everything is activated")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, as the last line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    with ExitStack() as stack:
        stack.enter_context(_ended_like_ctrl_c())
        folder, again = _folder(args.dir, stack)
        story = _Story(env)
        site = stack.enter_context(DemoSite(folder))
        try:
            result = _again(site, story) if again else _play(site, story, args.machines)
        except PartFailedError:
            story.logs(site)
            raise
        result["dir"] = str(folder) if args.dir or not args.exit else None
        if args.exit and args.dir:
            _say_what_stays(site, story)
        if env.json:
            env.write_json(result, one_line=True)
            env.stdout.flush()
        if not args.exit:
            _stay(site, story)
            if args.dir:
                _say_what_stays(site, story)
    return 0 if result["licensed"] == result["machines"] or result["machines"] < result["threshold"] else 1


def _again(site: DemoSite, story: "_Story") -> dict[str, Any]:
    """A folder that holds a site already: nothing is made anew, nothing is activated."""
    story.heading(f"The site in {site.folder} runs again, each part where it was")
    result = site.start_again()
    story.say(f"  {site.publisher_name} answers on {site.publisher_url}")
    story.say(f"  the host answers on {site.host_address} and counts {site.count()}")
    story.say(f"  the console answers on {site.console_url}")
    return result


def _play(site: DemoSite, story: "_Story", machines: int) -> dict[str, Any]:
    began = time.monotonic()
    story.say("A whole site on this machine: real processes, real TCP on the loopback address, real signatures.")
    story.say(f"Nothing outside {site.folder} is touched.")
    story.heading(
        f"A publisher: root and issuing CA, a product with two editions, a KMS host key for {site.organisation}"
    )
    site.start_publisher()
    story.say(f"  {site.publisher_name} answers on {site.publisher_url}, root {site.root[:23]}…")
    story.heading(f"{site.organisation}'s KMS host: activated by the publisher, then listening")
    site.start_host()
    story.say(f"  the host answers on {site.host_address}, its key ends in {site.host_key[-5:]}")
    fleet = [site.machine(number) for number in range(1, machines + 1)]
    _ask(fleet, story, site.threshold)
    waiting = [machine for machine in fleet if not machine.licensed]
    if waiting and machines >= site.threshold:
        _ask_again(waiting, story, site.threshold)
    story.heading("The host, as its administrator sees it: volact host status")
    story.say(site.host_status())
    story.heading(f"One machine, as its user sees it: volact client info {site.product}")
    story.say(fleet[-1].info())
    story.heading("The console, over all of it")
    site.start_console(machines)
    story.say(f"  it answers on {site.console_url}; it reaches the machines by SSH, as any fleet's")
    seconds = round(time.monotonic() - began, 1)
    count, licensed = site.count(), sum(machine.licensed for machine in fleet)
    story.heading(f"{licensed} of {_machines(machines)} licensed, the host counts {count}; it took {seconds} s")
    if machines < site.threshold:
        story.say(f"  Below the threshold of {site.threshold}, machines stay in grace and ask again every two hours.")
        story.say(f"  To see it crossed: --machines {site.threshold}, or more.")
    result = {
        "machines": machines,
        "threshold": site.threshold,
        "count": count,
        "licensed": licensed,
        "seconds": seconds,
        "host": site.host_address,
        "publisher": site.publisher_url,
        "console": site.console_url,
        "root": site.root,
    }
    site.remember(result)
    return result


def _ask(fleet: list[Machine], story: "_Story", threshold: int) -> None:
    """One after the other, so that the count climbs in their order; the next ones are installed meanwhile."""
    asking = f"{_machines(len(fleet))} {'asks' if len(fleet) == 1 else 'ask'} for a licence"
    story.heading(f"{asking}; the product's policy wants a count of {threshold}")
    with _pool(1) as pool:
        installed = [pool.submit(machine.install) for machine in fleet]
        for machine, ready in zip(fleet, installed, strict=True):
            ready.result()
            machine.activate()
            story.machine(machine, threshold)


def _ask_again(waiting: list[Machine], story: "_Story", threshold: int) -> None:
    seconds = RETRY_SECONDS / SCALE
    story.heading(
        f"The first {len(waiting)} stay in grace and ask again in two hours: "
        f"time is scaled here, one second is {SCALE // 60} minutes"
    )
    with story.progress("two hours", RETRY_SECONDS) as done:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            done(RETRY_SECONDS - int(left * SCALE))
            time.sleep(min(0.1, left))
    with _pool(AT_A_TIME) as pool:
        for machine in pool.map(_activated, waiting):
            story.machine(machine, threshold)


def _stay(site: DemoSite, story: "_Story") -> None:
    story.heading("The site stays up.  Try, from another terminal:")
    for command in site.suggestions():
        story.say(f"  {command}")
    story.say(f"\nThe machines' hardware is simulated: `{site.as_machine(1)} …` runs volact as the first one.")
    story.say("Read on in README.md and docs/.  Ctrl-C ends the site.")
    try:
        threading.Thread(target=_refresh, args=(site,), name="refresh", daemon=True).start()
        story.heading("The console in your browser, logged in by this link once, within 15 minutes:")
        story.say(f"  {site.login_link()}")
        site.wait()
    except KeyboardInterrupt:
        story.say("")


def _refresh(site: DemoSite) -> None:
    """In the background: the console shows it as a job, and is complete when it ends."""
    with suppress(VolactError, OSError):
        site.refresh_fleet()


def _say_what_stays(site: DemoSite, story: "_Story") -> None:
    story.heading(f"The roles' folders are in {site.folder}.  The site runs again with:")
    for command in site.restart():
        story.say(f"  {command}")


def _machines(number: int) -> str:
    return "1 machine" if number == 1 else f"{number} machines"


def _activated(machine: Machine) -> Machine:
    machine.activate()
    return machine


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Leaving it early drops what has not begun."""
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """A closed terminal and a plain ``kill`` stop the site's processes too."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _folder(given: str | None, stack: ExitStack) -> tuple[Path, bool]:
    """Where the site is, and whether it is there already."""
    if given is None:
        return Path(stack.enter_context(TemporaryDirectory(prefix="volact-demo-"))), False
    path = Path(given).resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
        empty = not any(path.iterdir())
    except OSError as exc:
        raise FolderError(path=str(path), why=exc.strerror or str(exc)) from None
    if not empty and not (path / MEMO).is_file():
        raise FolderNotEmptyError(path=str(path))
    return path, not empty


class _Story:
    """What the demo tells: on stdout for a reader, on stderr where stdout carries JSON."""

    def __init__(self, env: Environment) -> None:
        self._stream = env.stderr if env.json else env.stdout
        self._colour = env.colours(self._stream)
        self.progress = env.progress

    def say(self, text: str) -> None:
        self._stream.write(text.rstrip() + "\n")
        self._stream.flush()

    def heading(self, text: str) -> None:
        self.say(f"\n\x1b[1m{text}\x1b[0m" if self._colour else f"\n{text}")

    def logs(self, site: DemoSite) -> None:
        """What the servers said last, for their files may go with the temporary folder."""
        for part, lines in site.logs().items():
            self.heading(f"The last lines of {part}.log")
            for line in lines:
                self.say(f"  {line}")

    def machine(self, machine: Machine, threshold: int) -> None:
        count = machine.count or 0
        bar = "█" * min(count, threshold) + "·" * max(0, threshold - count)
        reason = f"  {machine.reason}" if machine.reason else ""
        state = machine.state
        if self._colour:
            state = f"\x1b[{32 if machine.licensed else 33}m{state}\x1b[0m"
        self.say(f"  {machine.name}  {bar} {count:>3}/{threshold}  {state}{reason}")
