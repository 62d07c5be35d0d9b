# SPDX-License-Identifier: Apache-2.0
"""``status``, ``info``, ``expiry``, ``licence``: what is there, without asking anybody."""

import argparse
from contextlib import suppress
from typing import Any

from volact import __version__
from volact.cli.client.shared import View, machine_of, open_store, say_notes, view
from volact.cli.environment import Environment
from volact.client.deployment.rearm import rearms_left
from volact.client.folder.records import Attempt
from volact.client.folder.store import ClientStore
from volact.client.machine import LocalMachine
from volact.client.products.loading import LoadedProduct
from volact.core.errors import ConfigError, VolactError
from volact.core.licence import Licence
from volact.core.policy import DAY
from volact.core.states import NUMBERS, State


class LicenceMissingError(ConfigError):
    code = "licence-missing"
    fmt = "{product} has no stored licence"
    remedy = "run `volact client activate {product}`; `volact client info {product}` shows what kept it from one"


class LicenceByTelephoneError(ConfigError):
    code = "licence-by-telephone"
    fmt = "the licence of {product} was made by telephone: it is a signature of another kind, and no JWS"
    remedy = "where other software must verify it, activate online: `volact client activate {product}`"


def status(args: argparse.Namespace, env: Environment) -> int:
    """A product that cannot be loaded is a row with its error, not the end of the table."""
    store, machine = open_store(args, env), machine_of(env)
    seen = {product: _view_or_error(product, store, machine, env) for product in store.products()}
    if env.json:
        rows = [_json_row(product, found, env) for product, found in seen.items()]
        shown = {"folder": str(store.folder), "machine": _machine_json(store, env), "products": rows}
        env.write_json({**shown, "notes": store.notes})
        return 0
    if seen:
        columns = ["product", "edition", "state", "until", "count", "host", "last attempt"]
        env.table(columns, [_row(product, found, env) for product, found in seen.items()])
    else:
        env.say(f"no product has been added in {store.folder}")
        env.hint("run `volact client add-product FILE --root sha256:…` with the definition that came with the product")
    say_notes(store, env)
    return 0


def info(args: argparse.Namespace, env: Environment) -> int:
    store = open_store(args, env)
    found = view(args.product, store, machine_of(env), env)
    if env.json:
        env.write_json({**found.to_json(env), **_more_json(found, store, env)})
    else:
        env.facts(_facts(found, store, env), title=found.loaded.definition.name)
    say_notes(store, env)
    return 0


def expiry(args: argparse.Namespace, env: Environment) -> int:
    store, machine = open_store(args, env), machine_of(env)
    views = [view(product, store, machine, env) for product in ([args.product] if args.product else store.products())]
    if env.json:
        env.write_json({"products": [_expiry_json(found, env) for found in views]})
    else:
        for found in views:
            env.write(_expiry_line(found, env))
    say_notes(store, env)
    return 0


def licence(args: argparse.Namespace, env: Environment) -> int:
    """The good one: what other software verifies."""
    store = open_store(args, env)
    found = view(args.product, store, machine_of(env), env).loaded
    stored = found.answer(str(found.installation.channel))
    token = stored.token if stored is not None else _marker(found)
    if not token and found.phone is not None:
        raise LicenceByTelephoneError(product=args.product)
    if not token:
        raise LicenceMissingError(product=args.product)
    env.write_json({"product": args.product, "licence": token}) if env.json else env.write(token)
    return 0


def _marker(loaded: LoadedProduct) -> str:
    """What an OEM licence stands on: the maker's marker."""
    return loaded.firmware.token if loaded.firmware is not None and loaded.firmware.answer is not None else ""


def _view_or_error(product: str, store: ClientStore, machine: LocalMachine, env: Environment) -> View | VolactError:
    try:
        return view(product, store, machine, env)
    except VolactError as exc:
        return exc


def _machine_json(store: ClientStore, env: Environment) -> dict[str, Any]:
    """This computer as an inventory lists it."""
    machine = store.machine_id()
    return {
        "name": env.hostname(),
        "id": machine.hex() if machine else None,
        "os": system_name(),
        "volact": __version__,
    }


def _json_row(product: str, found: View | VolactError, env: Environment) -> dict[str, Any]:
    if isinstance(found, VolactError):
        return {"product": product, "state": None, "licensed": False, "error": found.to_dict()}
    return found.to_json(env)


def _row(product: str, found: View | VolactError, env: Environment) -> list[object]:
    if isinstance(found, VolactError):
        return [product, None, "error", None, None, None, f"{found.code}: {found}"]
    return [
        product,
        found.loaded.installation.edition,
        found.evaluation.state,
        env.show_time(found.evaluation.until),
        found.count,
        found.known.address if found.known else None,
        _cause(found.attempt),
    ]


def system_name() -> str:
    """The operating system as its maker calls it."""
    import platform

    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return f"{platform.system()} {platform.release()}"


