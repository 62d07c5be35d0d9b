# SPDX-License-Identifier: Apache-2.0
"""Product keys: the list, one key with its machines, and what is done to keys."""

from starlette.responses import Response

from volact.core.errors import VolactError
from volact.core.product_key import Channel
from volact.publisher.administration.keys import MOST_KEYS, NewKey
from volact.publisher.administration.opened import MAX_REASON, MOST_LIMIT
from volact.publisher.desk import lists
from volact.publisher.desk.state import KIND_NAMES, desk_of, to_choose
from volact.publisher.folder.files import MAX_NAME
from volact.publisher.rows import listing as publisher_listing
from volact.publisher.rules.issuing import HOST_ROLES, POOLED, IssuedKey
from volact.web.access.roles import OPERATE, VIEW
from volact.web.pages.form import Form
from volact.web.pages.visit import Page, Visit

GROUP, HELP = "Licensing", "guide/desk#keys"
KINDS = {
    Channel.MAK: "MAK: a pool of activations",
    Channel.RETAIL: "Retail: one key a copy",
    Channel.KMS_HOST: "KMS host key",
    Channel.VM_HOST: "VM host key",
}


def keys(visit: Visit) -> Response:
    listing = visit.listing(sorts=lists.KEY_SORTS, start="-issued_at")
    with desk_of(visit).publisher.store.look() as conn:
        lists.fill_keys(conn, listing, channel=visit.query["kind"], product=visit.query["product"])
        used = publisher_listing.hosts_used(conn, [one.key_id for one in listing.rows])
    desk = desk_of(visit)
    return visit.render(
        "keys.html", listing=listing, used=used, products=desk.product_names(), kinds=list(KIND_NAMES.items()),
        groups=desk.group_names(),
    )  # fmt: skip


def key(visit: Visit) -> Response:
    return _show(visit, _find(visit), Form())


def new_key(visit: Visit) -> Response:
    start = {name: visit.query[name] for name in ("organisation", "agreement", "product")}
    return _ask(visit, Form(None, kind=str(Channel.MAK), count=1, **start))


def issue_key(visit: Visit) -> Response:
    desk, form = desk_of(visit), Form(visit.form)
    organisation = form.text("organisation", most=MAX_NAME)
    kind = form.choice("kind", [str(one) for one in KINDS])
    product, _, group = form.text("group").partition(" ")
    agreement = form.text("agreement", most=MAX_NAME, required=False) or None
    activations = form.integer("activations", least=1, most=MOST_LIMIT, required=False)
    hosts = form.integer("hosts", least=1, most=MOST_LIMIT, required=False)
    count = form.integer("count", least=1, most=min(MOST_KEYS, 500), required=False) or 1
    if not form.valid:
        return _ask(visit, form, 422)
    how = {"channel": Channel(kind), "activations": activations, "agreement": agreement}
    try:
        if Channel(kind) in HOST_ROLES:
            draft = desk.publisher.draft_host_key(
                organisation, product, group, visit.now, keys=desk.keys, hosts=hosts, **how  # type: ignore[arg-type]
            )  # fmt: skip
            made = desk.publisher.issue([draft], visit.actor)
        else:
            made = desk.publisher.issue_pool_keys(
                organisation, product, group, visit.now, visit.actor, keys=desk.keys, count=count, **how  # type: ignore[arg-type]
            )  # fmt: skip
    except VolactError as exc:
        form.fail(exc)
        return _ask(visit, form, 422)
    visit.note("key-issued", " ".join(new.issued.partial for new in made))
    return _show_new(visit, made)


def raise_key(visit: Visit) -> Response:
    found, form = _find(visit), Form(visit.form)
    activations = form.integer("activations", least=1, most=MOST_LIMIT, required=False)
    hosts = form.integer("hosts", least=1, most=MOST_LIMIT, required=False)
    if form.valid:
        try:
            desk_of(visit).publisher.raise_key(found, visit.now, visit.actor, activations=activations, hosts=hosts)
        except VolactError as exc:
            form.fail(exc, "activations")
    return _done(visit, found, form, "raise", "key-raised", "The key was raised.")


