# SPDX-License-Identifier: Apache-2.0
"""Volume activation for any software.

A product embeds one call, ``volact.check("acme-cad", root="sha256:…", min_version=3)``; everything else here is
imported only when used, so that importing :mod:`volact` costs a product next to nothing.
"""

TYPE_CHECKING = False  # type checkers read it as true; importing typing would cost as much as Python's own start

if TYPE_CHECKING:
    from typing import Any

    from volact.client.check import Check, CheckReason, NotLicensedError, check, licensed

__version__ = "0.1.0"

__all__ = ["Check", "CheckReason", "NotLicensedError", "__version__", "check", "licensed"]


def __getattr__(name: str) -> "Any":
    if name in __all__:
        from volact.client import check

        return getattr(check, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
