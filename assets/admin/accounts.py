"""Accounts in the admin: what each user stores, and the quota that a superuser sets, through `services.quota`."""

from __future__ import annotations

import re
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString

from assets.admin.display import owner_link, size, visible
from assets.admin.windows import CatalogAdmin, WindowedChangeList, is_superuser
from assets.models import Account
from assets.services.quota import quota_of, set_quota
from storagecache import casts

_ID: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]  # takes no parameters at run time
    """One quota, written as people write sizes."""

    quota_bytes = forms.CharField(
        label="quota", required=False, max_length=30, help_text="Such as 500MiB or 20G; empty: USER_QUOTA_BYTES."
    )

    class Meta:
        model = Account
        fields = ("user", "quota_bytes")

    def clean_quota_bytes(self) -> int | None:
        """Read the size.

        Raises:
            ValidationError: it is none.
        """
        text = self.cleaned_data["quota_bytes"]
        try:
            return casts.size(text) if text else None
        except ValueError as error:
            raise ValidationError(f"Write {error}.") from error


class AccountChangeList(WindowedChangeList):
    """The list of accounts, windows by the ids of users."""

    def parse_before(self, text: str) -> int:
        """Read the id of a user.

        Raises:
            IncorrectLookupParameters: it is none.
        """
        if not _ID.fullmatch(text):
            raise IncorrectLookupParameters(f"{text!r} is no id")
        return int(text)

    def get_queryset(self, request: HttpRequest, exclude_parameters: list[str | None] | None = None) -> QuerySet[Any]:
        """Read the users by a query of their own, so that no join tempts the planner out of the window."""
        return super().get_queryset(request, exclude_parameters).prefetch_related("user")


@admin.register(Account)
class AccountAdmin(CatalogAdmin):
    """How much each user stores and may store; a user who never stored anything has no account until one is added."""

    form = AccountForm
    list_display = ("name", "used_shown", "quota_shown", "assets")
    search_help_text = "The name or the id of a user, whole."
    ordering = ("-pk",)
    actions = None
    raw_id_fields = ("user",)
    readonly_fields = ("used_shown", "quota_shown", "assets")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list of accounts."""
        return AccountChangeList

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        """Ask for the user when an account is opened, and never again."""
        return ("quota_bytes", *self.readonly_fields) if obj else ("user", "quota_bytes")

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Show accounts to superusers."""
        return is_superuser(request)

    has_add_permission = has_module_permission

    def has_view_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        """Show accounts to superusers."""
        return is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Let superusers set quotas."""
        return is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        """Let accounts go with their users, whom Django's admin deletes only if their accounts may go too."""
        return is_superuser(request) and obj is not None

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Find one account; what is no id finds none."""
        return super().get_object(request, object_id, from_field) if _ID.fullmatch(object_id) else None

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Refuse: an account by itself stays as long as its user."""
        raise PermissionDenied

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show and take the form without Django's transaction: the service has a section of its own."""
        context = {"show_delete": False, **(extra_context or {})}
        page: HttpResponse = self._changeform_view(  # type: ignore[attr-defined]  # not in the stubs
            request, object_id, form_url, context
        )
        return page

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """Set the quota; opens the account where there is none."""
        obj.used_bytes = set_quota(obj.pk, obj.quota_bytes).used_bytes

    def find_exactly(self, term: str) -> list[int]:
        """Find the account of a user by name, or by id. One query."""
        users = get_user_model().objects
        found = users.filter(pk=int(term)) if _ID.fullmatch(term) else users.none()
        named = users.filter(**{get_user_model().USERNAME_FIELD: term})
        return list((found | named).values_list("pk", flat=True)[:2])

    @admin.display(description="user")
    def name(self, account: Account) -> str:
        """Show whose it is."""
        return visible(account.user.get_username())

    @admin.display(description="used")
    def used_shown(self, account: Account) -> str:
        """Show what is used, as people read it and exactly."""
        return f"{size(account.used_bytes)} ({account.used_bytes})"

    @admin.display(description="quota in force")
    def quota_shown(self, account: Account) -> str:
        """Show what the user may store, and whether that is only the default."""
        quota = quota_of(account)
        text = "no limit" if quota is None else size(quota)
        return f"{text} (default)" if account.quota_bytes is None else text

    @admin.display(description="assets")
    def assets(self, account: Account) -> SafeString:
        """Link to what the user stores."""
        return owner_link(account.user)
