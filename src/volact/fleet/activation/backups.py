# SPDX-License-Identifier: Apache-2.0
"""Backups of machines as jobs: sealed to the key vault, and put back where a machine was set up anew.

The fleet tool's own backup is another thing (``volact.fleet.backup``).
"""

from functools import partial

from volact.core.errors import ConfigError
from volact.fleet.activation import activate, confirmations, install
from volact.fleet.activation.activate import Done
from volact.fleet.activation.confirmations import KeptBackup
from volact.fleet.activation.outcomes import activated
from volact.fleet.acts.context import Context
from volact.fleet.acts.seen import look, look_again
from volact.fleet.jobs.acts import Changes, Outcome, Work
from volact.fleet.keys import publisher, vault
from volact.fleet.reach import Session

KEEP, RESTORE = "backup", "restore"


class NoBackupError(ConfigError):
    code = "fleet-no-backup"
    fmt = "there is no backup of {machine} to put back"
    remedy = "activate it anew; `volact fleet activate --keep {machine}` makes a backup for the next time"


class Keep:
    """Let a machine seal its key and perpetual licences to the vault."""

    kind, resumable = KEEP, True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, work: Work) -> Outcome:
        async with self._context.reach.session(work.target) as session:
            changes = await make_backup(self._context, session, work.target.name)
        return Outcome({"kept": True}, changes=changes)

    async def preview(self, work: Work) -> Outcome:
        async with self._context.reach.session(work.target) as session:
            seen = await look(session)
        found = [one.product for one in seen.products if one.licensed and one.channel in activate.POOLED]
        return Outcome({"would_keep": found})


class Restore:
    """Local re-activation: the newest backup of a machine of that name, put back on the same hardware."""

    kind, resumable = RESTORE, True

    def __init__(self, context: Context) -> None:
        self._context = context

    async def run(self, work: Work) -> Outcome:
        kept = await self._newest(work)
        changes: list[Changes] = []
        async with self._context.reach.session(work.target) as session:
            results = await restore_backup(self._context, session, kept, changes)
            changes.append(await look_again(session, work))
        return activated(results, changes)

    async def preview(self, work: Work) -> Outcome:
        kept = await self._newest(work)
        return Outcome({"would_restore": list(kept.products), "of": kept.machine_id.hex()})

    async def _newest(self, work: Work) -> KeptBackup:
        kept = await self._context.read(partial(confirmations.backups, machine=work.target.name))
        if not kept:
            raise NoBackupError(machine=work.target.name)
        return kept[0]


async def make_backup(context: Context, session: Session, machine: str) -> Changes:
    to = await context.read(vault.recipient)
    identity, products, sealed = await activate.backup(session, to)
    made = KeptBackup(identity, machine, to, products, sealed, context.clock())
    return lambda conn, _now: confirmations.keep_backup(conn, made)


async def restore_backup(context: Context, session: Session, kept: KeptBackup, changes: list[Changes]) -> list[Done]:
    """Definitions first, where the new installation has none; then the backup, opened on its way into SSH only."""
    there = {one.product for one in (await look(session)).products}
    for known in await context.read(publisher.definitions):
        if known.product in kept.products and known.product not in there:
            await install.add_product(session, known)
    opened = context.opened_vault().open_backup(kept.sealed, activate.BACKUP_PURPOSE)
    results = await activate.restore(session, opened)
    changes.append(lambda conn, now: confirmations.note_restored(conn, kept.machine_id, now))
    return results
