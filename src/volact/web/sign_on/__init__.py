# SPDX-License-Identifier: Apache-2.0
"""Logins that others vouch for: an LDAP directory, an OpenID Connect provider."""
