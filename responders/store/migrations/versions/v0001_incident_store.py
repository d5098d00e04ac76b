"""The incident store

Revises None.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _log()
    _control()
    _sending()


def _log() -> None:
    op.create_table(
        "events",
        sa.Column("incident_id", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "version", name=op.f("pk_events")),
    )
    op.create_table(
        "incidents",
        sa.Column("incident_id", sa.String(length=256), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("containment", sa.String(length=32), nullable=False),
        sa.Column("tenant", sa.String(length=256), nullable=False),
        sa.Column("agent", sa.String(length=256), nullable=False),
        sa.Column("session", sa.String(length=256), nullable=True),
        sa.Column("headline", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("resolved_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("incident_id", name=op.f("pk_incidents")),
    )
    op.create_index(op.f("ix_incidents_opened_ms"), "incidents", ["opened_ms"], unique=False)
    op.create_table(
        "inbox",
        sa.Column("source_key", sa.String(length=300), nullable=False),
        sa.Column("incident_id", sa.String(length=256), nullable=True),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source_key", name=op.f("pk_inbox")),
    )
    op.create_index(op.f("ix_inbox_incident_id"), "inbox", ["incident_id"], unique=False)
    op.create_table(
        "grouping",
        sa.Column("key", sa.String(length=1024), nullable=False),
        sa.Column("incident_id", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_grouping")),
    )
    op.create_index(op.f("ix_grouping_incident_id"), "grouping", ["incident_id"], unique=False)
    op.create_table(
        "offsets",
        sa.Column("topic", sa.String(length=256), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", name=op.f("pk_offsets")),
    )


def _control() -> None:
    op.create_table(
        "targets",
        sa.Column("scope", sa.String(length=1024), nullable=False),
        sa.Column("tenant", sa.String(length=256), nullable=False),
        sa.Column("agent", sa.String(length=256), nullable=False),
        sa.Column("session", sa.String(length=256), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("command_id", sa.String(length=256), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("publish_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("published", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_targets")),
    )
    op.create_index(
        op.f("ix_targets_status_publish_at_ms"), "targets", ["status", "publish_at_ms"], unique=False
    )
    op.create_table(
        "commands",
        sa.Column("command_id", sa.String(length=256), nullable=False),
        sa.Column("scope", sa.String(length=1024), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("incident_id", sa.String(length=256), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_commands")),
        sa.UniqueConstraint("scope", "epoch", name=op.f("uq_commands_scope_epoch")),
    )
    op.create_table(
        "holds",
        sa.Column("scope", sa.String(length=1024), nullable=False),
        sa.Column("incident_id", sa.String(length=256), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "incident_id", name=op.f("pk_holds")),
    )
    op.create_index(op.f("ix_holds_incident_id"), "holds", ["incident_id"], unique=False)
    op.create_table(
        "acks",
        sa.Column("command_id", sa.String(length=256), nullable=False),
        sa.Column("enforcement_point", sa.String(length=256), nullable=False),
        sa.Column("result", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("command_id", "enforcement_point", "result", name=op.f("pk_acks")),
    )
    op.create_table(
        "timers",
        sa.Column("timer_key", sa.String(length=1400), nullable=False),
        sa.Column("incident_id", sa.String(length=256), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("scope", sa.String(length=1024), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("timer_key", name=op.f("pk_timers")),
    )
    op.create_index(op.f("ix_timers_due_ms"), "timers", ["due_ms"], unique=False)


def _sending() -> None:
    op.create_table(
        "outbox",
        sa.Column(
            "row_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("effect_key", sa.String(length=1024), nullable=False),
        sa.Column("lane", sa.String(length=600), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("effect", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("in_doubt", sa.Boolean(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row_id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("effect_key", name=op.f("uq_outbox_effect_key")),
    )
    op.create_index(op.f("ix_outbox_lane_status"), "outbox", ["lane", "status"], unique=False)
    op.create_index(
        op.f("ix_outbox_status_not_before_ms"), "outbox", ["status", "not_before_ms"], unique=False
    )
    op.create_table(
        "messages",
        sa.Column("incident_id", sa.String(length=256), nullable=False),
        sa.Column("page", sa.String(length=256), nullable=False),
        sa.Column("channel", sa.String(length=256), nullable=False),
        sa.Column("conversation", sa.String(length=256), nullable=False),
        sa.Column("message", sa.String(length=256), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "page", "channel", name=op.f("pk_messages")),
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_timers_due_ms"), table_name="timers")
    op.drop_table("timers")
    op.drop_index(op.f("ix_targets_status_publish_at_ms"), table_name="targets")
    op.drop_table("targets")
    op.drop_index(op.f("ix_outbox_status_not_before_ms"), table_name="outbox")
    op.drop_index(op.f("ix_outbox_lane_status"), table_name="outbox")
    op.drop_table("outbox")
    op.drop_table("offsets")
    op.drop_table("messages")
    op.drop_index(op.f("ix_incidents_opened_ms"), table_name="incidents")
    op.drop_table("incidents")
    op.drop_index(op.f("ix_inbox_incident_id"), table_name="inbox")
    op.drop_table("inbox")
    op.drop_index(op.f("ix_holds_incident_id"), table_name="holds")
    op.drop_table("holds")
    op.drop_index(op.f("ix_grouping_incident_id"), table_name="grouping")
    op.drop_table("grouping")
    op.drop_table("events")
    op.drop_table("commands")
    op.drop_table("acks")
