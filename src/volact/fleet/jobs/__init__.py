# SPDX-License-Identifier: Apache-2.0
"""Bulk acts that survive: a job is a row, each of its machines a task, and both are written down before and after.

``records`` says what there is, ``store`` changes it, ``acts`` is what an act has to keep to, ``engine`` works.
Design: docs/adr/0027.
"""
