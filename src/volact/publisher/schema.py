# SPDX-License-Identifier: Apache-2.0
"""The publisher's tables, for Core statements.  What creates them is ``migrations/``; a test compares the two.

Times are Unix seconds, JSON is text, machine IDs and nonces are bytes.  Spec of the ledger: docs/spec/ledger.md.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from volact.web.api.idempotency import idempotency_table
from volact.web.api.limits import limit_table
from volact.web.api.tokens import token_table

METADATA = MetaData()

Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite's integers are long already

# Every version of every product's definition, as signed.
DEFINITION = Table(
    "definition",
    METADATA,
    Column("product", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("issued_at", Long, nullable=False),
    Column("token", Text, nullable=False),
    sqlite_strict=True,
)

# Generic keys outlive versions: machines have them installed.  They are public.
GENERIC_KEY = Table(
    "generic_key",
    METADATA,
    Column("product", Text, primary_key=True),
    Column("edition", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("product_key", Text, nullable=False),
    sqlite_strict=True,
)

ORGANISATION = Table(
    "organisation",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("added_at", Long, nullable=False),
    Column("blocked_at", Long),
    sqlite_strict=True,
)

# What an organisation has agreed on with the publisher: from when to when, and how many licences of which groups.
AGREEMENT = Table(
    "agreement",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("organisation", Text, ForeignKey("organisation.name"), nullable=False),
    Column("starts_at", Long, nullable=False),
    Column("ends_at", Long),
    Column("added_at", Long, nullable=False),
    sqlite_strict=True,
)
AGREEMENT_QUANTITY = Table(
    "agreement_quantity",
    METADATA,
    Column("agreement", Text, ForeignKey("agreement.name"), primary_key=True),
    Column("product_group", Integer, primary_key=True, autoincrement=False),
    Column("quantity", Integer, nullable=False),
    sqlite_strict=True,
)

# A key's slow hash and its last five symbols, never the key: a copy of this file activates nothing.  ``lookup`` is an
# HMAC of the key under a secret of the folder, by which the service finds it quickly (docs/spec/product-key.md).
# ``used``: activations of a MAK or retail key that are in use.
PRODUCT_KEY = Table(
    "product_key",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("partial", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("product_group", Integer, nullable=False),
    Column("organisation", Text, ForeignKey("organisation.name"), nullable=False),
    Column("hosts", Integer, nullable=False),
    Column("activations", Integer, nullable=False),
    Column("issued_at", Long, nullable=False),
    Column("blocked_at", Long),
    Column("blocked_reason", Text, nullable=False),
    Column("agreement", Text, ForeignKey("agreement.name")),
    Column("used", Integer, nullable=False, server_default="0"),
    Column("lookup", LargeBinary),
    Column("superseded_by", Text),
    Index("product_key_by_partial", "partial"),
    Index("product_key_by_lookup", "lookup"),
    sqlite_strict=True,
)

# One row for each certificate that was made for a host.
HOST_ACTIVATION = Table(
    "host_activation",
    METADATA,
    Column("id", Long, primary_key=True, autoincrement=True),
    Column("key_id", Text, ForeignKey("product_key.key_id"), nullable=False),
    Column("machine_id", LargeBinary, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("kind", Text, nullable=False),
    Column("at", Long, nullable=False),
    Column("name", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("serial", Text, nullable=False),
    Column("ends_at", Long, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    UniqueConstraint("key_id", "machine_id", "nonce"),
    UniqueConstraint("serial"),
    sqlite_strict=True,
)

# One row for each activation object.  ``identity``: what makes two forests one; ``claim``: the object's claims.
FOREST_ACTIVATION = Table(
    "forest_activation",
    METADATA,
    Column("id", Long, primary_key=True, autoincrement=True),
    Column("key_id", Text, ForeignKey("product_key.key_id"), nullable=False),
    Column("identity", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("machine_id", LargeBinary, nullable=False),
    Column("at", Long, nullable=False),
    Column("ends_at", Long, nullable=False),
    Column("claim", Text, nullable=False),
    UniqueConstraint("key_id", "object_id"),
    sqlite_strict=True,
)

# One row for each activation that a machine took from a key's pool.  ``used``: what it took; ``credited``: whether its
# return gave that back; ``counter``: of the TPM that all its licences are bound to; ``proof_at``: when its machine gave
# it back, by its own clock.  A machine that was reinstalled keeps its row under its new ID.
ACTIVATION = Table(
    "activation",
    METADATA,
    Column("id", Long, primary_key=True, autoincrement=False),
    Column("key_id", Text, ForeignKey("product_key.key_id"), nullable=False),
    Column("machine_id", LargeBinary, nullable=False),
    Column("product", Text, nullable=False),
    Column("edition", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("first_at", Long, nullable=False),
    Column("last_at", Long, nullable=False),
    Column("times", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("returned_at", Long),
    Column("credited", Integer),
    Column("counter", LargeBinary),
    Column("proof_at", Long),
    Index("activation_by_machine", "key_id", "machine_id"),
    Index(
        "activation_returned",
        "key_id",
        "returned_at",
        sqlite_where=text("returned_at IS NOT NULL"),
        postgresql_where=text("returned_at IS NOT NULL"),
    ),
    sqlite_strict=True,
)
# By each trait of its hardware, the activation of a key that showed it last: how a reinstalled machine is recognised.
ACTIVATION_TRAIT = Table(
    "activation_trait",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("trait", LargeBinary, primary_key=True),
    Column("activation_id", Long, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
# Every request that was granted, so that one that comes again is neither counted nor granted again.
ACTIVATION_REQUEST = Table(
    "activation_request",
    METADATA,
    Column("nonce", LargeBinary, primary_key=True),
    Column("machine_id", LargeBinary, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("activation_id", Long, nullable=False),
    Column("at", Long, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# The revocation status is signed from these two whenever it is needed; the epoch only grows.
REVOCATION_EPOCH = Table(
    "revocation_epoch",
    METADATA,
    Column("epoch", Integer, primary_key=True),
    Column("at", Long, nullable=False),
    sqlite_strict=True,
)
REVOCATION = Table(
    "revocation",
    METADATA,
    Column("signer", Text, primary_key=True),
    Column("revoked_at", Long, nullable=False),
    sqlite_strict=True,
)

LEDGER = Table(
    "ledger",
    METADATA,
    Column("seq", Long, primary_key=True, autoincrement=False),
    Column("at", Long, nullable=False),
    Column("act", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("key_id", Text),
    Column("data", Text, nullable=False),
    Column("previous", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Index("ledger_by_act", "act", "key_id", "at"),
    sqlite_strict=True,
)

# Tokens of the HTTP API, the answers that may be given again, and the limits that its processes share; what is in them:
# volact.web.api.tokens, .idempotency, .limits.
API_TOKEN = token_table(METADATA)
API_ANSWER = idempotency_table(METADATA)
API_LIMIT = limit_table(METADATA)
