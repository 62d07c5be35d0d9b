# SPDX-License-Identifier: Apache-2.0
"""All pages of the console, as data: the application and the tests of roles, forms and accessibility read this list."""

from volact.console.pages import dashboard, doctor, events, fleet, hosts, mail, setup
from volact.web.pages.visit import Page

MENU = {"": "", "Fleet": "", "Hosts": ""}
PAGES: tuple[Page, ...] = (
    *dashboard.PAGES,
    *fleet.PAGES,
    *setup.PAGES,
    *hosts.PAGES,
    *events.PAGES,
    *doctor.PAGES,
    *mail.PAGES,
)
