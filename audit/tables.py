"""The tables as this release reads and writes them; migrations.py makes them, a test holds the two together.

A decision is its canonical entry with the digest of those bytes; its tensors lie beside it in `payload`, so that they
can be kept, or let go, apart from the entry that names their digests.
"""

from sqlalchemy import Column, ForeignKey, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

decision = Table(
    "decision",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("entry", LargeBinary, nullable=False),
    Column("digest", String(64), nullable=False),
)

payload = Table(
    "payload",
    metadata,
    Column("decision_id", String(40), ForeignKey("decision.id"), primary_key=True),
    Column("role", String(16), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("dtype", String(16), nullable=False),
    Column("shape", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
)
