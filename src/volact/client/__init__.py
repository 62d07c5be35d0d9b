# SPDX-License-Identifier: Apache-2.0
"""Client: the licensing service of one computer: discovery, requests, local store, ``volact.check()`` for products."""
