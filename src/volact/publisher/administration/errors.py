# SPDX-License-Identifier: Apache-2.0
"""What an administrator of a publisher can ask for that does not fit: keys, agreements, revocations.

    ConfigError
    ├── ReasonUnfitError, NoSuchGroupError
    ├── KeyNotRaisedError, KeySupersededError
    ├── AgreementGroupError
    └── HostMissingError, HostAmbiguousError
    InputError
    ├── LimitUnfitError, KeyCountError, AgreementDatesError
    └── NoCheckpointError, ThumbprintError

What the database has or lacks is in ``records``, what is wrong with the folder in ``folder``, with a product in
``rules.catalogue``.
"""

from volact.core.errors import ConfigError, InputError


class LimitUnfitError(InputError):
    code = "key-limit-unfit"
    fmt = "{what} of a key are a whole number from 1 to {most}, not {value}"
    remedy = "leave the option out to take the figure of the product's policy"


class ReasonUnfitError(ConfigError):
    code = "reason-unfit"
    fmt = "the reason is not a text of at most {most} printable characters"
    remedy = "shorten it to one line"


class KeyCountError(InputError):
    code = "key-count-unfit"
    fmt = "keys are issued 1 to {most} at a time, not {value}"
    remedy = "issue them in several batches"


class KeyNotRaisedError(ConfigError):
    code = "key-not-raised"
    fmt = "the key has {activations} activations and {hosts} hosts already"
    remedy = "give a larger figure; to use fewer, block the key or supersede it"


class KeySupersededError(ConfigError):
    code = "key-superseded"
    fmt = "the key ending in {partial} was superseded before"
    remedy = "`volact publisher key show` tells by which; supersede that one"


class NoSuchGroupError(ConfigError):
    code = "product-group-unknown"
    fmt = "no product of this publisher has a product group {group}"
    remedy = "`volact publisher product show PRODUCT` lists a product's groups"


class AgreementGroupError(ConfigError):
    code = "agreement-group"
    fmt = "agreement {agreement} has no quantity for product group {group}"
    remedy = "issue the key for a group of the agreement, or under another one"


class AgreementDatesError(InputError):
    code = "agreement-dates"
    fmt = "an agreement ends after it starts"
    remedy = "correct --start or --end"


class HostMissingError(ConfigError):
    code = "host-not-certified"
    fmt = "no host {host} has a certificate of this publisher"
    remedy = "give its name, or 8 or more digits of its machine ID; `volact publisher activations` lists them"


class HostAmbiguousError(ConfigError):
    code = "host-ambiguous"
    fmt = "{number} hosts are called {host}"
    remedy = "give the machine ID of the one that is meant; `volact publisher activations` lists them"


class NoCheckpointError(InputError):
    code = "receipt-without-checkpoint"
    fmt = "the licence holds no checkpoint of the ledger"
    remedy = "take a licence that the publisher itself issued; a KMS host's says nothing of the ledger"


class ThumbprintError(InputError):
    code = "thumbprint-unfit"
    fmt = "{thumbprint} is not a key's thumbprint, 64 hexadecimal digits"
    remedy = "take it from a revocation status, or compute it: SHA-256 of the key's SubjectPublicKeyInfo"
