# SPDX-License-Identifier: Apache-2.0
"""A KMS host's folder; what is in it, and how it is read and written, is the same for a VM host (``issuer.folder``)."""

from volact.issuer.folder import HostKey, IssuerFolder
from volact.issuer.kind import KMS_HOST

__all__ = ["HostFolder", "HostKey"]


class HostFolder(IssuerFolder):
    """Host keys here make this computer a KMS host."""

    kind = KMS_HOST
