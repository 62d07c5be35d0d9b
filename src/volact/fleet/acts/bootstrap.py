# SPDX-License-Identifier: Apache-2.0
"""Bringing volact to machines that have none: one file, through SSH's standard input, into a folder of its own.

The file is one that the administrator made: a wheel (``.whl``; its dependencies come from the package index that the
machine is set up for), a tar archive of wheels (``.tar.gz``; nothing is fetched), or a zip application (``.pyz``).
Each version gets a folder by its digest, and a link moves to it when it is whole, so that a machine that dies in
between has the old version or the new one.  Guide: docs/guide/fleet.md.
"""

import hashlib
import re
from pathlib import Path

from volact.core.errors import ConfigError
from volact.fleet.jobs.acts import Outcome, Work, skipped
from volact.fleet.reach import Output, Reach, Session
from volact.fleet.reach.errors import MachineError, SudoRefusedError
from volact.fleet.reach.remote import first_line

BOOTSTRAP = "bootstrap"
MOST_BYTES = 256 * 1024 * 1024
PREFIX, LINK = "/opt/volact", "/usr/local/bin/volact"
KINDS = {".whl": "wheel", ".tar.gz": "wheels", ".tgz": "wheels", ".pyz": "zipapp"}
_PATH = re.compile(r"/[A-Za-z0-9._/-]{0,200}\Z")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,199}\Z")  # a wheel is known by its name

# POSIX sh.  Arguments: PREFIX LINK KIND SHA256 NAME; standard input: the file.
SCRIPT = r"""
set -eu
umask 022
prefix=$1 link=$2 kind=$3 digest=$4 name=$5
place=$prefix/$digest
mkdir -p "$prefix"
if [ ! -e "$place/complete" ]; then
    rm -rf "$place"
    mkdir -p "$place/files" "$place/bin"
    cat > "$place/files/$name"
    seen=$(sha256sum "$place/files/$name" | cut -c1-64)
    [ "$seen" = "$digest" ] || { echo "the file came over damaged" >&2; exit 65; }
    case $kind in
    zipapp)
        printf '#!/bin/sh\nexec python3 "%s" "$@"\n' "$place/files/$name" > "$place/bin/volact"
        chmod 755 "$place/bin/volact" ;;
    wheel)
        rmdir "$place/bin"
        python3 -m venv "$place/env" >&2
        "$place/env/bin/python" -m pip install --quiet --disable-pip-version-check "$place/files/$name" >&2
        ln -s env/bin "$place/bin" ;;
    wheels)
        rmdir "$place/bin"
        tar -xzf "$place/files/$name" -C "$place/files"
        python3 -m venv "$place/env" >&2
        "$place/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-index \
            --find-links "$place/files" volact >&2
        ln -s env/bin "$place/bin" ;;
    esac
    "$place/bin/volact" --version >&2
    : > "$place/complete"
else
    cat > /dev/null
fi
mkdir -p "$(dirname "$link")"
ln -s "$place/bin/volact" "$link.new.$$"
mv -f "$link.new.$$" "$link"
"$link" --version
"""


class ArtefactUnfitError(ConfigError):
    code = "artefact-unfit"
    fmt = "{path} cannot be brought to machines: {why}"
    remedy = "give a wheel (.whl), a tar archive of wheels (.tar.gz) or a zip application (.pyz) of volact"


class ArtefactMissingError(ConfigError):
    code = "artefact-missing"
    fmt = "there is no file {path} to bring to machines"
    remedy = "give the path of a file that is on this computer; over HTTP, a name in the fleet folder's `artefacts`"


class BootstrapFailedError(MachineError):
    code = "bootstrap-failed"
    fmt = "volact could not be installed on {machine}: {line}"
    remedy = (
        "it needs python3 (3.11 or later) with venv there, and for a wheel a package index; see docs/guide/fleet.md"
    )
    contacted = True


def artefact_arguments(path: Path, *, prefix: str = PREFIX, link: str = LINK, upgrade: bool = False) -> dict[str, str]:
    """A bootstrap job's arguments; raises :class:`ArtefactMissingError`, :class:`ArtefactUnfitError`."""
    data = _read(path)
    for place in (prefix, link):
        if not _PATH.match(place) or ".." in place.split("/"):
            raise ArtefactUnfitError(path=str(path), why=f"{place} is not an absolute path in plain letters")
    return {
        "artefact": str(path.absolute()),
        "sha256": hashlib.sha256(data).hexdigest(),
        "prefix": prefix.rstrip("/"),
        "link": link,
        "upgrade": "yes" if upgrade else "",
    }


class Bootstrap:
    """``upgrade``: also where there is a volact already."""

    kind = BOOTSTRAP
    resumable = True

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._data: bytes | None = None

    async def run(self, work: Work) -> Outcome:
        data = self._artefact(work)
        async with self._reach.session(work.target) as session:
            there = await session.run([*session.volact, "--version"])
            if there.code == 0 and not work.arguments["upgrade"]:
                return skipped(f"{first_line(there.out.decode(errors='replace'))} is there")
            done = await session.run(_command(session, work), data)
        if done.code != 0:
            raise _failure(session, done)
        return Outcome({"installed": first_line(done.out.decode("utf-8", "replace"))})

    async def preview(self, work: Work) -> Outcome:
        return Outcome({"would": f"install {Path(work.arguments['artefact']).name}"}, contacted=False)

    def _artefact(self, work: Work) -> bytes:
        """The same bytes for every machine of the job, today and when it is resumed."""
        if self._data is None:
            path = Path(work.arguments["artefact"])
            data = _read(path)
            if hashlib.sha256(data).hexdigest() != work.arguments["sha256"]:
                raise ArtefactUnfitError(path=str(path), why="it is another file than when the job was made")
            self._data = data
        return self._data


def _command(session: Session, work: Work) -> list[str]:
    arguments = work.arguments
    name = Path(arguments["artefact"]).name
    root = list(session.volact[:-1])  # the words before volact itself: sudo, where it is needed
    values = [arguments["prefix"], arguments["link"], _kind(name), arguments["sha256"], name]
    return [*root, "sh", "-c", SCRIPT, "volact-bootstrap", *values]


def _failure(session: Session, done: Output) -> MachineError:
    lines = [line for line in done.err.splitlines() if line.strip()]
    if any(line.startswith("sudo:") for line in lines):
        why = next(line for line in lines if line.startswith("sudo:")).removeprefix("sudo:").strip()
        return SudoRefusedError(
            machine=session.target.name, account=session.account, why=first_line(why), command="/bin/sh"
        )
    return BootstrapFailedError(machine=session.target.name, line=first_line(lines[-1] if lines else ""))


def _read(path: Path) -> bytes:
    if not _kind(path.name) or not _FILE.match(path.name):
        raise ArtefactUnfitError(path=str(path), why="its name says none of the kinds")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ArtefactUnfitError(path=str(path), why=f"it is longer than {MOST_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtefactMissingError(path=str(path)) from None
    except OSError as exc:
        raise ArtefactUnfitError(path=str(path), why=exc.strerror or str(exc)) from None


def _kind(name: str) -> str:
    return next((kind for ending, kind in KINDS.items() if name.endswith(ending)), "")
