# SPDX-License-Identifier: Apache-2.0
"""What every web page and HTTP API of Volact stands on.  Imports ``core`` and ``sql``.

``app`` makes a site of pages, of what ``site`` is told; the rooms inside, and how to write a page, are in README.md.
"""
