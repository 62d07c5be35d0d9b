# SPDX-License-Identifier: Apache-2.0
"""What a browser is told when something is wrong, and the one table of HTTP statuses for pages.  An HTTP API answers
with some of these too; its own are in ``api.problems``.

VolactError
├── InternalError what nobody foresaw
├── InputError    a form, a password, a code, an address that does not fit
├── ConfigError   an account or a setting that does not fit
└── AccessError   who asks may not: not logged in, wrong role, forged form, too many attempts
"""

from volact.core.errors import ConfigError, InputError, StoreError, TransportError, VolactError


class InternalError(VolactError):
    """What nobody foresaw.  The cause is in the service's log and nowhere else."""

    code = "service-fault"
    fmt = "the service made a mistake"
    remedy = "try again; if it stays, whoever runs the service finds the cause in its log"


class AccessError(VolactError):
    """Whoever asks may not."""


class LoginFailedError(AccessError):
    code = "login-failed"
    fmt = "name or password is wrong"  # one sentence for all causes: it tells nobody which names exist
    remedy = "type both again; an administrator can set a new password, or enable an account that was disabled"


class LoginDelayedError(AccessError):
    code = "login-delayed"
    fmt = "there were too many wrong attempts; the next one is taken in {seconds} seconds"
    remedy = "wait, and try again; no account is locked for good"


class LoginCodeError(AccessError):
    code = "login-code-wrong"
    fmt = "the code is wrong or was used before"
    remedy = "wait for the next code of your authenticator; if it is lost, use a recovery code"


class LoginLinkError(AccessError):
    code = "login-link-ended"
    fmt = "this login link was used or has ended"
    remedy = "ask for a new one; each is good for one login"


class LoginRefusedError(AccessError):
    code = "login-no-role"
    fmt = "{account} is in no group that has a role here"
    remedy = "ask the administrator of this site to map one of your groups to a role"


class FormForgedError(AccessError):
    code = "form-forged"
    fmt = "the form was not sent from a page of this site and this session"
    remedy = "open the page again and send the form from there"


class RoleMissingError(AccessError):
    code = "role-missing"
    fmt = "{account} has the role {role}, which may not do this"
    remedy = "ask an administrator of this site for a role that may"


class PageMissingError(InputError):
    code = "page-missing"
    fmt = "there is no such page"
    remedy = "go to the start page; the menu leads to all there is"


class MethodNotAllowedError(InputError):
    code = "method-not-allowed"
    fmt = "this page does not take {method}"
    remedy = "open it from the menu"


class HostHeaderError(InputError):
    code = "site-name-unknown"
    fmt = "this server does not answer under the name {name}"
    remedy = "use the address it was started with, or name this one when it is started"


class FormMalformedError(InputError):
    code = "form-malformed"
    fmt = "the form that was sent is malformed"
    remedy = "open the page again and send the form from there"


class RequestTooLargeError(InputError):
    code = "request-too-large"
    fmt = "the body is larger than {most} bytes"
    remedy = "send less at once"


class PasswordUnfitError(InputError):
    code = "password-unfit"
    fmt = "a password has {least} to {most} characters, is not a common one and does not hold the account's name"
    remedy = "take a sentence, or let a password manager make one"


class AccountNameError(InputError):
    code = "account-name-unfit"
    fmt = "{name} is not an account's name: 1 to 64 letters a to z, digits and . _ - @"
    remedy = "choose another name"


class AccountTakenError(ConfigError):
    code = "account-taken"
    fmt = "there is an account {name} already"
    remedy = "choose another name, or change that account"


class AccountMissingError(ConfigError):
    code = "account-missing"
    fmt = "there is no account {name}"
    remedy = "look into the list of accounts"


class AccountForeignError(ConfigError):
    code = "account-elsewhere"
    fmt = "the account {name} is kept by {source}, not here"
    remedy = "change it there"


class RoleUnknownError(InputError):
    code = "role-unknown"
    fmt = "there is no role {role}"
    remedy = "take one of {roles}"


class LastAdministratorError(ConfigError):
    code = "account-last-administrator"
    fmt = "{name} is the last account that may administer this site"
    remedy = "make another administrator first"


class PlainListenerError(ConfigError):
    code = "web-needs-tls"
    fmt = "passwords would cross the network in clear text to {address}"
    remedy = "give it a certificate and its key, or listen on 127.0.0.1 behind a proxy that is named to it"


class SecretFileError(ConfigError):
    code = "web-secret-damaged"
    fmt = "the file {path} does not hold the secret of this site's accounts"
    remedy = "restore it from your backup; without it, delete it and let everybody enrol their authenticator again"


STATUS: tuple[tuple[type[VolactError], int], ...] = (
    (LoginDelayedError, 429),
    (LoginFailedError, 401),
    (LoginCodeError, 401),
    (LoginLinkError, 403),
    (AccessError, 403),
    (PageMissingError, 404),
    (MethodNotAllowedError, 405),
    (HostHeaderError, 421),
    (RequestTooLargeError, 413),
    (InternalError, 500),
    (StoreError, 503),
    (TransportError, 502),
    (VolactError, 422),
)


def status_of(error: VolactError) -> int:
    """The HTTP status of a page that shows the error: the first line of the table that fits."""
    return next(status for kind, status in STATUS if isinstance(error, kind))
