# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between the fleet tool and one machine, by name.

``contacted`` says whether the machine was there at all: an answer that displeases is a sign of life, silence is none.
"""

from typing import ClassVar

from volact.core.errors import ConfigError, TransportError, VolactError


class MachineError(TransportError):
    """One machine's; the others of a job go on."""

    contacted: ClassVar[bool] = False


class MachineUnreachableError(MachineError):
    code = "machine-unreachable"
    fmt = "{machine} cannot be reached: {why}"
    remedy = "check that it is on, that its name resolves, and that {address} takes SSH connections from here"


class MachineTimedOutError(MachineError):
    code = "machine-timed-out"
    fmt = "{machine} did not finish within {seconds} seconds"
    remedy = "try it again with `volact fleet jobs retry`, or with a longer --timeout"


class ConnectionLostError(MachineError):
    code = "machine-connection-lost"
    fmt = "the connection to {machine} was lost: {why}"
    remedy = "try it again with `volact fleet jobs retry`; what had been done there is recognised"
    contacted = True


class HostKeyUnknownError(MachineError):
    code = "host-key-unknown"
    fmt = "the SSH host key of {machine} ({fingerprint}) is not known here"
    remedy = (
        "compare the fingerprint on the machine with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` and add the key"
        " to known_hosts, or accept keys at the first contact with --accept-new-host-keys"
    )
    contacted = True


class HostKeyChangedError(MachineError):
    code = "host-key-changed"
    fmt = "the SSH host key of {machine} ({fingerprint}) is another than the one known here"
    remedy = (
        "find out why before anything else: somebody may stand between; if the machine was installed anew, remove the"
        " old key with `ssh-keygen -R` from known_hosts and from the fleet folder's known_hosts"
    )
    contacted = True


class SshLoginRefusedError(MachineError):
    code = "ssh-login-refused"
    fmt = "{machine} does not let {account} in: {why}"
    remedy = "check the account, and that one of your keys (agent, --identity) is in its authorized_keys"
    contacted = True


class SshProtocolError(MachineError):
    code = "ssh-failed"
    fmt = "SSH with {machine} failed: {why}"
    remedy = "try `ssh -v` to it from here, which says more"
    contacted = True


class SudoRefusedError(MachineError):
    code = "sudo-refused"
    fmt = "{account} may not run volact as root on {machine}: {why}"
    remedy = (
        "let the account run it without a password, in /etc/sudoers.d/volact: "
        "`{account} ALL=(root) NOPASSWD: {command}`; or log in as root"
    )
    contacted = True


class VolactMissingError(MachineError):
    code = "volact-missing"
    fmt = "there is no volact on {machine}"
    remedy = "install it: `volact fleet bootstrap --artefact FILE {machine}`, or say where it is with --command"
    contacted = True


class RemoteUnreadableError(MachineError):
    code = "remote-answer-unreadable"
    fmt = "{machine} answered with something else than volact's JSON: {line}"
    remedy = "run the command there by hand; what a login script prints gets in the way too"
    contacted = True


class RemoteTooLongError(MachineError):
    code = "remote-answer-too-long"
    fmt = "the answer of {machine} is longer than {most} bytes"
    remedy = "run the command there by hand and see what it prints"
    contacted = True


class RemoteRefusedError(MachineError):
    """The named error of the machine's own volact, handed on: ``remote`` is its code there."""

    code = "machine-refused"
    fmt = "{machine}: {message}"
    remedy = "{advice}"
    contacted = True


class RemoteOutdatedError(MachineError):
    code = "remote-volact-outdated"
    fmt = "the volact of {machine} is too old for this: {line}"
    remedy = "bring it the present version: `volact fleet bootstrap --upgrade --artefact FILE {machine}`"
    contacted = True


class SshSettingsError(ConfigError):
    """Before any machine is asked."""

    code = "ssh-settings-unusable"
    fmt = "cannot use {path} for SSH: {why}"
    remedy = "correct the file, or name another with `volact fleet set`"


def code_of(error: VolactError) -> str:
    """What a row shows: the code of the machine's own error where there is one."""
    remote = error.fields.get("remote")
    return str(remote) if isinstance(error, RemoteRefusedError) and remote else error.code
