# SPDX-License-Identifier: Apache-2.0
"""The diagram of states in the specification is drawn from the table in the code."""

from pathlib import Path

from volact.core.states import TRANSITIONS, Event, State

PAGE = Path(__file__).resolve().parents[3] / "docs" / "spec" / "states.md"
EVERYWHERE = {Event.KEY_REMOVED, Event.REARMED}  # lead from every state to the same ones: said beside the picture


def diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {name(state)}: {state}" for state in State]
    for before in State:
        for after in State:
            events = [str(e) for e in Event if after in TRANSITIONS[before][e] and e not in EVERYWHERE]
            if events and before is not after and (before is State.UNLICENSED or events != [str(Event.KEY_INSTALLED)]):
                lines.append(f"    {name(before)} --> {name(after)}: {', '.join(events)}")
    return "\n".join([*lines, "```"])


def name(state: State) -> str:
    return state.replace("-", "_")


def test_the_diagram_is_drawn_from_the_table() -> None:
    shown = PAGE.read_text(encoding="utf-8").split("<!-- diagram -->\n")[1].split("\n<!-- end of diagram -->")[0]
    assert shown == diagram(), f"put this between the marks:\n{diagram()}"
