# SPDX-License-Identifier: Apache-2.0
"""What every web page and HTTP API of Volact stands on.  Imports ``core`` and ``sql``."""
