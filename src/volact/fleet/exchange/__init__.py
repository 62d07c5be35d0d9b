# SPDX-License-Identifier: Apache-2.0
"""Bundles: what is carried between fleets that no network joins, and to where the publisher can be reached.

``bundle`` is the file, ``transfer`` makes and takes in one.  Spec: docs/spec/bundle.md.
"""
