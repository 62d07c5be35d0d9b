# SPDX-License-Identifier: Apache-2.0
"""The picture of a simulated fleet: licence states stacked over time, the host's count above them."""

from collections.abc import Sequence
from pathlib import Path

from volact.cli.simulate.fleet import Sample, Scenario
from volact.core.states import State

# From what is well to what is not; colours that differ in brightness too, so that grey prints and all eyes can tell.
COLOURS = {
    State.LICENSED: "#4c9f70",
    State.INITIAL_GRACE: "#9fd3e6",
    State.OUT_OF_TOLERANCE_GRACE: "#f2c14e",
    State.EXTENDED_GRACE: "#d9a3c7",
    State.NON_GENUINE_GRACE: "#8e6bbf",
    State.NOTIFICATION: "#b23a48",
}


def draw(samples: Sequence[Sample], scenario: Scenario, path: Path) -> None:
    """SVG, PNG or PDF, by the file's ending."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.2), layout="constrained")
    states, count = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    days = [sample.day for sample in samples]
    shown = [state for state in COLOURS if any(sample.states.get(state) for sample in samples)]
    series = [[sample.states.get(state, 0) for sample in samples] for state in shown]
    states.stackplot(days, *series, labels=[str(state) for state in shown], colors=[COLOURS[state] for state in shown])
    states.set_ylabel("machines")
    states.set_title(f"{scenario.machines:,} machines over {scenario.days} days: licence states and the host's count")
    count.plot(days, [sample.count for sample in samples], color="#333333", linewidth=1.4)
    count.set_ylabel("count")
    count.set_xlabel("day")
    count.set_ylim(bottom=0)
    for number, outage in enumerate(one for one in scenario.outages if one.begin < scenario.days):
        for axes in (states, count):
            label = "no host answers" if number == 0 and axes is states else None
            axes.axvspan(outage.begin, outage.end, facecolor="none", edgecolor="#333333", hatch="//", alpha=0.35,
                         linewidth=0, label=label)  # fmt: skip
    for imaging in scenario.imaging:
        if imaging.at < scenario.days:
            count.annotate(
                f"{imaging.machines:,} clones,\nmended day {imaging.mended}",
                (imaging.at, 0),
                (imaging.at, 0.12),
                textcoords=("data", "axes fraction"),
                fontsize=8,
            )
    for axes in (states, count):
        axes.margins(x=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(shown) + 1, frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
