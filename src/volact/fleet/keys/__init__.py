# SPDX-License-Identifier: Apache-2.0
"""What the organisation has: its product keys in their vault, definitions of products, agreements.

Two ask the publisher: ``publisher`` by the contract, for keys and requests; ``office`` for agreements, by its HTTP API.
Not here: any machine.
"""
