"""Lists that stay cheap at a million rows: a page looks at one window of rows, cut out by an index.

A window is the next `window_rows` rows in the order of their ids, newest first, that are older than `?before=<id>`.
Filters, search, COUNT and OFFSET happen inside it, so none of them costs more than the window, whatever is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.contrib.admin import ModelAdmin, ShowFacets
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import Case, IntegerField, Model, Q, QuerySet, Value, When
from django.db.models.expressions import Combinable
from django.db.models.lookups import Exact
from django.http import HttpRequest, HttpResponse

RowId = UUID | int

BEFORE: Final = "before"  # query parameter: the id that the window's rows are older than


@dataclass(frozen=True, slots=True)
class Window:
    """A run of rows by id: `oldest` is inside it, `before` is not; None = no bound. `has_older`: more rows follow."""

    before: RowId | None
    oldest: RowId | None
    has_older: bool

    def condition(self) -> Q:
        """Give the two bounds, for an index."""
        bounds = Q()
        if self.before is not None:
            bounds &= Q(pk__lt=self.before)
        if self.oldest is not None:
            bounds &= Q(pk__gte=self.oldest)
        return bounds


def find_window(rows: QuerySet[Any], *, before: RowId | None, length: int) -> Window:
    """Find where the window of `length` rows ends; reads that many entries of the index that orders `rows` by id."""
    older = rows.filter(pk__lt=before) if before is not None else rows
    end = list(older.order_by("-pk").values_list("pk", flat=True)[length - 1 : length + 1])
    return Window(before, end[0] if end else None, has_older=len(end) > 1)


def judged(condition: Q) -> Exact:
    """Make a condition that is judged row by row, so that no index of it tempts the planner out of the window.

    Without this SQLite finds `bucket = 'temp'` by the index of the addresses and sorts every temp row there is.
    """
    as_number = Case(When(condition, then=Value(1)), default=Value(0), output_field=IntegerField())
    return Exact(as_number, Value(1))


def parse_id(text: str) -> UUID:
    """Read an id from a query string.

    Raises:
        IncorrectLookupParameters: it is none.
    """
    try:
        return UUID(text)
    except ValueError as error:
        raise IncorrectLookupParameters(f"{text!r} is no id") from error


def is_superuser(request: HttpRequest) -> bool:
    """Tell whether a superuser is asking."""
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


def _written(row_id: RowId) -> str:
    return row_id.hex if isinstance(row_id, UUID) else str(row_id)


class WindowedChangeList(ChangeList):
    """A list of the admin that looks at one window."""

    window: Window | None = None
    own_parameters: tuple[str, ...] = (BEFORE,)

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Keep our own parameters from being taken for lookups."""
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in self.own_parameters}

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        """Order by id only: anything else would sort."""
        return ["-pk"]

    def get_queryset(self, request: HttpRequest, exclude_parameters: list[str | None] | None = None) -> QuerySet[Any]:
        """Cut the window out once, then let filters and search work inside it."""
        if self.window is None:
            rows = self.scope(request, self.root_queryset)
            text = request.GET.get(BEFORE)
            before = self.parse_before(text) if text else None
            self.window = find_window(rows, before=before, length=self._admin.window_rows)
            self.root_queryset = rows.filter(self.window.condition())
        return super().get_queryset(request, exclude_parameters)

    def parse_before(self, text: str) -> RowId:
        """Read an id from a query string.

        Raises:
            IncorrectLookupParameters: it is none.
        """
        return parse_id(text)

    def scope(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the rows before the window is cut: only by what an index with the id behind it can do."""
        return rows

    @property
    def older_query(self) -> str:
        """The query string of the next window; empty at the last."""
        window = self.window
        if window is None or window.oldest is None or not window.has_older:
            return ""
        return self.get_query_string({BEFORE: _written(window.oldest)})

    @property
    def newest_query(self) -> str:
        """The query string of the first window; empty when this is it."""
        return self.get_query_string(remove=[BEFORE]) if self.window and self.window.before else ""

    @property
    def window_rows(self) -> int:
        """How many rows a window has at most."""
        return self._admin.window_rows

    @property
    def _admin(self) -> CatalogAdmin:
        assert isinstance(self.model_admin, CatalogAdmin)
        return self.model_admin


if TYPE_CHECKING:
    AnyModelAdmin = ModelAdmin[Any]
else:
    AnyModelAdmin = ModelAdmin  # takes no parameters at run time


class CatalogAdmin(AnyModelAdmin):
    """What the two lists share: windows, closed filters, no change in place, rows read by id."""

    window_rows = 10_000
    change_list_template = "admin/assets/change_list.html"
    ordering = ("-id",)
    sortable_by = ()
    list_per_page = 100
    list_max_show_all = 0
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    search_fields = ("pk",)  # shows the search box; what is searched stands in `find_exactly` and `search_window`
    search_length = 1024  # characters; more cannot be a name or a key

    class Media:
        css = {"all": ["assets/admin.css"]}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list with windows."""
        return WindowedChangeList

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nothing is edited here: an object never changes, and an asset's record has its own API."""
        return False

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show a page without Django's transaction, which on SQLite would queue among the writers."""
        if request.method not in {"GET", "HEAD"}:
            raise PermissionDenied
        page: HttpResponse = self._changeform_view(  # type: ignore[attr-defined]  # not in the stubs
            request, object_id, form_url, extra_context
        )
        return page

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow the closed filters only."""
        return lookup in {getattr(chosen, "parameter_name", None) for chosen in self.list_filter}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Look for one exact row anywhere, by index; else search the window."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if len(term) > self.search_length:
            return queryset.none(), False
        exact = self.get_queryset(request).filter(pk__in=self.find_exactly(term))
        if exact.exists():
            return exact, False
        return self.search_window(queryset, term), False

    def find_exactly(self, term: str) -> Sequence[RowId]:
        """Find the ids of at most a hundred rows that `term` names exactly."""
        raise NotImplementedError

    def search_window(self, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Search the rows of the window."""
        return rows.none()
