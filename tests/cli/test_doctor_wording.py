# SPDX-License-Identifier: Apache-2.0
"""What ``volact doctor`` says of a licensed machine: it does not call everything well under a step that failed."""

import dataclasses
import io
from types import SimpleNamespace

import pytest

from volact.cli import doctor
from volact.cli.environment import Environment


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ([("discovery", True), ("clock", None)], "nothing is wrong: it is licensed"),
        ([("discovery", False)], "it is licensed; before its next renewal, look at what failed above: discovery"),
    ],
)
def test_the_last_line_fits_the_steps_above_it(steps, last):
    out = io.StringIO()
    env = dataclasses.replace(Environment.of_process(), stdout=out)
    walked = [SimpleNamespace(what=what, ok=ok, detail="…") for what, ok in steps]
    doctor._show(SimpleNamespace(product="acme-cad", state="licensed", steps=walked, cause=None), env)
    assert out.getvalue().splitlines()[-1].strip() == last
