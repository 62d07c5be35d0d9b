# SPDX-License-Identifier: Apache-2.0
"""What every page is made of and stands behind: its gate and its visit, forms, tables, charts, templates, help."""
