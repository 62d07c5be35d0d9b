# SPDX-License-Identifier: Apache-2.0
"""The doctor: why a product is not licensed, found by walking the way to its licence.  Changes nothing."""
