# SPDX-License-Identifier: Apache-2.0
"""``volact demo``: a whole site on this machine, of real processes over real TCP, on embedded defaults.

``site`` starts and stops the parts and runs the machines; this file tells the story on the terminal.  Only two things
differ from a real site: the machines' hardware comes from a number (:mod:`volact.testing`), and the two hours between
a machine's attempts pass in seconds, which is said where it happens.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from volact.cli.demo.site import DemoSite, Machine
from volact.cli.environment import Environment
from volact.core.errors import ConfigError

RETRY_SECONDS = 120 * 60  # the policy's activation interval
SCALE = 2400  # one second of the demo is forty minutes of a site
MOST_MACHINES = 999


class MachinesError(ConfigError):
    code = "demo-machines"
    fmt = "the demo runs 1 to 999 machines, not {machines}"
    remedy = "give --machines a number in that range"


class FolderNotEmptyError(ConfigError):
    code = "demo-folder-not-empty"
    fmt = "the demo's folder {path} is not empty"
    remedy = "name a new folder with --dir, or remove that one"


def build(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        "  volact demo                              watch a site of 30 machines activate itself; Ctrl-C ends it\n"
        "  volact demo --dir site                   keep the folders: site/publisher, site/host, site/machines/…\n"
        "  volact demo --machines 40 --exit --json  for scripts: ends by itself, prints one JSON object"
    )
    parser.add_argument("--machines", type=int, default=30, help="how many machines (default: %(default)s)")
    parser.add_argument("--dir", metavar="DIR", help="where the roles' folders go and stay (default: a temporary one)")
    parser.add_argument("--exit", action="store_true", help="end when everything is activated")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, as the last line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    if not 1 <= args.machines <= MOST_MACHINES:
        raise MachinesError(machines=args.machines)
    with ExitStack() as stack:
        folder = _folder(args.dir, stack)
        story = _Story(env)
        site = stack.enter_context(DemoSite(folder))
        result = _play(site, story, args.machines)
        if args.dir:
            story.say(f"\nThe roles' folders are in {folder}; each verb takes its own by --dir.")
        if env.json:
            env.write_json(result)
            env.stdout.flush()
        if not args.exit:
            _stay(site, story)
    return 0 if result["licensed"] == args.machines or args.machines < result["threshold"] else 1


def _play(site: DemoSite, story: "_Story", machines: int) -> dict[str, Any]:
    began = time.monotonic()
    story.heading("A publisher: root and issuing CA, one product with two editions, a KMS host key for Contoso")
    site.start_publisher()
    story.say(f"  {site.publisher_name} answers on {site.publisher_url}, root {site.root[:23]}…")
    story.heading("Contoso's KMS host: activated by the publisher, then listening")
    site.start_host()
    story.say(f"  the host answers on {site.host_address}, its key ends in {site.host_key[-5:]}")
    story.heading(f"{machines} machines ask for a licence; the product's policy wants {site.threshold} of them")
    fleet = [site.machine(number) for number in range(1, machines + 1)]
    with story.progress("machines", machines) as done:
        for machine in fleet:
            machine.set_up()
            story.machine(machine, site.threshold)
            done(machine.number)
    waiting = [machine for machine in fleet if not machine.licensed]
    if waiting and machines >= site.threshold:
        _retry(waiting, story, site.threshold)
    story.heading("The host, as its administrator sees it: volact host status")
    story.say(site.host_status())
    story.heading(f"One machine, as its user sees it: volact client info {site.product}")
    story.say(fleet[-1].info())
    count = site.count()
    licensed = sum(machine.licensed for machine in fleet)
    seconds = round(time.monotonic() - began, 1)
    story.heading(f"{licensed} of {machines} machines are licensed, the host counts {count}; it took {seconds} s")
    return {
        "machines": machines,
        "threshold": site.threshold,
        "count": count,
        "licensed": licensed,
        "seconds": seconds,
        "host": site.host_address,
        "publisher": site.publisher_url,
        "root": site.root,
        "dir": str(site.folder),
    }


def _retry(waiting: list[Machine], story: "_Story", threshold: int) -> None:
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
    with story.progress("machines", len(waiting)) as done:
        for number, machine in enumerate(waiting, start=1):
            machine.activate()
            story.machine(machine, threshold)
            done(number)


def _stay(site: DemoSite, story: "_Story") -> None:
    story.heading("The site stays up.  Try, from another terminal:")
    for command in site.suggestions():
        story.say(f"  {command}")
    story.say("\nCtrl-C ends it.")
    try:
        site.wait()
    except KeyboardInterrupt:
        story.say("")


def _folder(given: str | None, stack: ExitStack) -> Path:
    if given is None:
        return Path(stack.enter_context(TemporaryDirectory(prefix="volact-demo-")))
    path = Path(given)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FolderNotEmptyError(path=str(path))
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


class _Story:
    """What the demo tells: on stdout for a reader, on stderr where stdout carries JSON."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._stream = env.stderr if env.json else env.stdout
        self._colour = self._stream.isatty()
        self.progress = env.progress

    def say(self, text: str) -> None:
        self._stream.write(text.rstrip() + "\n")
        self._stream.flush()

    def heading(self, text: str) -> None:
        self.say(f"\n\x1b[1m{text}\x1b[0m" if self._colour else f"\n{text}")

    def machine(self, machine: Machine, threshold: int) -> None:
        count = machine.count or 0
        bar = "█" * min(count, threshold) + "·" * max(0, threshold - count)
        reason = f"  {machine.reason}" if machine.reason else ""
        state = machine.state
        if self._colour:
            state = f"\x1b[{32 if machine.licensed else 33}m{state}\x1b[0m"
        self.say(f"  {machine.name}  {bar} {count:>3}/{threshold}  {state}{reason}")
