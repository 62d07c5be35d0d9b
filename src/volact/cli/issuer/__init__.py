# SPDX-License-Identifier: Apache-2.0
"""The verbs that ``volact host`` and ``volact vm`` share: making the folder, products, host keys, activation."""
