"""How values are kept in columns, alike in SQLite and PostgreSQL; and small pieces that tables are made of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

Row = TypeVar("Row")

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
"""All tables of a store (``schema``, ``schema_access``), and how their constraints are called."""


_CANONICAL = json.JSONEncoder(ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))


class Json(sa.types.TypeDecorator[Any]):
    """Any JSON value as ASCII text with sorted keys.

    What a model writes or a person types may hold NUL characters and lone surrogates, which
    PostgreSQL's text and UTF-8 cannot; as escapes they are kept.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Python to database."""
        return None if value is None else canonical(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        """Database to Python."""
        return None if value is None else json.loads(value)


class Moment(sa.types.TypeDecorator[datetime]):
    """A time in UTC as fixed-width ISO 8601 text: sorts as it should, reads the same in both databases, hashes the same."""

    impl = sa.String(32)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        """Byte order in PostgreSQL too, whatever the locale."""
        return dialect.type_descriptor(sa.String(32, collation="C" if dialect.name == "postgresql" else None))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        """Python to database."""
        return None if value is None else moment(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:
        """Database to Python."""
        return None if value is None else datetime.fromisoformat(value)


def canonical(value: Any) -> str:
    """A JSON value as text that is the same wherever and whenever it is written."""
    return _CANONICAL.encode(value)


def moment(time: datetime) -> str:
    """``2026-01-31T08:00:00.000000+00:00``; raises ValueError for a time without a zone."""
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def add_row(connection: sa.Connection, table: sa.Table, **values: Any) -> int:
    """Insert one row and return its id."""
    return int(connection.execute(sa.insert(table).values(values)).inserted_primary_key[0])  # type: ignore[index]


def find_or_add(connection: sa.Connection, table: sa.Table, **values: Any) -> int:
    """The id of the newest row with these values, which is inserted where there is none."""
    same = (table.c[name] == value for name, value in values.items())
    found = connection.execute(sa.select(sa.func.max(table.c.id)).where(*same)).scalar()
    return int(found) if found is not None else add_row(connection, table, **values)


def words(name: str, *allowed: str) -> sa.CheckConstraint:
    """A check that a column holds one of these words."""
    return sa.CheckConstraint(f"{name} IN ({', '.join(repr(word) for word in allowed)})", name=name)


def reference(column: str, **options: Any) -> sa.ForeignKey:
    """A foreign key under which nothing can vanish."""
    return sa.ForeignKey(column, ondelete="RESTRICT", **options)


def partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """An index of the rows for which ``where`` holds."""
    return sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def lots(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Rows in lists of at most ``size``, one list in memory at a time: databases take only so many values in a statement."""
    remaining = iter(rows)
    while some := list(islice(remaining, size)):
        yield some
