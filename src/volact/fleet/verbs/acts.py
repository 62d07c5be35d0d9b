# SPDX-License-Identifier: Apache-2.0
"""Acts on machines: each makes a job and works through it, or with ``wait=False`` only makes it.

What changes something on machines wants a selection, or ``all=True``: see :mod:`volact.fleet.inventory.selection`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volact.fleet.activation import backups, proxy
from volact.fleet.activation.activate import ACTIVATE, Options
from volact.fleet.activation.install import INSTALL
from volact.fleet.acts import bootstrap
from volact.fleet.desk import REFRESH
from volact.fleet.inventory.selection import Selection
from volact.fleet.jobs.records import Job
from volact.fleet.keys import keys
from volact.fleet.verbs.base import Names
from volact.fleet.verbs.jobs import Jobs


class Acts(Jobs):
    def refresh(
        self, *, names: Names = (), filter: str = "", all: bool = False, wait: bool = True, dry_run: bool = False
    ) -> Job:
        """Asks machines for their products."""
        return self._job(REFRESH, {}, Selection(names, filter, all), wait=wait, dry_run=dry_run)

    def bootstrap(
        self, artefact: Path | str, *, names: Names = (), filter: str = "", all: bool = False, upgrade: bool = False,
        prefix: str = bootstrap.PREFIX, link: str = bootstrap.LINK, wait: bool = True, dry_run: bool = False,
    ) -> Job:  # fmt: skip
        """Installs volact on machines that have none: a wheel, a tar.gz of wheels, or a zip application."""
        arguments = bootstrap.artefact_arguments(Path(artefact), prefix=prefix, link=link, upgrade=upgrade)
        return self._job(bootstrap.BOOTSTRAP, arguments, Selection(names, filter, all), wait=wait, dry_run=dry_run)

    def install_key(
        self,
        key: str | None = None,
        *,
        names: Names = (),
        filter: str = "",
        all: bool = False,
        product: str | None = None,
        edition: str | None = None,
        prefer: str = "generic",
        replace: bool = False,
        add: bool = False,
        wait: bool = True,
        dry_run: bool = False,
    ) -> Job:
        """Installs a key of the vault (by its last five symbols or its ID), or the recommended one of each product;
        ``add``: brings the product's definition where it lacks."""
        key_id = None if key is None else self._read(lambda conn: keys.find(conn, key)).key_id
        arguments = {"key_id": key_id, "product": product, "edition": edition, "prefer": prefer, "replace": replace}
        arguments["add"] = add
        return self._job(INSTALL, _given(arguments), Selection(names, filter, all), wait=wait, dry_run=dry_run)

    def activate(
        self,
        *,
        names: Names = (),
        filter: str = "",
        all: bool = False,
        wait: bool = True,
        dry_run: bool = False,
        **options: Any,
    ) -> Job:
        """Each product by its way; ``options``: the fields of :class:`~volact.fleet.activation.activate.Options`."""
        arguments = Options(**options).check().to_arguments()
        return self._job(ACTIVATE, arguments, Selection(names, filter, all), wait=wait, dry_run=dry_run)

    def proxy_collect(
        self, *, names: Names = (), filter: str = "", all: bool = False, product: str | None = None,
        force: bool = False, wait: bool = True, dry_run: bool = False,
    ) -> Job:  # fmt: skip
        """Collects machines' requests, to be confirmed elsewhere."""
        arguments = _given({"product": product, "force": force})
        return self._job(proxy.COLLECT, arguments, Selection(names, filter, all), wait=wait, dry_run=dry_run)

    def proxy_apply(
        self,
        *,
        names: Names = (),
        filter: str = "",
        all: bool = False,
        keep: bool = False,
        wait: bool = True,
        dry_run: bool = False,
    ) -> Job:
        """Brings answers that were imported to their machines; ``keep``: which seal a backup to the vault then."""
        return self._job(proxy.APPLY, _given({"keep": keep}), Selection(names, filter, all), wait=wait, dry_run=dry_run)

    def backup(
        self, *, names: Names = (), filter: str = "", all: bool = False, wait: bool = True, dry_run: bool = False
    ) -> Job:
        """Lets machines seal their identity and licences to the vault."""
        return self._job(backups.KEEP, {}, Selection(names, filter, all), wait=wait, dry_run=dry_run)

    def restore(
        self, *, names: Names = (), filter: str = "", all: bool = False, wait: bool = True, dry_run: bool = False
    ) -> Job:
        """Re-activates reimaged machines from their backups, without using the pool."""
        return self._job(backups.RESTORE, {}, Selection(names, filter, all), wait=wait, dry_run=dry_run)

    def _job(self, kind: str, arguments: Mapping[str, Any], chosen: Selection, *, wait: bool, dry_run: bool) -> Job:
        made = self.make_job(kind, arguments, names=chosen.names, filter=chosen.filter, all=chosen.all, dry_run=dry_run)
        return self.run_job(made) if wait else self.job(made)


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What was not said has its default in the act."""
    return {name: value for name, value in arguments.items() if value not in (None, False)}
