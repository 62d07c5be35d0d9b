# SPDX-License-Identifier: Apache-2.0
"""The demo's product, as a publisher would write it.  ``examples/acme-cad.toml`` explains each line."""

PRODUCT, EDITION = "acme-cad", "professional"
GROUP, CLIENT_GROUP = "acme-servers", 101  # the host key's, and the one below it that the machines are counted in

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
