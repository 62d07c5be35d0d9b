# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a source of machines."""

from volact.core.errors import InputError, TransportError


class SourceUnreadableError(InputError):
    code = "discovery-source-unreadable"
    fmt = "cannot read {source}: {why}"
    remedy = "check the path and its permissions"


class SourceUnfitError(InputError):
    code = "discovery-source-unfit"
    fmt = "{source} cannot be understood{where}: {why}"
    remedy = "correct it there; nothing was added"


class RangeTooLargeError(InputError):
    code = "discovery-range-too-large"
    fmt = "{text} stands for more than {most} machines"
    remedy = "give smaller ranges, or the directory that knows which of them are there"


class DirectoryFailedError(TransportError):
    code = "discovery-directory-failed"
    fmt = "the directory at {server} gave no list of computers: {why}"
    remedy = "check server, base, filter and account; `ldapsearch` with the same says more"


class MdnsFailedError(TransportError):
    code = "discovery-mdns-failed"
    fmt = "cannot listen for mDNS: {why}"
    remedy = "check that a network interface is up and takes multicast on port 5353/UDP"
