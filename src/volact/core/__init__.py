# SPDX-License-Identifier: Apache-2.0
"""Vocabulary and rules: product keys, policy, machines, the count, licence states, refusals.

Pure: no I/O, no clock, no randomness; callers pass time (Unix seconds, UTC), random bytes and rows as arguments.
Everything imports ``core``; ``core`` imports nothing but the standard library.
"""
