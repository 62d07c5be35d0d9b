# SPDX-License-Identifier: Apache-2.0
"""``volact simulate``: a fleet over years, to see what a policy, an outage or an imaging mistake does to it.

The rules are the production's (``fleet``); the picture needs the extra ``simulate``.
"""

import argparse
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from volact.cli.environment import Environment
from volact.cli.options import between
from volact.core.errors import ConfigError
from volact.core.policy import Policy
from volact.core.states import State

MOST_MACHINES, MOST_DAYS = 1_000_000, 3660
PICTURES = (".svg", ".png", ".pdf")


class OutageError(ConfigError):
    code = "simulate-outage"
    fmt = "{text} is not an outage"
    remedy = "write the first day and the day on which it is over, as 330-530; the fleet begins on day 0"


class PictureError(ConfigError):
    code = "simulate-picture"
    fmt = "cannot draw {path}: {why}"
    remedy = "name a file that ends in .svg, .png or .pdf, in a folder that can be written"


class PolicyFileError(ConfigError):
    code = "simulate-policy"
    fmt = "cannot read the policy {path}: {why}"
    remedy = "give a TOML file with figures such as `lease_days = 90`; docs/spec/product-definition.md lists them"


def build(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n"
        "  volact simulate                                   # 10,000 machines over two years, a line a month\n"
        "  volact simulate --picture fleet.svg               # and as a picture\n"
        "  volact simulate --machines 30 --outage 40-60      # a small site, with one outage\n"
        "  volact simulate --policy policy.toml --json       # with other figures, for a program"
    )
    parser.add_argument("--machines", type=between(1, MOST_MACHINES), default=10_000, metavar="N", help="(10,000)")
    parser.add_argument("--days", type=between(1, MOST_DAYS), default=730, metavar="N", help="(730)")
    parser.add_argument("--seed", type=between(0, 2**31), default=1, metavar="N", help="another fleet's luck (1)")
    parser.add_argument(
        "--outage",
        action="append",
        metavar="FROM-TO",
        help="days without a host; may be repeated; 'none' for no outage (150-170 and 330-530)",
    )
    parser.add_argument("--clones", type=between(0, MOST_MACHINES), metavar="N", help="machines of a bad image (15 %%)")
    parser.add_argument("--policy", metavar="FILE", help="policy figures that differ from the defaults, as TOML")
    parser.add_argument("--picture", metavar="FILE", help="draw it: .svg, .png or .pdf")
    parser.add_argument("--every", type=between(1, MOST_DAYS), default=30, metavar="DAYS", help="a line each (30)")
    parser.add_argument("--json", action="store_true", help="print JSON: a sample a day, and the totals")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, env: Environment) -> int:
    from volact.cli.simulate.fleet import Fleet

    scenario, draw = _scenario(args), _picture(args.picture)
    began = time.perf_counter()
    fleet = Fleet(scenario)
    with env.progress("days", scenario.days) as progress:
        samples = []
        for sample in fleet.days():
            samples.append(sample)
            progress(sample.day + 1)
    seconds = time.perf_counter() - began
    draw(samples, scenario)
    if env.json:
        env.write_json(_json(samples, fleet.totals, seconds))
        return 0
    states = [state for state in State if any(sample.states.get(state) for sample in samples)]
    shown = [sample for sample in samples if sample.day % args.every == 0 or sample is samples[-1]]
    rows = [[s.day, s.present, s.count, *(s.states.get(state, 0) for state in states)] for s in shown]
    env.table(["day", "machines", "count", *map(str, states)], rows)
    totals = fleet.totals
    env.say(
        f"{totals.answered:,} answers ({totals.below_threshold:,} below the threshold), {totals.unanswered:,} attempts "
        f"without a host, {totals.refused_for_clock:,} refused for a wrong clock; {seconds:.1f} seconds"
    )
    return 0


def _scenario(args: argparse.Namespace) -> Any:
    from volact.cli.simulate.fleet import Imaging, Scenario

    clones = args.machines * 15 // 100 if args.clones is None else min(args.clones, args.machines)
    scenario = Scenario(machines=args.machines, days=args.days, seed=args.seed, policy=_policy(args.policy))
    scenario = replace(scenario, imaging=(Imaging(80, clones, 140),) if clones else ())
    if args.outage is not None:
        scenario = replace(scenario, outages=tuple(_outage(text) for text in args.outage if text != "none"))
    return scenario


def _outage(text: str) -> Any:
    from volact.cli.simulate.fleet import Outage

    begin, _, end = text.partition("-")
    if not (begin.isdecimal() and end.isdecimal() and len(text) < 12 and int(begin) < int(end)):
        raise OutageError(text=text)
    return Outage(int(begin), int(end))


def _policy(path: str | None) -> Policy:
    if path is None:
        return Policy()
    try:
        with Path(path).open("rb") as file:
            return Policy().with_changes(tomllib.load(file))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise PolicyFileError(path=path, why=getattr(exc, "strerror", None) or str(exc)) from None


def _picture(path: str | None) -> Callable[[Sequence[Any], Any], None]:
    """What draws it; what cannot be drawn is said before the work and not after it."""
    if path is None:
        return lambda *_: None
    if Path(path).suffix not in PICTURES:
        raise PictureError(path=path, why="what kind of picture it is to be, its name does not say")
    import matplotlib.figure  # noqa: F401 - the command says at once which extra is missing

    from volact.cli.simulate.picture import draw

    def drawn(samples: Sequence[Any], scenario: Any) -> None:
        try:
            draw(samples, scenario, Path(path))
        except OSError as exc:
            raise PictureError(path=path, why=exc.strerror or str(exc)) from None

    return drawn


def _json(samples: Sequence[Any], totals: Any, seconds: float) -> dict[str, Any]:
    return {
        "samples": [
            {"day": one.day, "machines": one.present, "count": one.count, "states": dict(one.states)} for one in samples
        ],
        "answered": totals.answered,
        "below_threshold": totals.below_threshold,
        "unanswered": totals.unanswered,
        "refused_for_clock": totals.refused_for_clock,
        "moves": [{"from": a, "to": b, "times": number} for (a, b), number in sorted(totals.moves.items())],
        "seconds": round(seconds, 2),
    }
