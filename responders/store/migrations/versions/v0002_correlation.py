"""Causes that are known again, pages that are counted, silences

Revises 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "causes",
        sa.Column("key", sa.String(length=1024), nullable=False),
        sa.Column("incident_id", sa.String(length=256), nullable=False),
        sa.Column("opened_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "incident_id", name=op.f("pk_causes")),
    )
    op.create_index(op.f("ix_causes_key_opened_ms"), "causes", ["key", "opened_ms"], unique=False)
    op.create_table(
        "paged",
        sa.Column("incident_id", sa.String(length=256), nullable=False),
        sa.Column("page", sa.String(length=256), nullable=False),
        sa.Column("tenant", sa.String(length=256), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "page", name=op.f("pk_paged")),
    )
    op.create_index(op.f("ix_paged_tenant_time_ms"), "paged", ["tenant", "time_ms"], unique=False)
    op.create_table(
        "silences",
        sa.Column("silence_id", sa.String(length=256), nullable=False),
        sa.Column("tenant", sa.String(length=256), nullable=False),
        sa.Column("agent", sa.String(length=256), nullable=False),
        sa.Column("detector", sa.String(length=256), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("person", sa.String(length=256), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_silences")),
    )
    op.create_index(op.f("ix_silences_until_ms"), "silences", ["until_ms"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_silences_until_ms"), table_name="silences")
    op.drop_table("silences")
    op.drop_index(op.f("ix_paged_tenant_time_ms"), table_name="paged")
    op.drop_table("paged")
    op.drop_index(op.f("ix_causes_key_opened_ms"), table_name="causes")
    op.drop_table("causes")
