# SPDX-License-Identifier: Apache-2.0
"""bonsai, imported at its first use: it is built against OpenLDAP, and what only reads settings, prints a schema or
lists errors works without it.  Where it is missing, the command line says which extra brings it.
"""

import importlib
import os
from typing import Any

# The server's name is the one we chose, not what reverse DNS says.  OpenLDAP's library reads its environment once.
os.environ.setdefault("LDAPSASL_NOCANON", "on")


class Lazy:
    """A module that is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name), name)


bonsai = Lazy("bonsai")
ldap = Lazy("bonsai.errors")
security = Lazy("bonsai.active_directory")
