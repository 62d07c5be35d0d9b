# SPDX-License-Identifier: Apache-2.0
"""What runs by itself: when (``cron``, ``schedule``), what (``kinds``), and whose loop (``automation``, ``runners``).

Reports go out by ``mail``.
"""
