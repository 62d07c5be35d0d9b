# SPDX-License-Identifier: Apache-2.0
"""Machines that are made from others: images, their answer file, rearming, backup and restore."""
