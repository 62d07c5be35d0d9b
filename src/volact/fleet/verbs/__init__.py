# SPDX-License-Identifier: Apache-2.0
"""The methods of :class:`volact.fleet.api.Fleet`, a module for each family of verbs.

Programs import ``volact.fleet.api``; these are parts of one class, and stand on ``base``.
"""
