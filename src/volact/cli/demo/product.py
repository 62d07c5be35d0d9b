# SPDX-License-Identifier: Apache-2.0
"""The demo's product, as a publisher would write it.  ``examples/acme-cad.toml`` explains each line."""

PRODUCT, EDITION, GROUP = "acme-cad", "professional", "acme-servers"

ACME_CAD = """\
product = "acme-cad"
name = "Acme CAD"
version = 1

[groups.acme-clients]
number = 101
parent = 102

[groups.acme-servers]
number = 102

[editions.professional]
name = "Acme CAD Professional"
group = "acme-clients"
kind = "client"

[editions.render-server]
name = "Acme CAD Render Server"
group = "acme-servers"
kind = "server"
"""
