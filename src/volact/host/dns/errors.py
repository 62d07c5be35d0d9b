# SPDX-License-Identifier: Apache-2.0
"""Why a record could not be published, each by its own name.  Spec: docs/spec/discovery.md §2."""

from volact.core.errors import ConfigError, TransportError


class DnsDomainError(ConfigError):
    code = "dns-domain-invalid"
    fmt = "DNS domain {text!r} is not valid: {why}"
    remedy = "write it as example.com or example.com,PRIORITY,WEIGHT"


class DnsDomainUnknownError(ConfigError):
    code = "dns-domain-unknown"
    fmt = "this host does not publish in {domain}"
    remedy = "`volact host status` shows the domains that it publishes in"


class DnsServerError(ConfigError):
    code = "dns-server-invalid"
    fmt = "{server!r} is not a DNS server: {why}"
    remedy = "give its address or its name, and its port where it is not 53: 192.0.2.53:5353, [2001:db8::53]:5353"


class DnsRangeError(ConfigError):
    code = "dns-setting-out-of-range"
    fmt = "{setting} {value!r} is not a whole number from {low} to {high}"
    remedy = "set {setting} to a number from {low} to {high}"


class DnsTargetError(ConfigError):
    code = "dns-target-invalid"
    fmt = "{target!r} cannot be the target of an SRV record: {why}"
    remedy = "give the host's fully qualified name, which has an A or AAAA record: --target kms1.example.com"


class DnsKeyFileError(ConfigError):
    code = "dns-key-file-invalid"
    fmt = "TSIG key file {path} cannot be used: {why}"
    remedy = "make one with 'tsig-keygen NAME > FILE' and add the same key to the name server"


class DnsServerUnreachableError(TransportError):
    code = "dns-server-unreachable"
    fmt = "DNS server {server} did not answer: {why}"
    remedy = "check the server's address and that 53/TCP is open from here, or set another server for {domain}"


class DnsZoneNotFoundError(TransportError):
    code = "dns-zone-not-found"
    fmt = "no DNS zone was found that holds {domain}: {why}"
    remedy = "create the zone, or set the DNS server that is its primary"


class DnsServerNotPrimaryError(TransportError):
    code = "dns-server-not-primary"
    fmt = "DNS server {server} is not the primary server of zone {zone}"
    remedy = "set the zone's primary server for {domain}"


class DnsUpdateRefusedError(TransportError):
    code = "dns-update-refused"
    fmt = "DNS server {server} refused to change zone {zone} {signed}"
    remedy = (
        "allow this host's key to update SRV records of _volact._tcp.{domain} (BIND: update-policy); in Active "
        "Directory sign as the computer's account: `volact host dns add {domain} --kerberos`"
    )


class DnsNameOwnedError(TransportError):
    code = "dns-name-not-ours"
    fmt = "DNS server {server} did not let {account} change _volact._tcp.{domain}"
    remedy = (
        "in Active Directory a name belongs to the account that published it first: let the other hosts' accounts "
        "share it with `volact directory share-dns ACCOUNT …`"
    )


class DnsUpdateBadKeyError(TransportError):
    code = "dns-update-bad-key"
    fmt = "DNS server {server} and this host do not agree on TSIG key {key!r}: {why}"
    remedy = "use the same key name, algorithm and secret on the server and in this host's key file"


class DnsKerberosError(TransportError):
    code = "dns-kerberos"
    fmt = "DNS server {server} and this host ({account}) did not agree on a Kerberos key: {why}"
    remedy = "check the keytab with `klist -k`, the server's name (not its address), and that both clocks agree"


class DnsUpdateClockError(TransportError):
    code = "dns-update-clock"
    fmt = "DNS server {server} and this host's clock differ by more than TSIG allows (5 minutes)"
    remedy = "set the clocks of both by NTP"


class DnsAliasError(TransportError):
    code = "dns-name-is-alias"
    fmt = "_volact._tcp.{domain} is an alias of {alias}, so no SRV record can stand there"
    remedy = "delete the CNAME record, or publish in the domain of {alias} instead"


class DnsUpdateFailedError(TransportError):
    code = "dns-update-failed"
    fmt = "DNS server {server} could not do what was asked for {domain}: {why}"
    remedy = "read the name server's log; it says why it answered so"
