# SPDX-License-Identifier: Apache-2.0
"""Acts on machines: what all of them work with, and those that need no key.

An act runs on one machine, within a job (``jobs``), through a session (``reach``).  Those about keys and licences are
in ``activation``; ``desk`` knows all of them by name.
"""
