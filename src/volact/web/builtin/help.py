# SPDX-License-Identifier: Apache-2.0
"""Pages that every site has: help."""

from typing import Final

from starlette.responses import Response

from volact.web.access.roles import LOGGED_IN
from volact.web.pages import help as web_help
from volact.web.pages.visit import Page, Visit


def help_page(visit: Visit) -> Response:
    topic = visit.found(web_help.read_topic(f"{visit.part('folder')}/{visit.part('name')}"))
    return visit.render("web/help.html", text=topic, topics=web_help.topics())


def help_error(visit: Visit) -> Response:
    topic = visit.found(web_help.error_topic(visit.part("code")))
    return visit.render("web/help.html", text=topic, topics=web_help.topics())


def help_index(visit: Visit) -> Response:
    return visit.render("web/help.html", text=None, topics=web_help.topics())


PAGES: Final = [
    Page("/help", help_index, LOGGED_IN, "Help"),
    Page("/help/errors/{code}", help_error, LOGGED_IN, "Help"),
    Page("/help/{folder}/{name}", help_page, LOGGED_IN, "Help"),
]
