# SPDX-License-Identifier: Apache-2.0
"""The fleet tool: one administrator's view of thousands of machines, and the acts on them.

Finds machines, asks and changes them over SSH, keeps what it saw in SQL, and holds the keys of an organisation.  It
has no part on the machines: they run ``volact client … --json``.  Guide: docs/guide/fleet.md.

    inventory, discovery    the machines, lists of them, and where they are found
    keys                    product keys in their vault, definitions, agreements
    figures, reports        what the tables say, in numbers and on paper
    reach, jobs, acts       machines by SSH, bulk work that survives, what is done on one machine
    activation, exchange    keys and licences onto machines, directly and by files that are carried
    schedules               what runs by itself
    verbs, rest             the methods of ``api``, and the same over HTTP

Programs begin with ``api``; jobs are made and worked through at the ``desk``.
"""
