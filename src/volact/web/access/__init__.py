# SPDX-License-Identifier: Apache-2.0
"""Who comes in: accounts, their roles and sessions, passwords and authenticators, and the audit of it all."""
