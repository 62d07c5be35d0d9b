# SPDX-License-Identifier: Apache-2.0
"""The inventory in the database: which machines there are, which of them are meant, and lists of them.

``filters`` is the language of lists; an act says which machines it is for as a ``selection``.  What is written into it
is found by ``discovery`` and ``acts``.  Not here: any machine.
"""
