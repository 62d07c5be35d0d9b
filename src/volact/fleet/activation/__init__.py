# SPDX-License-Identifier: Apache-2.0
"""Keys and licences onto machines: installed, activated each by its way, by proxy, from a backup.

``install`` and ``activate`` say what a machine is told; ``acting``, ``proxy`` and ``backups`` are the acts that jobs
run; ``confirmations`` has the rows of what was collected, answered and kept.
"""
