# SPDX-License-Identifier: Apache-2.0
"""What can be named as the cause that a product is not licensed: reasons, shown by the doctor and never raised.

How each is found is ``doctor``'s.  Guide: docs/guide/doctor.md.
"""

from volact.core.evaluation import Reason


class FolderFromOtherMachine(Reason):
    code = "cause-clone"
    fmt = "this machine was made from an image that was not generalised: others share its machine ID, and count as one"
    remedy = "run `volact client generalize`, then `volact client activate`, on each machine made from that image"


class KeyForGuests(Reason):
    code = "cause-key-channel"
    fmt = "the installed {channel} key of {product} does not fit this machine: {why}"
    remedy = "install the key that fits: `volact client install-key {product} {option}`"


class ClockWrong(Reason):
    code = "cause-clock"
    fmt = "this machine's clock is {difference} seconds {direction} that of {host}; {tolerance} are allowed"
    remedy = "set this machine's clock (or the host's, if that is wrong); time zones do not matter, UTC is compared"


class NoHostPublished(Reason):
    code = "cause-no-srv"
    fmt = "no KMS host is published: {why}"
    remedy = (
        "publish _volact._tcp in this machine's DNS suffix (`volact host dns`), or run `volact client set-host NAME`"
    )


class NameServersSilent(Reason):
    code = "cause-dns"
    fmt = "no name server answers this machine: {why}"
    remedy = "mend this machine's DNS settings or its network; or name the host: `volact client set-host NAME`"


class RecordStale(Reason):
    code = "cause-srv-stale"
    fmt = "DNS names the KMS host {host}, which does not exist any more: {why}"
    remedy = "remove the old record, or publish the present host: `volact host dns publish` on it"


class HostNameUnknown(Reason):
    code = "cause-host-name"
    fmt = "the KMS host {host} that is set on this machine does not exist: {why}"
    remedy = "set the right one: `volact client set-host NAME[:PORT]`, or `volact client clear-host`"


class PortClosed(Reason):
    code = "cause-port-closed"
    fmt = "{host} is there, but nothing listens on its port: {why}"
    remedy = "start the KMS host there (`volact host serve`), or correct the port that is published or set"


class HostSilent(Reason):
    code = "cause-host-silent"
    fmt = "{host} does not answer: {why}"
    remedy = "see whether the host is up, and whether a firewall between here and there lets 1688/TCP through"


class OtherServer(Reason):
    code = "cause-other-server"
    fmt = "something else than a Volact host answers at {host}: {why}"
    remedy = "correct the host's name or port; the DNS record may be of a host that is gone"


class HostInactive(Reason):
    code = "cause-host-not-activated"
    fmt = "the KMS host {host} is not activated for {product}: {why}"
    remedy = "on the host, install a key of this product's publisher and run `volact host activate`"


class HostRogue(Reason):
    code = "cause-host-rogue"
    fmt = "what answers at {host} is not certified by the publisher of {product}: {why}"
    remedy = "find out who runs that host: it is another publisher's, or an impostor's"


class HostRevoked(Reason):
    code = "cause-revoked"
    fmt = "the publisher has revoked {host}"
    remedy = "use another KMS host, or install and activate a new host key on it"


class HostDoubtful(Reason):
    code = "cause-host-certificate"
    fmt = "the answer of {host} cannot be believed: {why}"
    remedy = "{help}"


class GroupMissing(Reason):
    code = "cause-group"
    fmt = "the KMS host {host} may not license product group {group} of {product}; it may for: {groups}"
    remedy = "on the host, install and activate a host key of that group, or of one above it"


class CountLow(Reason):
    code = "cause-count"
    fmt = "the KMS host has counted {count} machines, the policy of {product} asks for {threshold}"
    remedy = (
        "activate {missing} more machines against it; if enough have asked, some are clones: "
        "`volact host events` names them"
    )


class NotAskedYet(Reason):
    code = "cause-not-asked"
    fmt = "nothing stands in the way: {product} has not been activated {since}"
    remedy = "run `volact client activate {product}`, or start the licensing service"


class LastAnswer(Reason):
    code = "cause-refused"
    fmt = "the issuer's last word was {answer}: {message}"
    remedy = "docs/reference/errors.md says what to do about {answer}"
