# SPDX-License-Identifier: Apache-2.0
"""Volume activation for any software.

A product embeds one call, ``volact.check("acme-cad", root="sha256:…", min_version=3)``; everything else here is
imported only when used, so that importing :mod:`volact` costs a product next to nothing.
"""

__version__ = "0.1.0"
