# SPDX-License-Identifier: Apache-2.0
"""The pages that every site has: the steps of a login, one's own account, its administration, help."""
