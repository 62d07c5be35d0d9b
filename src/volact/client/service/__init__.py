# SPDX-License-Identifier: Apache-2.0
"""The licensing service: what wakes it, its rounds, what it tells people and monitoring, and its local API."""
