# SPDX-License-Identifier: Apache-2.0
"""The VM host's tables, for Core statements.  What creates them is ``migrations/``; a test compares the two.

Times are Unix seconds, JSON is text.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, Table, Text

METADATA = MetaData()

Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite's integers are long already

# One row for each product of each guest.  ``machine_id`` is proven by the guest's key; ``state``, ``name`` and ``os``
# are what the guest says of itself.  ``licensed_until`` is null before the first licence; ``refused`` is the code of
# the newest answer where that was a refusal.
GUEST = Table(
    "guest",
    METADATA,
    Column("root", Text, primary_key=True),
    Column("product", Text, primary_key=True),
    Column("machine_id", LargeBinary, primary_key=True),
    Column("edition", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("os", Text, nullable=False),
    Column("first_seen", Long, nullable=False),
    Column("last_seen", Long, nullable=False),
    Column("last_licensed", Long),
    Column("licensed_until", Long),
    Column("refused", Text, nullable=False),
    Column("requests", Long, nullable=False),
    Index("guest_by_channel", "channel", "first_seen"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# What is counted against an edition's limit: who was licensed for it, and when last.  A guest that asks for another
# edition as well keeps the place that its licence of the first one takes.
GUEST_PLACE = Table(
    "guest_place",
    METADATA,
    Column("root", Text, primary_key=True),
    Column("product", Text, primary_key=True),
    Column("edition", Text, primary_key=True),
    Column("machine_id", LargeBinary, primary_key=True),
    Column("last_licensed", Long, nullable=False),
    Index("guest_place_by_time", "root", "product", "edition", "last_licensed"),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# Cumulative since the host was set up.
COUNTER = Table(
    "counter",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Long, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

# Appended to, and cut off at its old end.  ``channel`` is the socket's name, known to the host by itself.
EVENT = Table(
    "event",
    METADATA,
    Column("id", Long, primary_key=True, autoincrement=True),
    Column("at", Long, nullable=False),
    Column("level", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("machine_id", LargeBinary),
    Column("data", Text, nullable=False),
    sqlite_strict=True,
    sqlite_autoincrement=True,
)

# The most guests of an edition that were licensed at one time on each UTC day: what a provider reports.
DAILY_GUESTS = Table(
    "daily_guests",
    METADATA,
    Column("root", Text, primary_key=True),
    Column("product", Text, primary_key=True),
    Column("edition", Text, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("guests", Integer, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)

SETTING = Table(
    "setting",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_strict=True,
    sqlite_with_rowid=False,
)
