# SPDX-License-Identifier: Apache-2.0
"""The products on this machine: added, given a key, and loaded with every stored answer, verified at each load."""
