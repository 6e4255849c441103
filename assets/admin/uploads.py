"""The upload form of the admin: staged files become assets; what goes wrong is said in the form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django import forms
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, User
from django.core.validators import RegexValidator

from assets.admin.display import visible
from assets.models import Asset
from assets.services import AssetDetails, put_staged
from assets.upload_handler import RefusedFile, StagedUpload
from storagecache.errors import StorageError

WHOLE: Final = "1"
_NO_CONTROLS: Final = RegexValidator(r"\A[^\x00-\x1f\x7f]*\Z", "A name has no control characters.")


class FilesInput(forms.ClearableFileInput):
    """A file input that takes several files."""

    allow_multiple_selected = True


class FilesField(forms.FileField):
    """The files of a form, as a list."""

    widget = FilesInput

    def clean(self, data: Any, initial: Any = None) -> list[StagedUpload]:
        """Check every file; a single one is a list of one."""
        given = data if isinstance(data, list | tuple) else [data]
        return [super(FilesField, self).clean(upload, initial) for upload in given if upload]


class UploadForm(forms.Form):
    """Files, and what is said about them.

    `whole` stands behind the files: a form that was cut on its way, which some servers hand over as if it had
    ended, lacks it.
    """

    bucket = forms.ChoiceField(choices=Asset.Bucket.choices, initial=Asset.Bucket.ASSETS)
    owner = forms.CharField(max_length=150, required=False, help_text="A user's name; yourself when empty.")
    name = forms.CharField(
        max_length=1024, required=False, validators=[_NO_CONTROLS], help_text="For one file; its own name when empty."
    )
    uploads = FilesField(label="Files", required=False, allow_empty_file=True)
    whole = forms.CharField(widget=forms.HiddenInput, initial=WHOLE, required=False)

    def __init__(
        self,
        *args: Any,
        user: AbstractBaseUser,
        chooses_owner: bool,
        refused: Iterable[RefusedFile] = (),
        **kwargs: Any,
    ) -> None:
        """Make the form for a user; `refused` are the files that could not even be staged."""
        super().__init__(*args, **kwargs)
        self._user = user
        self._refused = tuple(refused)
        if not chooses_owner:
            del self.fields["owner"]

    def clean_owner(self) -> AbstractBaseUser:
        """Find the user by name."""
        name = self.cleaned_data["owner"]
        if not name:
            return self._user
        try:
            found: User = get_user_model()._default_manager.get_by_natural_key(name)
        except get_user_model().DoesNotExist as error:
            raise forms.ValidationError("There is no such user.") from error
        return found

    def clean(self) -> dict[str, Any]:
        """Hold the parts of the form against each other."""
        super().clean()
        files = self.cleaned_data.get("uploads", [])
        for refused in self._refused:
            self.add_refusal(refused.name, refused.error)
        if self.cleaned_data.get("whole") != WHOLE:
            self.add_error("uploads", "The upload was cut on its way. Send it again.")
        elif not files and not self._refused:
            self.add_error("uploads", "Choose a file.")
        if self.cleaned_data.get("name") and len(files) > 1:
            self.add_error("name", "Several files keep their own names.")
        return self.cleaned_data

    def add_refusal(self, name: str, error: StorageError) -> None:
        """Say what went wrong with one file."""
        self.add_error("uploads", f"{visible(name)}: {error}")

    def store(self) -> list[Asset]:
        """Make an asset of every file of a valid form; each stands for itself, and what failed is an error then."""
        stored = []
        for upload in self.cleaned_data["uploads"]:
            try:
                stored.append(self._store(upload))
            except StorageError as error:
                self.add_refusal(upload.name, error)
        return stored

    def _store(self, upload: StagedUpload) -> Asset:
        data = self.cleaned_data
        details = AssetDetails(name=data["name"] or upload.name or "")
        owner = data.get("owner", self._user)
        return put_staged(upload.staged(), owner=owner, bucket=data["bucket"], key=None, details=details).asset
