# SPDX-License-Identifier: Apache-2.0
"""The API's vocabulary, a module for each resource: what requests hold, what answers show, and how answers are made of
rows.  Names are those of the command line's ``--json``.
"""
