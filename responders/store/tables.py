"""The tables of the incident store. Times are epoch milliseconds; JSON is text, alike in both databases."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer, "sqlite")
"""A row number: SQLite counts only in INTEGER."""

events = Table(
    "events",
    metadata,
    Column("incident_id", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("type", String(64), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("event", Text, nullable=False),
    PrimaryKeyConstraint("incident_id", "version"),
)
"""The log: all that an incident is. Everything below can be told from it or is work under way."""

incidents = Table(
    "incidents",
    metadata,
    Column("incident_id", String(256), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("containment", String(32), nullable=False),
    Column("tenant", String(256), nullable=False),
    Column("agent", String(256), nullable=False),
    Column("session", String(256)),
    Column("headline", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("resolved_ms", BigInteger),
    Index(None, "opened_ms"),
)
"""Projection for lists: one row an incident."""

inbox = Table(
    "inbox",
    metadata,
    Column("source_key", String(300), primary_key=True),
    Column("incident_id", String(256), index=True),
    Column("time_ms", BigInteger, nullable=False),
)
"""What has been decided about, so that a redelivery decides nothing."""

grouping = Table(
    "grouping",
    metadata,
    Column("key", String(1024), primary_key=True),
    Column("incident_id", String(256), nullable=False, index=True),
)
"""Which open incident a cause belongs to. The primary key is what keeps two writers from opening two."""

causes = Table(
    "causes",
    metadata,
    Column("key", String(1024), nullable=False),
    Column("incident_id", String(256), nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("key", "incident_id"),
    Index(None, "key", "opened_ms"),
)
"""Which incidents each cause has had, to know it again."""

paged = Table(
    "paged",
    metadata,
    Column("incident_id", String(256), nullable=False),
    Column("page", String(256), nullable=False),
    Column("tenant", String(256), nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("incident_id", "page"),
    Index(None, "tenant", "time_ms"),
)
"""The transitions that were paged, to count those of the last minute. Digests are not among them."""

silences = Table(
    "silences",
    metadata,
    Column("silence_id", String(256), primary_key=True),
    Column("tenant", String(256), nullable=False),
    Column("agent", String(256), nullable=False),
    Column("detector", String(256)),
    Column("reason", Text, nullable=False),
    Column("person", String(256), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False, index=True),
)
"""What people have silenced by command. ``agent`` may be a pattern."""

targets = Table(
    "targets",
    metadata,
    Column("scope", String(1024), primary_key=True),
    Column("tenant", String(256), nullable=False),
    Column("agent", String(256), nullable=False),
    Column("session", String(256)),
    Column("epoch", BigInteger, nullable=False),
    Column("command_id", String(256)),
    Column("status", String(16), nullable=False),
    Column("publish_at_ms", BigInteger, nullable=False),
    Column("published", Integer, nullable=False),
    Index(None, "status", "publish_at_ms"),
)
"""The newest command of each target, and whether it is ``wanted``, ``published`` or ``confirmed``."""

commands = Table(
    "commands",
    metadata,
    Column("command_id", String(256), primary_key=True),
    Column("scope", String(1024), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("incident_id", String(256)),
    Column("role", String(16), nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    UniqueConstraint("scope", "epoch"),
)
"""Every command ever issued. Epochs of a target are never used twice."""

holds = Table(
    "holds",
    metadata,
    Column("scope", String(1024), nullable=False),
    Column("incident_id", String(256), nullable=False, index=True),
    Column("state", Text, nullable=False),
    PrimaryKeyConstraint("scope", "incident_id"),
)
"""Who wants what of a target: one incident's release leaves what the others want."""

acks = Table(
    "acks",
    metadata,
    Column("command_id", String(256), nullable=False),
    Column("enforcement_point", String(256), nullable=False),
    Column("result", String(16), nullable=False),
    Column("reason", Text),
    Column("time_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("command_id", "enforcement_point", "result"),
)

timers = Table(
    "timers",
    metadata,
    Column("timer_key", String(1400), primary_key=True),
    Column("incident_id", String(256), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("scope", String(1024), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False, index=True),
)

outbox = Table(
    "outbox",
    metadata,
    Column("row_id", BigId, primary_key=True, autoincrement=True),
    Column("effect_key", String(1024), nullable=False, unique=True),
    Column("lane", String(600), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("effect", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("in_doubt", Boolean, nullable=False),
    Column("not_before_ms", BigInteger, nullable=False),
    Column("lease_until_ms", BigInteger, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("last_error", Text),
    Column("created_ms", BigInteger, nullable=False),
    Index(None, "status", "not_before_ms"),
    Index(None, "lane", "status"),
)
"""Effects to carry out. Rows of a lane go one by one; ``token`` fences off a sender that lost its lease."""

messages = Table(
    "messages",
    metadata,
    Column("incident_id", String(256), nullable=False),
    Column("page", String(256), nullable=False),
    Column("channel", String(256), nullable=False),
    Column("conversation", String(256), nullable=False),
    Column("message", String(256), nullable=False),
    Column("digest", String(64), nullable=False),
    PrimaryKeyConstraint("incident_id", "page", "channel"),
)
"""Where each delivered page is, and a digest of what it says: an edit that changes nothing is not sent."""

offsets = Table(
    "offsets",
    metadata,
    Column("topic", String(256), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    PrimaryKeyConstraint("topic", "partition"),
)
"""How far each source partition has been decided about, written in the same transaction."""
