# SPDX-License-Identifier: Apache-2.0
"""The publisher's activation service: products, organisations, keys, the activation of KMS hosts, the ledger.

Imports ``core``, ``sealing``, ``wire`` and ``sql``; only ``cli``, ``console`` and ``testing`` import it.  Where to find
what: ``folder`` keys and certificates on disk, ``catalogue``, ``issuing`` and ``pools`` the rules (pure), ``store`` the
SQL, ``ledger`` the hash chain (pure) and ``verifying`` what it tells of the tables beside it, ``administration`` what
an administrator does, ``service`` what a host or a machine asks, ``application`` and ``web`` the workers of the
servers, ``renewal`` how they take other keys.
"""
