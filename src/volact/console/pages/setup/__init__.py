# SPDX-License-Identifier: Apache-2.0
"""The pages of the Set up wizard, as data.  Every step checks again what the ones before it left."""

from volact.console.pages.setup import activating, configuring, directory_steps, host_steps, proving
from volact.web.access.roles import ADMINISTER
from volact.web.pages.visit import Handler, Page

HOSTS = "guide/kms-host"
AIR_GAP = "guide/air-gap"
DNS = "guide/dns"
DIRECTORY = "guide/active-directory"


def _get(path: str, handler: Handler, title: str, help_: str) -> Page:
    return Page(f"/setup{path}", handler, ADMINISTER, f"Set up: {title}", help=help_)


def _post(path: str, handler: Handler, acts: str, help_: str = HOSTS) -> Page:
    return Page(f"/setup{path}", handler, ADMINISTER, "Set up", ("POST",), help=help_, acts=acts)


PAGES = (
    Page("/setup", host_steps.begin, ADMINISTER, "Set up", group="Hosts", menu=True, icon="tools", help=HOSTS),
    _post("/restart", host_steps.restart, "setup-restart"),
    _get("/method", host_steps.method, "method", "guide/planning"),
    _post("/method", host_steps.choose_method, "setup-method", "guide/planning"),
    _get("/target", host_steps.target, "machine", HOSTS),
    _post("/target", host_steps.choose_target, "setup-target"),
    _get("/product", host_steps.product, "product", HOSTS),
    _post("/product", host_steps.give_product, "setup-product"),
    _get("/key", host_steps.key, "key", HOSTS),
    _post("/key", host_steps.give_key, "setup-key"),
    _post("/key/skip", host_steps.skip_key, "setup-key-skipped"),
    _get("/activate", activating.activate, "activate", AIR_GAP),
    _post("/activate", activating.online, "setup-activate", AIR_GAP),
    _post("/activate/request", activating.request, "setup-request", AIR_GAP),
    _post("/activate/answer", activating.answer, "setup-answer", AIR_GAP),
    _post("/activate/confirmation", activating.confirmation, "setup-confirmation", AIR_GAP),
    _get("/configure", configuring.configure, "configure", DNS),
    _post("/configure", configuring.save, "setup-configure", DNS),
    _post("/configure/preview", configuring.preview, "setup-preview", DNS),
    _post("/configure/domain", configuring.add_domain, "setup-domain-added", DNS),
    _post("/configure/domain/remove", configuring.remove_domain, "setup-domain-removed", DNS),
    _get("/proof", proving.proof, "prove it", HOSTS),
    _get("/proof/ready", proving.ready, "prove it", HOSTS),
    _post("/proof", proving.prove, "setup-proof"),
    _get("/forest", directory_steps.forest, "directory", DIRECTORY),
    _post("/forest", directory_steps.choose_forest, "setup-forest", DIRECTORY),
    _get("/prepare", directory_steps.prepare, "prepare", DIRECTORY),
    _post("/prepare", directory_steps.make_room, "setup-prepare", DIRECTORY),
    _get("/object", directory_steps.activate, "activate", DIRECTORY),
    _post("/object", directory_steps.make_object, "setup-object", DIRECTORY),
    _post("/object/request", directory_steps.request, "setup-object-request", DIRECTORY),
    _post("/object/answer", directory_steps.answer, "setup-object-answer", DIRECTORY),
    _get("/check", directory_steps.check, "prove it", DIRECTORY),
)
