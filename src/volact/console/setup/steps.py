# SPDX-License-Identifier: Apache-2.0
"""The wizard's steps, as data: their order for each method, and how far somebody has come."""

from dataclasses import dataclass

from volact.console.setup.state import DIRECTORY, KMS_HOST, SetupState


@dataclass(frozen=True, slots=True)
class Step:
    """``changes``: what the step will change, for whoever stands before it.  ``optional``: may be skipped."""

    key: str
    title: str
    changes: str
    optional: bool = False


METHOD = Step("method", "Method", "Nothing yet: it only decides which steps follow.")
TARGET = Step("target", "Machine", "Nothing yet: the machine is asked whether it is a KMS host already.")
FOREST = Step("forest", "Directory", "Nothing yet: the directory is asked what it would need.")
PRODUCT = Step(
    "product",
    "Product",
    "Makes the host's folder, where there is none, and puts the product's signed definition into it.",
)
PREPARE = Step(
    "prepare",
    "Prepare",
    "Extends the schema and makes a container for activation objects; schema changes of Active Directory are for good.",
)
KEY = Step("key", "Key", "Puts the KMS host key into the host's folder, with a signing key of its own.", optional=True)
ACTIVATE = Step(
    "activate",
    "Activate",
    "Uses one activation of the key; the publisher's answer gives this host its certificate for a year.",
)
OBJECT = Step(
    "object",
    "Activate",
    "Uses one forest of the key; the publisher's signed activation object is stored in the directory.",
)
CONFIGURE = Step(
    "configure", "Configure", "Changes the host's settings: port, intervals, and the domains that it is published in."
)
PROOF = Step(
    "proof", "Prove it", "Activates one test machine through the new host; it counts for 30 days like any other."
)
CHECK = Step("check", "Prove it", "Nothing: the object is read back from the directory and verified.")

ORDER: dict[str, tuple[Step, ...]] = {
    KMS_HOST: (METHOD, TARGET, PRODUCT, KEY, ACTIVATE, CONFIGURE, PROOF),
    DIRECTORY: (METHOD, FOREST, PREPARE, OBJECT, CHECK),
}
BEGIN = (METHOD,)


def steps_of(state: SetupState) -> tuple[Step, ...]:
    return ORDER.get(state.method, BEGIN)


def find(state: SetupState, key: str) -> Step | None:
    return next((step for step in steps_of(state) if step.key == key), None)


def frontier(state: SetupState) -> Step:
    """The first step that is not done: whoever asks for a later one is brought here."""
    steps = steps_of(state)
    return next((step for step in steps if step.key not in state.done), steps[-1])


def may_open(state: SetupState, key: str) -> bool:
    """A step is open once all before it are done."""
    for step in steps_of(state):
        if step.key == key:
            return True
        if step.key not in state.done:
            return False
    return False


def after(state: SetupState, key: str) -> Step:
    steps = steps_of(state)
    place = next((number for number, step in enumerate(steps) if step.key == key), -1)
    return steps[min(place + 1, len(steps) - 1)]
