# SPDX-License-Identifier: Apache-2.0
"""The TPM's endorsement key, as the ``tpm-ek`` trait: read by two plain TPM 2.0 commands, with nothing but Python.

The key is the P-256 one of TCG's default template (EK credential profile 2.5, B.4.4, L-2): the TPM makes it from its
endorsement seed, the same each time, whether or not a maker or a system has stored one.  So the trait is the same under
every system, and changes only when the TPM is replaced or its owner changes the seed.  Making it takes a part of a
second, so what was read is kept until the next start of the computer.  Spec: docs/spec/fingerprint.md.
"""

import hashlib
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

DEVICE, KEPT, BOOT = "dev/tpmrm0", "run/volact/tpm-ek", "proc/sys/kernel/random/boot_id"
MOST_ANSWER = 4096

_SESSIONS, _NO_SESSIONS = 0x8002, 0x8001
_CREATE_PRIMARY, _FLUSH_CONTEXT = 0x131, 0x165
_ENDORSEMENT, _PASSWORD = 0x4000000B, 0x40000009
_HEADER = struct.Struct(">HII")  # tag, size, and a command's or an answer's code
_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_TEMPLATE = b"".join(
    (
        struct.pack(">HHI", 0x0023, 0x000B, 0x000300B2),  # ECC, SHA-256; restricted, decrypt, adminWithPolicy, fixed
        struct.pack(">H", len(_POLICY)) + _POLICY,
        struct.pack(">HHH", 0x0006, 128, 0x0043),  # AES-128 in CFB mode
        struct.pack(">HHH", 0x0010, 0x0003, 0x0010),  # no scheme, P-256, no KDF
        2 * (struct.pack(">H", 32) + bytes(32)),
    )
)

Exchange = Callable[[bytes], bytes]


def read(root: Path = Path("/")) -> str:
    """What names the endorsement key of the TPM under ``root``; empty where there is none, or this user may not ask."""
    boot = _text(root / BOOT)
    kept = _text(root / KEPT).split(" ")
    if len(kept) == 2 and boot and kept[0] == boot:
        return kept[1]
    try:
        found = ask(_exchange_with(root / DEVICE))
    except (OSError, ValueError):
        return ""
    if boot:
        _keep(root / KEPT, f"{boot} {found}\n")
    return found


def ask(exchange: Exchange) -> str:
    """SHA-256 of the endorsement key's public area.  Raises ``ValueError`` where the TPM says no or something odd."""
    handle, public = _created(exchange(_create_primary()))
    with suppress(ValueError, OSError):
        exchange(_HEADER.pack(_NO_SESSIONS, _HEADER.size + 4, _FLUSH_CONTEXT) + handle.to_bytes(4))
    return hashlib.sha256(public).hexdigest()


def _create_primary() -> bytes:
    password = struct.pack(">IHBH", _PASSWORD, 0, 0, 0)
    body = struct.pack(">II", _ENDORSEMENT, len(password)) + password
    body += struct.pack(">HHH", 4, 0, 0)  # no authorisation, nothing sealed
    body += struct.pack(">H", len(_TEMPLATE)) + _TEMPLATE
    body += struct.pack(">HI", 0, 0)  # no data of the caller's, no PCRs
    return _HEADER.pack(_SESSIONS, _HEADER.size + len(body), _CREATE_PRIMARY) + body


def _created(answer: bytes) -> tuple[int, bytes]:
    """The handle, and the public area behind it."""
    if len(answer) < _HEADER.size + 10:
        raise ValueError("the TPM answered too little")
    _, size, code = _HEADER.unpack_from(answer)
    if code or size != len(answer):
        raise ValueError(f"the TPM answered with code {code:#x}")
    handle, _, length = struct.unpack_from(">IIH", answer, _HEADER.size)
    public = answer[_HEADER.size + 10 : _HEADER.size + 10 + length]
    if len(public) != length or not public:
        raise ValueError("the TPM's answer ends early")
    return handle, public


def _exchange_with(device: Path) -> Exchange:
    """The kernel's resource manager: one command in one write, its answer in one read."""

    def exchange(command: bytes) -> bytes:
        descriptor = os.open(device, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        try:
            os.write(descriptor, command)
            return os.read(descriptor, MOST_ANSWER)
        finally:
            os.close(descriptor)

    return exchange


def _keep(path: Path, text: str) -> None:
    with suppress(OSError):
        path.parent.mkdir(mode=0o755, exist_ok=True)
        made = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        made.replace(path)


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