def block_key(visit: Visit) -> Response:
    found, form = _find(visit), Form(visit.form)
    reason = form.text("reason", most=MAX_REASON)
    if form.valid:
        desk_of(visit).publisher.block_key(found, reason, visit.now, visit.actor)
    return _done(visit, found, form, "block", "key-blocked", "The key is blocked: further requests are refused.")


def unblock_key(visit: Visit) -> Response:
    found = _find(visit)
    desk_of(visit).publisher.unblock_key(found, visit.now, visit.actor)
    return _done(visit, found, Form(), "unblock", "key-unblocked", "The key is open again.")


def supersede_key(visit: Visit) -> Response:
    desk, found = desk_of(visit), _find(visit)
    new = desk.publisher.supersede_key(found, desk.keys, visit.now, visit.actor)
    visit.note("key-superseded", f"{found.partial} by {new.issued.partial}")
    return _show_new(visit, [new])


def _find(visit: Visit) -> IssuedKey:
    wanted = visit.part("key_id")
    return desk_of(visit).publisher.store.find_key(wanted, "", wanted)


def _done(visit: Visit, found: IssuedKey, form: Form, dialog: str, act: str, said: str) -> Response:
    if not form.valid:
        return _show(visit, found, form, dialog, 422)
    visit.note(act, found.partial)
    return visit.redirect(f"/keys/{found.key_id}", said)


def _show(visit: Visit, found: IssuedKey, form: Form, dialog: str = "", status: int = 200) -> Response:
    desk, listing = desk_of(visit), visit.listing(sorts=lists.MACHINE_SORTS, start="-first_at", size=25)
    with desk.publisher.store.look() as conn:
        lists.fill_machines(conn, listing, found.key_id)
        hosts, rows = lists.hosts_of(conn, found.key_id), lists.latest_rows(conn, 10, found.key_id)
        used = lists.hosts_used(conn, found.key_id)
    listing.path = f"/keys/{found.key_id}"
    return visit.render(
        "key.html", status, key=found, listing=listing, hosts=hosts, rows=rows, hosts_used=used, form=form,
        dialog=dialog, pooled=found.channel in POOLED, groups=desk.group_names(), products=desk.product_names(),
        kind=KINDS[found.channel],
    )  # fmt: skip


def _ask(visit: Visit, form: Form, status: int = 200) -> Response:
    desk = desk_of(visit)
    groups = [
        (f"{definition.product} {group.number}", f"{definition.name}: {group.name}")
        for _, definition in desk.newest()
        for group in definition.groups
    ]
    organisations = [one.name for one in desk.publisher.store.organisations() if one.blocked_at is None]
    owned = [(one.name, f"{one.name} ({one.organisation})") for one in desk.publisher.store.agreements()]
    agreements = [("", "none"), *owned]
    kinds = [(str(kind), text) for kind, text in KINDS.items()]
    return visit.render(
        "key_new.html",
        status,
        form=form,
        kinds=kinds,
        groups=to_choose(groups, form.values.get("group")),
        organisations=to_choose(organisations, form.values.get("organisation")),
        agreements=agreements,
    )


def _show_new(visit: Visit, made: list[NewKey]) -> Response:
    return visit.render("key_made.html", made=made, text="\n".join(str(new.key) for new in made))


PAGES = [
    Page("/keys", keys, VIEW, "Keys", group=GROUP, menu=True, icon="key", help=HELP),
    Page("/keys/new", new_key, OPERATE, "Issue a key", help=HELP),
    Page("/keys/new", issue_key, OPERATE, "Issue a key", ("POST",), acts="key-issued", help=HELP),
    Page("/keys/{key_id}", key, VIEW, "Key", help=HELP),
    Page("/keys/{key_id}/raise", raise_key, OPERATE, "Key", ("POST",), acts="key-raised", help=HELP),
    Page("/keys/{key_id}/block", block_key, OPERATE, "Key", ("POST",), acts="key-blocked", help=HELP),
    Page("/keys/{key_id}/unblock", unblock_key, OPERATE, "Key", ("POST",), acts="key-unblocked", help=HELP),
    Page("/keys/{key_id}/supersede", supersede_key, OPERATE, "Key", ("POST",), acts="key-superseded", help=HELP),
]
