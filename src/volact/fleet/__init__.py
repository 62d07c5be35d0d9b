# SPDX-License-Identifier: Apache-2.0
"""The fleet tool: one administrator's view of thousands of machines, and the acts on them.

Finds machines, asks and changes them over SSH, keeps what it saw in SQL, and holds the keys of an organisation.  It
has no part on the machines: they run ``volact client … --json``.  Guide: docs/guide/fleet.md.
"""
