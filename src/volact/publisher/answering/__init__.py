# SPDX-License-Identifier: Apache-2.0
"""What machines, hosts and forests ask of a publisher: online, in files, and by telephone.

``service`` opens and seals messages, in batches · ``keyfinder`` which keys are in them · ``judging`` what becomes of
each, inside one transaction · ``vouching`` TPM counters · ``phone`` machines' callers, and ``phone_sites`` those of
hosts and forests.  All decide by ``rules``.  Imports ``administration`` and what is below it; the workers
(``application``, ``web``), the HTTP API and the desk stand above.
"""
