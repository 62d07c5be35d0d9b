# SPDX-License-Identifier: Apache-2.0
"""Wrong attempts to log in cost growing time, by account and by address, and never the account itself."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address, ip_address

from volact.web.access.store import WebStore
from volact.web.errors import LoginDelayedError

FREE_ATTEMPTS = 5  # wrong ones before each next one has to wait
MOST_DELAY = 15 * 60
# Of attempts on one account from anywhere: who guesses at another's account cannot keep its owner out for longer.
MOST_ACCOUNT_DELAY = 30
FORGET_SECONDS = 24 * 3600


def take_attempt(store: WebStore, subject: str, subjects: Sequence[str], now: int) -> None:
    """Raises :class:`LoginDelayedError`; else the attempt counts as a wrong one until it turns out right."""

    def wait(failures: Mapping[str, tuple[int, int]]) -> int:
        return max((last + delay(many, _most(one)) - now for one, (many, last) in failures.items()), default=0)

    seconds = wait(store.failures(subjects))  # most of those who must wait need no writer's turn for it
    if seconds <= 0:
        seconds = store.take_attempt(subject, subjects, now, wait)
    if seconds > 0:
        raise LoginDelayedError(seconds=seconds)


def delay(failures: int, most: int = MOST_DELAY) -> int:
    """Seconds that the next attempt has to wait: none, then 1, 2, 4 … up to ``most``."""
    over = failures - FREE_ATTEMPTS
    return 0 if over < 0 else min(2 ** min(over, 20), most)


def login_subjects(name: str, address: str) -> tuple[str, str]:
    return f"account:{name}", f"address:{network(address)}"


def network(address: str) -> str:
    """An IPv6 customer has 2^64 addresses: its network counts as one."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(IPv6Address(int(parsed) >> 64 << 64)) + "/64" if isinstance(parsed, IPv6Address) else address


def _most(subject: str) -> int:
    return MOST_ACCOUNT_DELAY if subject.startswith("account:") else MOST_DELAY
