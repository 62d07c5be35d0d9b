# SPDX-License-Identifier: Apache-2.0
"""What a publisher's tables hold, and the ledger beside them: read and written inside one transaction.

``records`` rows as values, and what is wrong with them · ``change`` one write transaction · ``activations`` and
``forests`` its tables of machines and forests · ``queries`` what is asked inside a change and outside · ``reader`` what
is asked of the store · ``listing`` tables in pages · ``ledger`` the hash chain (pure) · ``verifying`` what it tells of
the tables beside it.  Imports ``rules`` and the ``schema``; ``store``, above it, opens and closes the transactions.
"""
