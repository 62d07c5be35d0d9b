# SPDX-License-Identifier: Apache-2.0
"""The console: set up, activate and watch a site in a browser.  Server-rendered pages over the other rooms.

It decides nothing: what it shows it reads through the rooms' own functions, what it does it does by their command
lines and jobs.  ``folder`` and ``site`` say where everything is, ``targets`` where acts happen, ``setup`` is the
wizard, ``pages`` has one file a group of pages with its routes as data.  Imported by ``cli.console`` only.
Guide: docs/guide/console.md.
"""
