# SPDX-License-Identifier: Apache-2.0
"""What binds an answer to its request and its machine: the sizes of nonces, one-time keys and machine IDs."""

from volact.core.errors import MalformedError

NONCE_SIZE = 16
RESPONSE_KEY_SIZE = 32
MACHINE_ID_SIZE = 32


def machine_id(text: str) -> bytes:
    """The 32 bytes of a machine ID written as lower-case hexadecimal."""
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != MACHINE_ID_SIZE or value.hex() != text:
        raise MalformedError(what="machine ID", why="not 64 lower-case hexadecimal digits")
    return value
