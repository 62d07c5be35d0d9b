# SPDX-License-Identifier: Apache-2.0
"""Discovery: whom a machine asks for a licence, and in what order.  Nothing is asked here."""
