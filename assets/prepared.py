"""Statements that the ORM writes once, for what every request asks: to build one takes longer than to run it.

A statement is made of a queryset, like any other, in which `Given` stands where a value comes later. What it runs then
is the very SQL that Django wrote for this database, with values as the fields store them. Signals, and what a model
does in `save`, are passed by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from django.db import connection
from django.db.models import Expression, Field, Model, QuerySet, Value
from django.db.models.query import get_related_populators
from django.db.models.sql import InsertQuery, UpdateQuery

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models.expressions import Col
    from django.db.models.sql.compiler import SQLCompiler

M = TypeVar("M", bound=Model)


class Given(Value):
    """Stands for a value that is given by this name when the statement runs."""

    def __init__(self, model: type[Model], field: str, name: str = "") -> None:
        """`field` of `model` says how the database stores it; `name` is the field's own unless told."""
        super().__init__(None, output_field=cast("Field[Any, Any]", model._meta.get_field(field)))
        self.name = name or field

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        """Put itself among the parameters."""
        return "%s", (self,)

    def written(self, values: Mapping[str, object]) -> Any:
        """Give the value as the database takes it."""
        return self.field.get_db_prep_value(values[self.name], connection)


class _Statement(NamedTuple):
    sql: str
    parameters: tuple[Any, ...]

    def filled(self, values: Mapping[str, object]) -> list[Any]:
        return [one.written(values) if isinstance(one, Given) else one for one in self.parameters]


class _Columns(NamedTuple):
    """What a row that comes back is made of: attributes of models, and what turns cells into their values."""

    names: list[str]
    converters: list[tuple[int, list[Any], Expression]]  # place, functions, column

    @classmethod
    def of(cls, columns: list[Col], compiler: SQLCompiler) -> _Columns:
        found = compiler.get_converters(list[Expression](columns))
        converters = [(place, functions, column) for place, (functions, column) in found.items()]
        return cls([column.target.attname for column in columns], converters)

    def values(self, row: Sequence[object]) -> list[object]:
        cells = list(row)
        for place, functions, column in self.converters:
            for function in functions:
                cells[place] = function(cells[place], column, connection)
        return cells


class Selection(Generic[M]):
    """Finds one row of a model, with what `select_related` names. The queryset is made when it is first asked for."""

    def __init__(self, rows: Callable[[], QuerySet[M]]) -> None:
        self._rows = rows

    def first(self, **values: object) -> M | None:
        """Give the first row as an instance, if there is one; costs one SELECT."""
        statement, columns, make = self._made
        with connection.cursor() as cursor:
            cursor.execute(statement.sql, statement.filled(values))
            row = cursor.fetchone()
        return None if row is None else make(columns.values(row))

    @cached_property
    def _made(self) -> tuple[_Statement, _Columns, Callable[[list[object]], M]]:
        rows = self._rows()[:1]
        compiler = rows.query.get_compiler(connection=connection)
        statement = _Statement(*compiler.as_sql())
        columns = _Columns.of([column for column, _, _ in compiler.select], compiler)
        own = len(compiler.klass_info["select_fields"])  # the first ones
        # The stubs know the next Django's, which takes one more.
        joined = get_related_populators(compiler.klass_info, compiler.select, connection.alias)  # type: ignore[call-arg]

        def make(cells: list[object]) -> M:
            found = rows.model.from_db(connection.alias, columns.names[:own], cells[:own])
            for one in joined:
                one.populate(cells, found)
            return found

        return statement, columns, make


class Change:
    """Changes the rows of a queryset, which is made when it first runs."""

    def __init__(self, rows: Callable[[], QuerySet[Any]], fields: Callable[[], Mapping[str, object]]) -> None:
        """`fields` gives what to set, by name: what `update` takes, or `Given`."""
        self._rows = rows
        self._fields = fields

    def run(self, **values: object) -> int:
        """Tell how many rows there were; costs one UPDATE."""
        statement = self._made
        with connection.cursor() as cursor:
            cursor.execute(statement.sql, statement.filled(values))
            return int(cursor.rowcount)

    @cached_property
    def _made(self) -> _Statement:
        query = cast("UpdateQuery", self._rows().query.chain(UpdateQuery))
        query.add_update_values(dict(self._fields()))
        return _Statement(*query.get_compiler(connection=connection).as_sql())


class Insertion(Generic[M]):
    """Inserts an instance that brings its own primary key."""

    def __init__(self, model: type[M]) -> None:
        self._model = model

    def run(self, instance: M) -> None:
        """Insert it, and read what the database made of it; costs one INSERT."""
        sql, fields, made = self._made
        values = [field.get_db_prep_save(getattr(instance, field.attname), connection) for field in fields]
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            row = cursor.fetchone() if made.names else ()
        for name, value in zip(made.names, made.values(row), strict=True):
            setattr(instance, name, value)
        instance._state.adding, instance._state.db = False, connection.alias

    @cached_property
    def _made(self) -> tuple[str, list[Field[Any, Any]], _Columns]:
        meta = self._model._meta
        fields = [field for field in meta.local_concrete_fields if not field.generated]
        query = InsertQuery(self._model)
        query.insert_values(fields, [self._model()])
        compiler = query.get_compiler(connection=connection)
        compiler.returning_fields = meta.db_returning_fields
        ((sql, _),) = compiler.as_sql()
        made = [field.get_col(meta.db_table) for field in meta.db_returning_fields]
        return sql, fields, _Columns.of(made, compiler)
