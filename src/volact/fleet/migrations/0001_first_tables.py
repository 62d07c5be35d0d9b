# SPDX-License-Identifier: Apache-2.0

"""Machines, their products and history; keys and confirmations; jobs; views, audit, schedules, samples, tokens."""

from alembic import op
from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, Text, UniqueConstraint

revision = "0001"
down_revision = None

LONG = BigInteger().with_variant(Integer, "sqlite")


def upgrade() -> None:
    _create_inventory()
    _create_keys()
    _create_jobs()
    _create_office()


def _create_inventory() -> None:
    op.create_table(
        "machines",
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
        Column("added_at", LONG, nullable=False),
        Column("refreshed_at", LONG),
        Column("contacted_at", LONG),
        Column("last_action", Text),
        Column("last_result", Text),
        Column("last_error", Text),
        Column("last_action_at", LONG),
        sqlite_strict=True,
    )
    op.create_index("machines_contacted_at", "machines", ["contacted_at"])
    op.create_index("machines_last_result", "machines", ["last_result"])
    op.create_index("machines_machine_id", "machines", ["machine_id"])
    op.create_table(
        "tags",
        Column("machine_id", Integer, ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
        Column("tag", Text, primary_key=True),
        sqlite_strict=True,
    )
    op.create_index("tags_tag", "tags", ["tag"])
    op.create_table(
        "products",
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
        Column("expires_at", LONG),
        Column("grace_ends_at", LONG),
        Column("last_attempt_at", LONG),
        Column("last_host", Text),
        Column("host_source", Text),
        Column("count", Integer),
        Column("threshold", Integer),
        Column("organisation", Text),
        Column("fingerprint", LargeBinary),
        Column("first_seen_at", LONG, nullable=False),
        Column("activated_at", LONG),
        Column("refreshed_at", LONG, nullable=False),
        UniqueConstraint("machine_id", "root", "product"),
        sqlite_strict=True,
    )
    op.create_index("products_product_state", "products", ["product", "state"])
    op.create_index("products_state", "products", ["state"])
    op.create_index("products_channel", "products", ["channel"])
    op.create_index("products_expires_at", "products", ["expires_at"])
    op.create_index("products_fingerprint", "products", ["fingerprint"])
    op.create_table(
        "history",
        Column("id", Integer, primary_key=True),
        Column("machine_id", Integer, ForeignKey("machines.id", ondelete="CASCADE"), nullable=False),
        Column("root", Text, nullable=False),
        Column("product", Text, nullable=False),
        Column("at", LONG, nullable=False),
        Column("edition", Text),
        Column("channel", Text),
        Column("partial_key", Text),
        Column("state", Text, nullable=False),
        Column("reason", Text),
        Column("expires_at", LONG),
        sqlite_strict=True,
    )
    op.create_index("history_machine", "history", ["machine_id", "at"])
    op.create_index("history_at", "history", ["at"])


def _create_keys() -> None:
    op.create_table(
        "keys",
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
        Column("blocked_at", LONG),
        Column("added_at", LONG, nullable=False),
        Column("added_by", Text, nullable=False),
        Column("refreshed_at", LONG),
        sqlite_strict=True,
    )
    op.create_index("keys_product", "keys", ["product", "channel"])
    op.create_table(
        "confirmations",
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
        Column("collected_at", LONG, nullable=False),
        Column("confirmed_at", LONG),
        Column("applied_at", LONG),
        Column("result", Text),
        Column("source", Text, nullable=False),
        Column("bundle", Text),
        sqlite_strict=True,
    )
    op.create_index("confirmations_machine", "confirmations", ["machine", "root", "product"])
    op.create_table(
        "backups",
        Column("machine_id", LargeBinary, primary_key=True),
        Column("machine", Text, nullable=False),
        Column("vault", Text, nullable=False),
        Column("products", Text, nullable=False),
        Column("sealed", LargeBinary, nullable=False),
        Column("made_at", LONG, nullable=False),
        Column("restored_at", LONG),
        sqlite_strict=True,
    )
    op.create_index("backups_machine", "backups", ["machine"])
    op.create_table(
        "definitions",
        Column("root", Text, primary_key=True),
        Column("product", Text, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("token", Text, nullable=False),
        Column("url", Text),
        Column("added_at", LONG, nullable=False),
        Column("added_by", Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "vault",
        Column("id", Integer, primary_key=True),
        Column("sealed", Text, nullable=False),
        Column("recipient", Text, nullable=False),
        Column("made_at", LONG, nullable=False),
        Column("made_by", Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "signers",
        Column("fingerprint", Text, primary_key=True),
        Column("added_at", LONG, nullable=False),
        Column("added_by", Text, nullable=False),
        sqlite_strict=True,
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        Column("id", Integer, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("arguments", Text, nullable=False),
        Column("selection", Text, nullable=False),
        Column("state", Text, nullable=False),
        Column("dry_run", Integer, nullable=False),
        Column("parallel", Integer, nullable=False),
        Column("timeout", Integer, nullable=False),
        Column("made_at", LONG, nullable=False),
        Column("made_by", Text, nullable=False),
        Column("not_before", LONG),
        Column("started_at", LONG),
        Column("ended_at", LONG),
        sqlite_strict=True,
    )
    op.create_index("jobs_state", "jobs", ["state"])
    op.create_table(
        "tasks",
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
        Column("started_at", LONG),
        Column("ended_at", LONG),
        Column("worker", Text),
        Column("leased_until", LONG),
        UniqueConstraint("job_id", "machine_id"),
        sqlite_strict=True,
    )
    op.create_index("tasks_job_state", "tasks", ["job_id", "state"])
    op.create_index("tasks_machine", "tasks", ["machine_id"])


def _create_office() -> None:
    op.create_table(
        "views",
        Column("name", Text, primary_key=True),
        Column("filter", Text, nullable=False),
        Column("sort", Text, nullable=False),
        Column("columns", Text, nullable=False),
        Column("grouping", Text, nullable=False),
        Column("owner", Text, nullable=False),
        Column("saved_at", LONG, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "audit",
        Column("id", Integer, primary_key=True),
        Column("at", LONG, nullable=False),
        Column("who", Text, nullable=False),
        Column("act", Text, nullable=False),
        Column("object", Text, nullable=False),
        Column("detail", Text, nullable=False),
        Column("result", Text, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("audit_at", "audit", ["at"])
    op.create_table(
        "schedules",
        Column("id", Integer, primary_key=True),
        Column("name", Text, nullable=False, unique=True),
        Column("cron", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("arguments", Text, nullable=False),
        Column("enabled", Integer, nullable=False),
        Column("made_at", LONG, nullable=False),
        Column("made_by", Text, nullable=False),
        Column("next_at", LONG),
        Column("last_at", LONG),
        Column("last_result", Text),
        Column("last_error", Text),
        Column("running_by", Text),
        Column("running_until", LONG),
        sqlite_strict=True,
    )
    op.create_table(
        "samples",
        Column("kind", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("at", LONG, primary_key=True, autoincrement=False),
        Column("value", Integer, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("samples_at", "samples", ["at"])
    op.create_table(
        "agreements",
        Column("name", Text, primary_key=True),
        Column("product", Text, primary_key=True),
        Column("product_group", Integer, primary_key=True, autoincrement=False),
        Column("publisher", Text, nullable=False),
        Column("quantity", Integer, nullable=False),
        Column("starts_at", LONG),
        Column("ends_at", LONG),
        Column("source", Text, nullable=False),
        Column("refreshed_at", LONG, nullable=False),
        sqlite_strict=True,
    )
    op.create_table(
        "api_token",
        Column("id", Text, primary_key=True),
        Column("digest", LargeBinary, nullable=False),
        Column("label", Text, nullable=False),
        Column("organisation", Text),
        Column("role", Text),
        Column("scopes", Text, nullable=False),
        Column("made_at", LONG, nullable=False),
        Column("made_by", Text, nullable=False),
        Column("expires_at", LONG, nullable=False),
        Column("last_used_at", LONG),
        Column("revoked_at", LONG),
        UniqueConstraint("digest"),
        sqlite_strict=True,
    )
    op.create_table(
        "api_answer",
        Column("token", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        Column("request", LargeBinary, nullable=False),
        Column("at", LONG, nullable=False),
        Column("sealed", LargeBinary, nullable=False),
        sqlite_strict=True,
    )
    op.create_index("api_answer_by_time", "api_answer", ["at"])
