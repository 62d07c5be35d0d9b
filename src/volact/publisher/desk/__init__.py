# SPDX-License-Identifier: Apache-2.0
"""The publisher's desk: its catalogue, customers, keys, telephone and ledger in a browser.  It decides nothing: every
act is one of ``administration``, ``phone`` or ``store``, as on the command line.  Spec: docs/guide/desk.md.
"""
