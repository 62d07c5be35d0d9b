# SPDX-License-Identifier: Apache-2.0
"""The folder of one installation: its files, what stands in them, and the machine's own key."""
