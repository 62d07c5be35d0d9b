# SPDX-License-Identifier: Apache-2.0
"""Shell completion, asked of a real bash."""

import subprocess
from pathlib import Path

import pytest

from support.processes import good


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("volact fl", "fleet"),
        ("volact fleet disc", "discover"),
        ("volact fleet refresh --par", "--parallel"),
        ("volact client act", "activate"),
    ],
)
def test_bash_completes_groups_verbs_and_options(words: str, wanted: str, tmp_path: Path) -> None:
    script = tmp_path / "volact"
    script.write_text(good("completion", "bash").out)
    *before, last = words.split()
    line = " ".join(f'"{word}"' for word in (*before, last))
    code = (
        f"source {script}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(before)}\n"
        f"COMP_LINE='{words}'\nCOMP_POINT={len(words)}\n"
        f"spec=$(complete -p volact)\nfn=${{spec##*-F }}\nfn=${{fn%% *}}\n$fn volact '{last}' '{before[-1]}'\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=False)
    assert wanted in done.stdout.split(), done.stderr


def test_zsh_gets_a_script_of_its_own() -> None:
    assert good("completion", "zsh").out.startswith("#compdef volact")
