# SPDX-License-Identifier: Apache-2.0
"""The publisher's activation service: products, organisations, keys, the activation of KMS hosts, the ledger.

Imports ``core``, ``sealing``, ``wire``, ``sql`` and ``web``; only ``cli``, ``console`` and ``testing`` import it.

From the bottom: ``rules`` what is granted, and to whom (pure) · ``schema``, ``rows`` and ``store`` the tables and the
ledger, with the SQL · ``folder`` keys and certificates on disk · ``administration`` what an administrator does ·
``answering`` what machines, hosts and forests ask, online, in files and by telephone · ``api`` and ``desk`` for
programs and browsers · ``application`` and ``web`` the workers of the servers.  A test holds who imports whom.
"""
