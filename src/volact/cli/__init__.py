# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a command group, and the composition root that wires rooms together.

Data on stdout, messages on stderr as ``volact: error:`` and ``volact: hint:``; exit code 0 done, 1 failed, 2 used
wrongly.  A command calls library functions that anyone could call; it decides nothing itself.
"""
