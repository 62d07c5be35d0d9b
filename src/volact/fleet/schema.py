# SPDX-License-Identifier: Apache-2.0
"""The fleet tool's tables, for Core statements.  What creates them is ``migrations/``; a test compares the two.

Times are Unix seconds, JSON is text, machine IDs and fingerprints are bytes.  No product key is in any table in the
clear: ``keys.sealed`` is the vault's.  Indexes follow what 100,000 machines are listed, filtered and sorted by
(benchmarks/fleet_inventory.py).
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
)

from volact.web.api.idempotency import idempotency_table
from volact.web.api.tokens import token_table

METADATA = MetaData()

Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite's integers are long already

# One row a computer, named by its lower-case name.  ``account``: whom SSH logs in as, where not the folder's default.
# ``reach_state``: new, reached, failed.  ``last_*``: of the last act on it; ``last_result`` is "ok" or an error's code.
MACHINES = Table(
    "machines",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("address", Text),
    Column("port", Integer),
    Column("account", Text),
    Column("source", Text, nullable=False),
    Column("os", Text),
    Column("volact_version", Text),
    Column("machine_id", LargeBinary),
    Column("reach_state", Text, nullable=False),
    Column("added_at", Long, nullable=False),
    Column("refreshed_at", Long),
    Column("contacted_at", Long),
    Column("last_action", Text),
    Column("last_result", Text),
    Column("last_error", Text),
    Column("last_action_at", Long),
    Index("machines_contacted_at", "contacted_at"),
    Index("machines_last_result", "last_result"),
    Index("machines_machine_id", "machine_id"),
    sqlite_strict=True,
)

# Tags group machines; each is one word, lower case.
TAGS = Table(
    "tags",
    METADATA,
    Column("machine_id", Integer, ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", Text, primary_key=True),
    Index("tags_tag", "tag"),
    sqlite_strict=True,
)

# One row a product of a machine, as its last refresh saw it.  ``state`` is one of the seven, or "error" where the
# client could not load the product: then ``reason`` is the error's code.  ``expires_at``: when a licence ends;
# ``grace_ends_at``: when a grace period does.  ``reason``, ``cause``: of the state, and of the last attempt.
PRODUCTS = Table(
    "products",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("machine_id", Integer, ForeignKey("machines.id", ondelete="CASCADE"), nullable=False),
    Column("root", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("publisher", Text),
    Column("edition", Text),
    Column("version", Integer),
    Column("product_group", Integer),
    Column("channel", Text),
    Column("partial_key", Text),
    Column("state", Text, nullable=False),
    Column("licensed", Integer, nullable=False),
    Column("enforcement", Text),
    Column("reason", Text),
    Column("reason_text", Text),
    Column("cause", Text),
    Column("cause_text", Text),
    Column("expires_at", Long),
    Column("grace_ends_at", Long),
    Column("last_attempt_at", Long),
    Column("last_host", Text),
    Column("host_source", Text),
    Column("count", Integer),
    Column("threshold", Integer),
    Column("organisation", Text),
    Column("fingerprint", LargeBinary),
    Column("first_seen_at", Long, nullable=False),
    Column("activated_at", Long),
    Column("refreshed_at", Long, nullable=False),
    UniqueConstraint("machine_id", "root", "product"),
    Index("products_product_state", "product", "state"),
    Index("products_state", "state"),
    Index("products_channel", "channel"),
    Index("products_expires_at", "expires_at"),
    Index("products_fingerprint", "fingerprint"),
    sqlite_strict=True,
)

# What a product of a machine was, from then on: one row at each change only.  ``state`` "removed": it is gone.
HISTORY = Table(
    "history",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("machine_id", Integer, ForeignKey("machines.id", ondelete="CASCADE"), nullable=False),
    Column("root", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("at", Long, nullable=False),
    Column("edition", Text),
    Column("channel", Text),
    Column("partial_key", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("expires_at", Long),
    Index("history_machine", "machine_id", "at"),
    Index("history_at", "at"),
    sqlite_strict=True,
)

# The organisation's keys.  ``key_id`` is the public name that machines and publisher have for a key; ``sealed`` is the
# key itself, as the vault encrypted it.  ``remaining`` and ``activations``: what the publisher said, at refreshed_at.
KEYS = Table(
    "keys",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("key_id", Text, nullable=False, unique=True),
    Column("partial", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("publisher_tag", Text, nullable=False),
    Column("root", Text),
    Column("product", Text),
    Column("product_group", Integer, nullable=False),
    Column("description", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("activations", Integer),
    Column("remaining", Integer),
    Column("blocked_at", Long),
    Column("added_at", Long, nullable=False),
    Column("added_by", Text, nullable=False),
    Column("refreshed_at", Long),
    Index("keys_product", "product", "channel"),
    sqlite_strict=True,
)

# What the proxy collected for machines and got: one row a request.  ``reference``: a random name, all that leaves the
# house.  ``kind``: machine, forest.  ``traits``: the fingerprint, JSON.  ``request``, ``answer``: sealed, of no use to
# us.  ``result``: of applying it, "ok" or an error's code.  ``bundle``: the file it left in last.
CONFIRMATIONS = Table(
    "confirmations",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("reference", Text, nullable=False, unique=True),
    Column("machine", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("product", Text, nullable=False),
    Column("edition", Text),
    Column("channel", Text),
    Column("key_id", Text),
    Column("partial_key", Text),
    Column("machine_id", LargeBinary),
    Column("traits", Text),
    Column("url", Text),
    Column("request", LargeBinary, nullable=False),
    Column("answer", LargeBinary),
    Column("collected_at", Long, nullable=False),
    Column("confirmed_at", Long),
    Column("applied_at", Long),
    Column("result", Text),
    Column("source", Text, nullable=False),
    Column("bundle", Text),
    Index("confirmations_machine", "machine", "root", "product"),
    sqlite_strict=True,
)

# A machine's own key and licences, sealed by the machine to the vault: what brings a reimaged one back.
BACKUPS = Table(
    "backups",
    METADATA,
    Column("machine_id", LargeBinary, primary_key=True),
    Column("machine", Text, nullable=False),
    Column("vault", Text, nullable=False),
    Column("products", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("made_at", Long, nullable=False),
    Column("restored_at", Long),
    Index("backups_machine", "machine"),
    sqlite_strict=True,
)

# Product definitions, signed by their publishers: whose keys are what, where the publisher is, and its root.
DEFINITIONS = Table(
    "definitions",
    METADATA,
    Column("root", Text, primary_key=True),
    Column("product", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("token", Text, nullable=False),
    Column("url", Text),
    Column("added_at", Long, nullable=False),
    Column("added_by", Text, nullable=False),
    sqlite_strict=True,
)

# The key vault's own key, sealed under its passphrase: one row.
VAULT = Table(
    "vault",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("sealed", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("made_at", Long, nullable=False),
    Column("made_by", Text, nullable=False),
    sqlite_strict=True,
)

# Other fleets whose inventories are imported here: the fingerprints of their bundles' keys.
SIGNERS = Table(
    "signers",
    METADATA,
    Column("fingerprint", Text, primary_key=True),
    Column("added_at", Long, nullable=False),
    Column("added_by", Text, nullable=False),
    sqlite_strict=True,
)

# One bulk act.  ``state``: queued, running, paused, cancelled, done.  ``parallel``, ``timeout``: its limits.
JOBS = Table(
    "jobs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("selection", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("dry_run", Integer, nullable=False),
    Column("parallel", Integer, nullable=False),
    Column("timeout", Integer, nullable=False),
    Column("made_at", Long, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("not_before", Long),
    Column("started_at", Long),
    Column("ended_at", Long),
    Index("jobs_state", "state"),
    sqlite_strict=True,
)

# One machine of a job.  ``intent``: what is about to be done, written before; ``result``: what came of it, written
# after.  ``worker``, ``leased_until``: who works on it now, and until when without a sign of life.
TASKS = Table(
    "tasks",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("machine_id", Integer, ForeignKey("machines.id", ondelete="CASCADE"), nullable=False),
    Column("state", Text, nullable=False),
    Column("step", Text),
    Column("attempt", Integer, nullable=False),
    Column("intent", Text),
    Column("result", Text),
    Column("error", Text),
    Column("error_text", Text),
    Column("started_at", Long),
    Column("ended_at", Long),
    Column("worker", Text),
    Column("leased_until", Long),
    UniqueConstraint("job_id", "machine_id"),
    Index("tasks_job_state", "job_id", "state"),
    Index("tasks_machine", "machine_id"),
    sqlite_strict=True,
)

# Lists that somebody looks at again, by name.
VIEWS = Table(
    "views",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("filter", Text, nullable=False),
    Column("sort", Text, nullable=False),
    Column("columns", Text, nullable=False),
    Column("grouping", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("saved_at", Long, nullable=False),
    sqlite_strict=True,
)

# Who did what, appended only.
AUDIT = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", Long, nullable=False),
    Column("who", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("result", Text, nullable=False),
    Index("audit_at", "at"),
    sqlite_strict=True,
)

# What runs by itself.  ``running_by``, ``running_until``: the process that has taken the present run.
SCHEDULES = Table(
    "schedules",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("cron", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("made_at", Long, nullable=False),
    Column("made_by", Text, nullable=False),
    Column("next_at", Long),
    Column("last_at", Long),
    Column("last_result", Text),
    Column("last_error", Text),
    Column("running_by", Text),
    Column("running_until", Long),
    sqlite_strict=True,
)

# The programs that run schedules, one row a kind and computer, with its last sign of life.
RUNNERS = Table(
    "runners",
    METADATA,
    Column("program", Text, primary_key=True),
    Column("computer", Text, primary_key=True),
    Column("seen_at", Long, nullable=False),
    sqlite_strict=True,
)

# One figure of one day: activations left of a key, machines in a state, the count of a host.
SAMPLES = Table(
    "samples",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("at", Long, primary_key=True, autoincrement=False),
    Column("value", Integer, nullable=False),
    Index("samples_at", "at"),
    sqlite_strict=True,
)

# What the organisation bought, as its publishers or a file said: licences of a product group, for a time.
AGREEMENTS = Table(
    "agreements",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("product", Text, primary_key=True),
    Column("product_group", Integer, primary_key=True, autoincrement=False),
    Column("publisher", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("starts_at", Long),
    Column("ends_at", Long),
    Column("source", Text, nullable=False),
    Column("refreshed_at", Long, nullable=False),
    sqlite_strict=True,
)

# The REST interface's bearer tokens, as digests (``role``: viewer, operator, administrator), and the answers that a
# repeated request gets again.
API_TOKENS = token_table(METADATA)
API_ANSWERS = idempotency_table(METADATA)
