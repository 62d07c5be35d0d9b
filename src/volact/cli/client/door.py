# SPDX-License-Identifier: Apache-2.0
"""Which doors there are on this computer: Volact's own, and those that other packages bring along.

The client's room knows no other room; here they meet.  The table stands in for the entry points of Volact's own doors,
so that they are there in a checkout whose metadata is older as well.
"""

from pathlib import Path

from volact.cli.environment import Environment
from volact.client.activation.directory import Door
from volact.client.activation.doors import Opened, find_plugs, open_doors
from volact.core.product_key import Channel

BUILT_IN = {"directory": "volact.directory.plug", "vm": "volact.vm.plug"}  # as [project.entry-points."volact.doors"]


def open_door(folder: Path, env: Environment) -> Door | None:
    """The directory's alone; ``None`` where this computer takes no part in activation through a directory."""
    from volact.directory import plug

    return plug.open_door(folder, env.say)


def doors_for(channel: Channel | None, folder: Path, env: Environment) -> Opened:
    return open_doors(channel, folder, find_plugs(BUILT_IN, env.say), env.say)
