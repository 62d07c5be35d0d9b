# SPDX-License-Identifier: Apache-2.0
"""Why something could not be done with a directory, each by its own name."""

from volact.core.errors import ConfigError, InputError, StoreError, TransportError, TrustError


class DirectoryUnreachableError(TransportError):
    code = "directory-unreachable"
    fmt = "no directory server answered for {domain}: {why}"
    remedy = "check the network, the DNS records _ldap._tcp.dc._msdcs.DOMAIN, and ports 389 and 636; or name --server"


class ServerNameError(InputError):
    code = "directory-server-malformed"
    fmt = "{text!r} is not a directory server"
    remedy = "write NAME or NAME:PORT; several with commas between them, in the order in which to try them"


class DirectoryLoginError(TransportError):
    code = "directory-login-refused"
    fmt = "directory server {server} did not accept {who}: {why}"
    remedy = "get a ticket with `kinit`, or give --user and its password; the clocks may differ by 5 minutes at most"


class DirectoryClockError(TrustError):
    """Not one of the network: where no KMS host answers either, it is the cause to tell of."""

    code = "directory-clock"
    fmt = "the clocks of this computer and of directory server {server} differ by more than Kerberos allows (5 minutes)"
    remedy = "set this computer's clock, by NTP from the domain: `chronyc tracking`, `timedatectl`"


class DirectoryTlsError(TransportError):
    code = "directory-tls"
    fmt = "the TLS certificate of directory server {server} was not accepted: {why}"
    remedy = "give the authority that signed it with --ca-file, and the server's name as it is in the certificate"


class DirectoryAccessError(StoreError):
    code = "directory-access-denied"
    fmt = "{who} may not {what} in the directory"
    remedy = "do it as an enterprise administrator (LDAP: as somebody whom the server's access rules let write there)"


class ReadOnlyDirectoryError(ConfigError):
    code = "directory-read-only"
    fmt = "{server} is a read-only copy of the directory and cannot {what}"
    remedy = "do it on a writable server: name it with --server, or leave --server out, since DNS names writable ones"


class DirectoryFailedError(StoreError):
    code = "directory-request-failed"
    fmt = "directory server {server} could not {what}: {why}"
    remedy = "read the directory server's log; it says why it answered so"


class NotMemberError(ConfigError):
    code = "not-a-member"
    fmt = "this computer is not a member of a domain: {why}"
    remedy = "join it (`adcli join`, `realm join`, `net ads join`), or activate through a KMS host"


class MembershipDoubtError(TransportError):
    code = "membership-unproven"
    fmt = "the domain did not accept this computer's account {account}: {why}"
    remedy = "see whether the account still exists and is enabled; join the domain again if it is gone"


class NotForestError(ConfigError):
    code = "forest-unknown"
    fmt = "{server} does not say which forest it is: {why}"
    remedy = "name a domain controller, or for a plain LDAP directory its --base and its authority (--ca-file)"


class NotPreparedError(ConfigError):
    code = "directory-not-prepared"
    fmt = "the directory has no place for activation objects yet ({dn})"
    remedy = "run `volact directory prepare` first; in Active Directory, wait for replication if it was run elsewhere"


class SchemaOldError(ConfigError):
    code = "schema-too-old"
    fmt = "the forest's schema has version {version}, activation objects need {least} ({product}) or newer"
    remedy = "update the forest's schema, or use standard classes: `volact directory prepare --no-schema`"


class NotSchemaAdminError(ConfigError):
    code = "not-schema-admin"
    fmt = "{who} is not a member of Schema Admins, which this step needs"
    remedy = "run the command as a member of that group; `volact directory prepare --no-schema` leaves the schema alone"


class NotEnterpriseAdminError(ConfigError):
    code = "not-enterprise-admin"
    fmt = "{who} is not a member of Enterprise Admins, which making the place for activation objects needs"
    remedy = "run the command as an enterprise administrator of the forest's root domain"


class NotSchemaMasterError(ConfigError):
    code = "not-schema-master"
    fmt = "{server} is not the schema master of the forest; that is {master}"
    remedy = "run `volact directory prepare --server {master}`"


class SchemaRefusedError(ConfigError):
    code = "schema-update-refused"
    fmt = "{server} does not let its schema be changed: {why}"
    remedy = (
        "allow schema updates on the server (Samba: dsdb:schema update allowed; OpenLDAP: load the file that "
        "`volact directory schema` prints), or use standard classes: --no-schema"
    )


class NoObjectError(StoreError):
    code = "no-activation-object"
    fmt = "{server} shows this computer no activation object of the publisher {root}"
    remedy = (
        "`volact directory list` and `volact directory acl` show which there are and who may read them; "
        "one that was just made appears after replication"
    )


class ObjectMissingError(InputError):
    code = "object-missing"
    fmt = "there is no activation object {which!r} in this directory"
    remedy = "`volact directory list` shows all; an object made on another controller appears after replication"


class DnsNameMissingError(InputError):
    code = "dns-name-missing"
    fmt = "no KMS host has published itself in zone {zone} of this domain's DNS yet"
    remedy = "publish from the first host (`volact host dns publish`), or name the zone that it did so in with --zone"


class ObjectAmbiguousError(InputError):
    code = "object-ambiguous"
    fmt = "{number} activation objects are called {which!r}"
    remedy = "name one by its ID: `volact directory list`"


class TrusteeError(InputError):
    code = "trustee-unknown"
    fmt = "the directory knows {number} accounts or groups called {name!r}"
    remedy = "write one account or group as it is in the directory (a computer's with its $), or its SID"


class TrusteeDomainError(InputError):
    code = "trustee-other-domain"
    fmt = "{name!r} is of another domain than {server}, which serves {domain}"
    remedy = "write its SID, or run the command at a controller of its domain: --domain"


class AclLocksOutError(InputError):
    code = "acl-locks-out"
    fmt = "denying {name!r} would keep {who} from seeing the object, and from taking the denial back"
    remedy = "deny a group that no administrator is in, or let only the right ones in: `volact directory acl --only`"


class AclUnsupportedError(ConfigError):
    code = "acl-not-in-ldap"
    fmt = "this directory keeps no permissions with its entries"
    remedy = "write them into the server's access rules; in OpenLDAP: {rule}"


class CaFileError(InputError):
    code = "ca-file-unusable"
    fmt = "cannot use {path} as a certificate authority: {why}"
    remedy = "give a PEM file with the one certificate of the authority that signs the directory's certificates"


class KeytabError(ConfigError):
    code = "keytab-unusable"
    fmt = "cannot use the keytab {path}: {why}"
    remedy = "join the domain again, or name the computer's keytab; it is read as root"