def _cause(attempt: Attempt | None) -> str:
    if attempt is None:
        return "none yet"
    return f"{attempt.code}: {attempt.message}" if attempt.message else attempt.code


def _facts(found: View, store: ClientStore, env: Environment) -> list[tuple[str, object]]:
    loaded, evaluation, attempt = found.loaded, found.evaluation, found.attempt
    installed, good = loaded.installation, _good(found)
    anchor = store.anchor(loaded.product)
    settings = store.settings()
    return [
        ("product", f"{loaded.product}, definition version {loaded.definition.version}"),
        ("publisher", loaded.definition.publisher),
        ("root", anchor.root),
        ("least definition version", anchor.min_version),
        ("edition", installed.edition or "none: no key is installed"),
        ("channel", installed.channel),
        ("partial key", installed.partial),
        ("rearms left", rearms_left(store, loaded)),
        ("machine ID", loaded.machine.hex() if loaded.machine else "made at the first activation"),
        ("state", f"{evaluation.state} ({NUMBERS[evaluation.state]})"),
        ("reason", evaluation.reason),
        ("enforcement", evaluation.enforcement),
        ("until", env.show_time(evaluation.until)),
        ("left", _left(evaluation.until, max(env.clock(), loaded.latest_time))),
        ("count/threshold", found.count),
        ("licence issued", env.show_time(good.issued_at) if good else "none"),
        ("licence ends", env.show_time(good.expires_at) if good else None),
        ("organisation", (good.organisation or None) if good else None),
        ("configured host", _configured(settings.discovery.host, settings.discovery.port)),
        ("configured domain", settings.discovery.domain),
        ("host caching", "on" if settings.discovery.caching else "off"),
        ("last good host", f"{found.known.address} ({found.known.source})" if found.known else None),
        ("activation interval", _minutes(attempt.activation_minutes if attempt else None)),
        ("renewal interval", _minutes(attempt.renewal_minutes if attempt else None)),
        ("last attempt", env.show_time(attempt.at) if attempt else "none yet"),
        ("its outcome", _cause(attempt) if attempt else None),
        *(
            (f"asked {one.host}", f"{one.code or 'licence'} ({one.source})")
            for one in (attempt.tried if attempt else ())
        ),
        ("next attempt", env.show_time(found.next_attempt)),
        ("folder", store.folder),
    ]


def _good(found: View) -> Licence | None:
    """The stored licence of the installed key's channel, an issuer's before one by telephone."""
    loaded = found.loaded
    stored = loaded.answer(str(loaded.installation.channel))
    if stored is not None:
        return stored.licence
    others = (loaded.phone, loaded.firmware.answer if loaded.firmware is not None else None)
    return next((one.licence for one in others if one is not None), None)


def _more_json(found: View, store: ClientStore, env: Environment) -> dict[str, Any]:
    """What ``info`` shows beyond ``status``."""
    loaded, attempt = found.loaded, found.attempt
    good = _good(found)
    settings = store.settings().discovery
    return {
        "publisher": loaded.definition.publisher,
        "root": loaded.trust.fingerprint,
        "min_version": store.anchor(loaded.product).min_version,
        "machine_id": loaded.machine.hex() if loaded.machine else None,
        "status_epoch": loaded.trust.epoch,
        "rearms_left": rearms_left(store, loaded),
        "installed_at": env.json_time(loaded.installation.installed_at),
        "licence_issued_at": env.json_time(good.issued_at) if good else None,
        "licence_ends_at": env.json_time(good.expires_at) if good else None,
        "organisation": good.organisation if good else None,
        "configured_host": _configured(settings.host, settings.port),
        "configured_domain": settings.domain,
        "caching": settings.caching,
        "activation_interval_minutes": attempt.activation_minutes if attempt else None,
        "renewal_interval_minutes": attempt.renewal_minutes if attempt else None,
        "folder": str(store.folder),
        "notes": store.notes,
    }


def _expiry_json(found: View, env: Environment) -> dict[str, Any]:
    state = found.evaluation
    return {"product": found.loaded.product, "state": state.state, "until": env.json_time(state.until)}


def _expiry_line(found: View, env: Environment) -> str:
    evaluation = found.evaluation
    if evaluation.until is None:
        how = "permanently" if evaluation.licensed else "until it is activated"
        if evaluation.state is State.UNLICENSED:
            how = "until a key is installed"
        return f"{found.loaded.product}: {evaluation.state}, {how}"
    return f"{found.loaded.product}: {evaluation.state} until {env.show_time(evaluation.until)}"


def _left(until: int | None, now: int) -> str | None:
    if until is None:
        return None
    days, rest = divmod(max(0, until - now), DAY)
    return f"{days} days {rest // 3600} hours"


def _minutes(minutes: int | None) -> str | None:
    return None if minutes is None else f"{minutes} minutes"


def _configured(host: str | None, port: int | None) -> str | None:
    if host is None:
        return None
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"
