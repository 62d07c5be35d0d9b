# SPDX-License-Identifier: Apache-2.0
"""Reports of the fleet: what they say (one function a report) and how they look (one file a format)."""
