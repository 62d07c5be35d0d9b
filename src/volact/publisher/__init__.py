# SPDX-License-Identifier: Apache-2.0
"""The publisher's activation service: products, organisations, keys, the activation of KMS hosts, the ledger.

Imports ``core``, ``sealing``, ``wire`` and ``sql``; only ``cli``, ``console`` and ``testing`` import it.  Where to find
what: ``folder`` keys and certificates on disk, ``catalogue`` and ``issuing`` the rules (pure), ``store`` the SQL,
``ledger`` the hash chain (pure), ``administration`` what an administrator does, ``service`` what a host asks,
``application`` the worker of the server.
"""
