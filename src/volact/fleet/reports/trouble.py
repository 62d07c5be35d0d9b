# SPDX-License-Identifier: Apache-2.0
"""Reports on what is wrong: failures by cause, and clones."""

import re
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection

import volact.core.evaluation
import volact.core.refusal  # noqa: F401 - both register the codes that machines tell
from volact.core.errors import REGISTRY
from volact.fleet import figures
from volact.fleet.figures import CloneGroup, Failure, Size
from volact.fleet.reports.asked import CONTACTED, MACHINE, Asked, warn_if
from volact.fleet.reports.report import BarChart, Column, Figure, Kind, Report, Series, Tone, count

KINDS = {"reach": "not reached, or the act failed", "activation": "last activation failed", "state": "not licensed"}
FINGERPRINT, MACHINE_ID = "fingerprint", "machine-id"
MOST_BARS = 12
SHORT = 16  # hexadecimal digits, as other lists show a machine ID


def failures(conn: Connection, asked: Asked) -> Report:
    size = figures.fleet_size(conn, asked.now, asked.scope)
    return compose_failures(asked, size, figures.failures(conn, asked.scope))


def clones(conn: Connection, asked: Asked) -> Report:
    return compose_clones(asked, figures.clones(conn, asked.scope))


def compose_failures(asked: Asked, size: Size, rows: Sequence[Failure]) -> Report:
    attempts = [row for row in rows if row.kind == "activation"]
    reaches = [row for row in rows if row.kind == "reach"]
    return Report(
        "failures",
        "Failures by cause",
        asked.now,
        (
            Column("kind", "What"),
            Column("cause", "Cause"),
            Column("machines", "Machines", Kind.NUMBER),
            Column("newest", "Last", Kind.TIME),
            Column("example", "Example"),
            Column("remedy", "What to do"),
        ),
        tuple((KINDS[row.kind], row.cause, row.machines, row.newest, row.example, remedy(row.cause)) for row in rows),
        summary=_failure_sentences(attempts, reaches),
        figures=(
            Figure("Machines", f"{size.machines:,}"),
            Figure("Not reached", f"{size.failing:,}", warn_if(size.failing)),
            Figure("Activations failed", f"{sum(row.machines for row in attempts):,}", warn_if(len(attempts))),
            Figure("Different causes", f"{len({row.cause for row in rows}):,}", Tone.QUIET),
        ),
        charts=tuple(
            _causes(title, found, tone)
            for title, found, tone in (
                ("Why activations fail", attempts, Tone.BAD),
                ("Why machines are not reached", reaches, Tone.WARN),
            )
            if found
        ),
        selection=asked.selection,
        table_title="Causes, the most machines first",
        empty="Nothing failed.",
        facts={"causes": len({row.cause for row in rows}), "unreached": size.failing},
    )


def compose_clones(asked: Asked, rows: Sequence[CloneGroup]) -> Report:
    sizes = Counter((row.kind, row.value) for row in rows)
    number = Counter(kind for kind, _ in sizes)
    machines = len({row.machine for row in rows})
    return Report(
        "clones",
        "Clones",
        asked.now,
        (
            Column("kind", "What is shared"),
            Column("value", "Value"),
            Column("together", "Machines together", Kind.NUMBER),
            MACHINE,
            Column("address", "Address"),
            Column("machine_id", "Machine ID"),
            CONTACTED,
        ),
        tuple(
            (row.kind.replace("-", " "), _hex(row.value), row.together, row.machine, row.address, _hex(row.machine_id),
             row.contacted_at)
            for row in rows
        ),
        summary=_clone_sentences(number, machines),
        figures=(
            Figure("Machines concerned", f"{machines:,}", warn_if(machines)),
            Figure("Shared machine IDs", f"{number[MACHINE_ID]:,}", warn_if(number[MACHINE_ID])),
            Figure("Shared fingerprints", f"{number[FINGERPRINT]:,}", warn_if(number[FINGERPRINT], Tone.WARN)),
        ),
        charts=(_largest(sizes),) if sizes else (),
        selection=asked.selection,
        table_title="Machines that look like copies of one another",
        empty="No two machines share a machine ID or a fingerprint.",
        facts={"machines": machines, "machine_ids": number[MACHINE_ID], "fingerprints": number[FINGERPRINT]},
    )  # fmt: skip


def remedy(cause: str) -> str | None:
    """What the documentation says to that code, with a word in capitals where a sentence names one machine's own."""
    known = REGISTRY.get(cause)
    if known is None or re.fullmatch(r"\{\w+\}", known.remedy):
        return None
    return re.sub(r"\{(\w+)\}", lambda found: found[1].upper(), known.remedy)


def _failure_sentences(attempts: Sequence[Failure], reaches: Sequence[Failure]) -> tuple[str, ...]:
    sentences = []
    if attempts:
        first = attempts[0]
        sentences.append(f"Activations fail most often with {first.cause}: {count(first.machines, 'machine')}.")
    if reaches:
        total = sum(row.machines for row in reaches)
        sentences.append(
            f"The last act failed on {count(total, 'machine')}, most often with {reaches[0].cause} "
            f"({reaches[0].machines:,})."
        )
    return tuple(sentences) or ("Every machine was reached, and no activation that is still missing has failed.",)


def _clone_sentences(number: Counter[str], machines: int) -> tuple[str, ...]:
    if not machines:
        return ("No two machines share a machine ID or a fingerprint.",)
    return (
        f"{count(machines, 'machine')} share a machine ID ({number[MACHINE_ID]:,}) or a fingerprint "
        f"({number[FINGERPRINT]:,}) with others.",
        "Machines with one machine ID were made from an image that had been activated: they count once at a KMS host, "
        "and `volact client generalize` on each gives it its own.",
        "One fingerprint under several machine IDs is one computer installed anew, or virtual machines whose hardware "
        "looks the same.",
    )


def _causes(title: str, rows: Sequence[Failure], tone: Tone) -> BarChart:
    shown = rows[:MOST_BARS]
    values = tuple(float(row.machines) for row in shown)
    return BarChart(title, tuple(row.cause for row in shown), (Series("machines", values, tone),), "machines")


def _largest(sizes: Counter[tuple[str, bytes]]) -> BarChart:
    shown = sizes.most_common(MOST_BARS)
    names = tuple(f"{kind.replace('-', ' ')} {_hex(value)}" for (kind, value), _ in shown)
    series = Series("machines", tuple(float(n) for _, n in shown), Tone.BAD)
    return BarChart("The largest groups", names, (series,), "machines")


def _hex(value: bytes | None) -> str | None:
    return None if value is None else bytes(value).hex()[:SHORT]
