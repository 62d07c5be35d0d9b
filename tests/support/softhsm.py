# SPDX-License-Identifier: Apache-2.0
"""Tokens of SoftHSM in a folder of their own: what a hardware token looks like to a program."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
           "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so")  # fmt: skip
CONFIGURATION = "SOFTHSM2_CONF"
SO_PIN, PIN = "12345678", "86420"


def module() -> str:
    return next((path for path in MODULES if Path(path).exists()), "")


def is_present() -> bool:
    found = shutil.which("softhsm2-util") is not None and bool(module())
    return found and importlib.util.find_spec("pkcs11") is not None


@dataclass(frozen=True)
class Tokens:
    """The library reads its configuration once in a process, so one folder serves all tests of it."""

    folder: Path

    @classmethod
    def configure(cls, folder: Path) -> "Tokens":
        (folder / "tokens").mkdir()
        text = f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
        (folder / "softhsm2.conf").write_text(text)
        os.environ[CONFIGURATION] = str(folder / "softhsm2.conf")
        return cls(folder)

    def make(self, label: str) -> Path:
        """A new token; returns the file with its PIN.  SoftHSM sees it only when it starts, so it starts anew."""
        self._stop()
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", PIN]
        subprocess.run(command, check=True, capture_output=True)
        pin_file = self.folder / f"{label}.pin"
        pin_file.write_text(f"{PIN}\n")
        return pin_file

    def _stop(self) -> None:
        import pkcs11

        from volact.sealing import pkcs11 as ours

        ours._tokens.clear()
        library = pkcs11._loaded.get(module())
        if library is not None and library.initialized:
            library.finalize()
