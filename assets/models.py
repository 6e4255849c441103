"""The catalog: which objects the buckets hold, and which assets people see. Written only by `assets.services`.

An object's row exists before its bytes do (`pending`) and after they are gone (`deleting`); in between it is
immutable (`ready`). Assets point to objects; replacing an asset's bytes switches the pointer.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.functions import Cast, Coalesce, Left
from django.db.models.sql.compiler import SQLCompiler

from assets.engines import engine_of
from assets.ids import HOME_PREFIX, new_id

NAME_KEY: Final = 250  # characters of a folded name that decide its place in a list
MAX_ATTRIBUTE_NAME: Final = 133  # characters: "meta." and a key of 128
MAX_ATTRIBUTE_TEXT: Final = 255  # characters


def fold_name(name: str) -> str:
    """Give the text that search and sorting compare: NFC and case-folded, so that ß = ss and ÜBER = über."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


if TYPE_CHECKING:
    CharField = models.CharField[str, str]
else:
    CharField = models.CharField  # takes no parameters at run time


class BytewiseCharField(CharField):
    """Text compared byte by byte on every engine, so that its order is that of a bucket listing."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        """Add the collation, where text is not compared so anyway."""
        parameters = super().db_parameters(connection)
        if collation := engine_of(connection).bytewise_collation:
            parameters["collation"] = collation
        return parameters


class HomeFolder(models.Func):
    """The home folder of a user's id, as `assets.ids.home_folder` gives it; it works in a stored column."""

    arity = 1
    output_field = models.UUIDField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Write the hex text that Django keeps UUIDs as on SQLite."""
        return super().as_sql(compiler, connection, template=f"printf('{HOME_PREFIX}%%%%015x', %(expressions)s)")

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Write a uuid."""
        return super().as_sql(
            compiler, connection, template=f"('{HOME_PREFIX}' || lpad(to_hex(%(expressions)s), 15, '0'))::uuid"
        )


class StoredObjectQuerySet(models.QuerySet["StoredObject"]):
    """The questions that services ask about objects."""

    def unreferenced(self) -> StoredObjectQuerySet:
        """Keep the objects that nothing holds: every foreign key that protects an object is a reference."""
        holders = [relation for relation in StoredObject._meta.related_objects if relation.on_delete is models.PROTECT]
        kept = self
        for relation in holders:
            field = relation.field.name
            kept = kept.filter(~Exists(relation.related_model._base_manager.filter(**{field: OuterRef("pk")})))
        return kept


class StoredObject(models.Model):
    """One object in one bucket; its bytes never change and its key is never used again."""

    class State(models.TextChoices):
        """Where the object stands in its life."""

        PENDING = "pending"  # the bytes may be on their way
        READY = "ready"  # the bytes are whole
        DELETING = "deleting"  # the bytes may be gone

    class Preview(models.TextChoices):
        """Whether the bytes have been looked into."""

        UNASKED = ""  # not media, or nobody asked yet
        WANTED = "wanted"  # a worker will
        MADE = "made"  # done: what there is to know is in this row, pictures are its renditions
        NONE = "none"  # tried: there is nothing to see

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    storage = models.CharField(max_length=16, help_text="storage alias: assets or temp")
    bucket = BytewiseCharField(max_length=255, help_text="S3 bucket or folder name, as recorded when written")
    key = BytewiseCharField(max_length=255)
    size = models.BigIntegerField(help_text="bytes")
    sha256 = models.CharField(max_length=64)
    content_type = models.CharField(max_length=255)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    state_changed_at = models.DateTimeField()
    referenced_at = models.DateTimeField(help_text="when a reference was last taken or dropped")
    deletes_left = models.PositiveSmallIntegerField(
        default=2, help_text="deletions until the row goes: 2 while pending"
    )
    deleted_at = models.DateTimeField(null=True, help_text="when the bytes were last deleted")
    upload_id = models.CharField(max_length=1024, blank=True, help_text="multipart upload that writes it (S3)")
    created_at = models.DateTimeField()
    verified_at = models.DateTimeField(null=True, help_text="when the bytes were last held against sha256")

    # What a look into the bytes found (`services.previews`). On the object and not in a row of its own: an upload
    # asks for the look without another statement, and lists know of it without another join.
    preview = models.CharField(max_length=8, choices=Preview.choices, default=Preview.UNASKED, blank=True)
    preview_tries = models.PositiveSmallIntegerField(default=0, help_text="looks that did not end")
    preview_at = models.DateTimeField(null=True, help_text="while wanted: nobody takes it before")
    preview_note = models.CharField(max_length=100, blank=True, help_text="why there is none")
    color = models.CharField(max_length=7, blank=True, help_text="average, #rrggbb; empty: no picture is made")
    duration = models.FloatField(null=True, help_text="seconds")
    width = models.PositiveIntegerField(null=True, help_text="pixels, as people see it")
    height = models.PositiveIntegerField(null=True, help_text="pixels")

    objects = StoredObjectQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["bucket", "key"], name="object_bucket_key"),
            models.CheckConstraint(condition=Q(size__gte=0), name="object_size_positive"),
        ]
        indexes = [
            models.Index(fields=["sha256", "size"], name="object_digest"),
            models.Index(fields=["referenced_at", "id"], condition=Q(state="ready"), name="object_referenced"),
            models.Index(fields=["id"], condition=Q(state="pending"), name="object_pending"),
            models.Index(fields=["id"], condition=Q(state="deleting"), name="object_deleting"),
            models.Index(fields=["id"], condition=Q(preview="wanted"), name="object_preview_wanted"),
        ]

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"

    @property
    def etag(self) -> str:
        """The strong ETag of the bytes (RFC 9110 8.8.3)."""
        return f'"{self.sha256}"'


class Rendition(models.Model):
    """A small picture made from an object, which can be made again. It goes when its source does."""

    class Kind(models.TextChoices):
        """What the picture is of its source."""

        THUMBNAIL = "thumbnail"  # the picture itself
        POSTER = "poster"  # a frame of a film, or the cover of a sound

    source = models.ForeignKey(StoredObject, on_delete=models.CASCADE, related_name="renditions", db_index=False)
    kind = models.CharField(max_length=9, choices=Kind.choices)
    size = models.PositiveSmallIntegerField(help_text="pixels of the longer side, at most")
    # Protects: this is the reference that keeps the picture's object.
    object = models.ForeignKey(StoredObject, on_delete=models.PROTECT, related_name="shows")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["source", "kind", "size"], name="rendition_source_kind_size")]

    def __str__(self) -> str:
        return f"{self.kind} {self.size} of {self.source_id}"


class AssetQuerySet(models.QuerySet["Asset"]):
    """The questions that views and services ask about assets."""

    def alive(self, now: datetime) -> AssetQuerySet:
        """Keep what is neither in the trash nor expired."""
        return self.filter(Q(expires_at=None) | Q(expires_at__gt=now), trashed_at=None)

    def at(self, bucket: str | Value, key: str | Value) -> AssetQuerySet:
        """Keep the asset that answers at this address, expired or not; both may be `assets.prepared.Given`.

        The bucket is cast, for SQLite would plan anew, at each call, a statement whose bare parameter the condition of
        an index could be about (`asset_temp`): half of the time of a small read.
        """
        value = bucket if isinstance(bucket, Value) else Value(bucket)
        return self.filter(bucket=Cast(value, models.CharField()), key=key, trashed_at=None)


class Asset(models.Model):
    """What people see and link to: a file or a folder of one owner, and the address that serves it."""

    class Bucket(models.TextChoices):
        """The two public buckets."""

        ASSETS = "assets"
        TEMP = "temp"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # No index of its own: what asks for an owner's assets orders them too, and finds them by `asset_owner`.
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="assets", db_index=False)
    bucket = BytewiseCharField(max_length=8, choices=Bucket.choices, default=Bucket.ASSETS)
    key: models.Field[str | None, str | None] = BytewiseCharField(  # type: ignore[assignment, misc]
        max_length=1024, null=True, help_text="address under /storage/<bucket>/"
    )
    object = models.ForeignKey(StoredObject, on_delete=models.PROTECT, null=True, related_name="assets")
    name = models.CharField(max_length=1024)
    name_folded = BytewiseCharField(max_length=4096)
    # What lists by name go by: an index row of PostgreSQL holds 2,700 bytes, less than a long name.
    name_key = models.GeneratedField(
        expression=Left("name_folded", NAME_KEY), output_field=BytewiseCharField(max_length=NAME_KEY), db_persist=True
    )
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="children")
    # Where the asset lies: its parent, or its owner's home. PostgreSQL reads no index in order behind "parent IS NULL",
    # and a column that the database makes follows every change of the parent.
    folder = models.GeneratedField(
        expression=Coalesce("parent", HomeFolder("owner")), output_field=models.UUIDField(), db_persist=True
    )
    is_folder = models.BooleanField(default=False)
    content_type = BytewiseCharField(max_length=255)
    size = models.BigIntegerField(null=True, help_text="bytes; copied from the object")
    metadata = models.JSONField(default=dict, blank=True)
    tags = models.JSONField(default=list, blank=True)
    is_public = models.BooleanField(default=False)
    workflow_id = models.CharField(max_length=255, blank=True)
    job_id = models.CharField(max_length=255, blank=True)
    node_id = models.CharField(max_length=255, blank=True)
    duration = models.FloatField(null=True, blank=True, help_text="seconds")
    width = models.PositiveIntegerField(null=True, blank=True, help_text="pixels")
    height = models.PositiveIntegerField(null=True, blank=True, help_text="pixels")
    expires_at = models.DateTimeField(null=True, blank=True)
    trashed_at = models.DateTimeField(null=True, blank=True)
    # Set on a live folder, to its own id: it is being deleted.
    trashed_root = models.UUIDField(null=True, blank=True, help_text="the asset whose deletion took this one along")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    content_changed_at = models.DateTimeField(null=True)
    revision = models.PositiveBigIntegerField(default=1)

    objects = AssetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["bucket", "key"], condition=Q(trashed_at=None), name="asset_bucket_key"),
            models.CheckConstraint(
                condition=Q(is_folder=True, key=None, object=None)
                | Q(is_folder=False, key__isnull=False, object__isnull=False),
                name="asset_file_has_object",
            ),
        ]
        indexes = [
            models.Index(fields=["owner", "id"], condition=Q(trashed_at=None), name="asset_owner"),
            models.Index(fields=["owner", "folder", "id"], condition=Q(trashed_at=None), name="asset_folder"),
            models.Index(
                fields=["owner", "folder", "name_key", "id"], condition=Q(trashed_at=None), name="asset_folder_name"
            ),
            models.Index(
                fields=["owner", "folder", "size", "id"], condition=Q(trashed_at=None), name="asset_folder_size"
            ),
            models.Index(fields=["owner", "name_key", "id"], condition=Q(trashed_at=None), name="asset_owner_name"),
            models.Index(fields=["owner", "size", "id"], condition=Q(trashed_at=None), name="asset_size"),
            models.Index(fields=["owner", "workflow_id", "id"], condition=Q(trashed_at=None), name="asset_workflow"),
            models.Index(fields=["owner", "job_id", "id"], condition=Q(trashed_at=None), name="asset_job"),
            models.Index(fields=["owner", "node_id", "id"], condition=Q(trashed_at=None), name="asset_node"),
            models.Index(fields=["owner", "content_type", "id"], condition=Q(trashed_at=None), name="asset_type"),
            models.Index(fields=["parent"], condition=Q(is_folder=True), name="asset_subfolders"),
            models.Index(fields=["expires_at", "id"], condition=Q(expires_at__isnull=False), name="asset_expiry"),
            models.Index(fields=["trashed_at", "id"], condition=Q(trashed_at__isnull=False), name="asset_trash"),
            # What each deletion was asked for, without what it took along: the trash as people see it.
            models.Index(
                fields=["owner", "trashed_at", "id"],
                condition=Q(trashed_at__isnull=False, trashed_root=F("id")),
                name="asset_trash_root",
            ),
            models.Index(
                fields=["trashed_root", "id"], condition=Q(trashed_root__isnull=False), name="asset_trashed_root"
            ),
            models.Index(
                fields=["id"], condition=Q(trashed_at=None, trashed_root__isnull=False), name="asset_deletion"
            ),
            models.Index(fields=["id"], condition=Q(bucket="temp"), name="asset_temp"),
        ]

    def __str__(self) -> str:
        return self.name


class AssetAttribute(models.Model):
    """One tag or scalar metadata value of a live asset, as filters ask for it (`services.indexing` writes them).

    `name` is the query parameter that finds the row: `tag`, or `meta.` and the metadata key. `text` is the value as
    text; `number` is set when it is a JSON number.
    """

    # The indexes below begin with what is asked for; none is needed on a foreign key alone.
    asset = models.ForeignKey(Asset, on_delete=models.CASCADE, related_name="attributes", db_index=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    name = BytewiseCharField(max_length=MAX_ATTRIBUTE_NAME)
    text = BytewiseCharField(max_length=MAX_ATTRIBUTE_TEXT)
    number = models.FloatField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["asset", "name"], name="attribute_asset"),
            models.Index(fields=["owner", "name", "text", "asset"], name="attribute_text"),
            models.Index(
                fields=["owner", "name", "number", "asset"],
                condition=Q(number__isnull=False),
                name="attribute_number",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}={self.text}"


class Derivation(models.Model):
    """An output and one of the assets it was made from."""

    # Both directions are walked by an index that holds both ends; none is needed on a foreign key alone.
    asset = models.ForeignKey(Asset, on_delete=models.CASCADE, related_name="derived_from", db_index=False)
    source = models.ForeignKey(Asset, on_delete=models.CASCADE, related_name="used_by", db_index=False)
    job_id = models.CharField(max_length=255, blank=True)
    node_id = models.CharField(max_length=255, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["asset", "source"], name="derivation_asset_source")]
        indexes = [models.Index(fields=["source", "asset"], name="derivation_source")]

    def __str__(self) -> str:
        return f"{self.asset_id} from {self.source_id}"


class ApiToken(models.Model):
    """A client's key to the API; only a hash of its text is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=255, blank=True)
    digest = models.CharField(max_length=64, unique=True, help_text="hex SHA-256 of the token's text")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="noted at most once an hour")

    def __str__(self) -> str:
        return self.name or f"token {self.pk}"

    def state(self, now: datetime) -> str:
        """Tell `active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class Job(models.Model):
    """A run of a task: how it was run, how it ended and what it left. Written by `services.jobs`."""

    class State(models.TextChoices):
        """Where the job stands."""

        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        TIMED_OUT = "timed out"
        CANCELLED = "cancelled"
        LOST = "lost"  # the process that ran it died

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="jobs", db_index=False)
    workflow_id = models.CharField(max_length=255, blank=True)
    node_id = models.CharField(max_length=255, blank=True)
    strategy = models.CharField(max_length=16, help_text="threaded, subprocess or docker")
    task = models.CharField(max_length=255, help_text="the callable or the command")
    state = models.CharField(max_length=9, choices=State.choices, default=State.RUNNING)
    host = models.CharField(max_length=255, help_text="the machine that runs it")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="when the process that runs it was last heard of")
    ended_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    error = models.TextField(blank=True, help_text="why it did not succeed, where its log does not say so")
    log_tail = models.TextField(blank=True)
    outputs = models.JSONField(default=list, blank=True, help_text="id, name and size of each asset it left")
    problems = models.JSONField(default=list, blank=True, help_text="outputs that could not be registered, and why")

    class Meta:
        indexes = [
            models.Index(fields=["user", "id"], name="job_user"),
            models.Index(fields=["id"], condition=Q(state="running"), name="job_running"),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.pk.hex}"


class Account(models.Model):
    """What a user may store and stores: the sizes of all their assets, temp and trash included (`services.quota`)."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, primary_key=True, related_name="account"
    )
    quota_bytes = models.BigIntegerField(null=True, blank=True, help_text="bytes; empty: USER_QUOTA_BYTES")
    used_bytes = models.BigIntegerField(default=0, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(quota_bytes__gte=0), name="account_quota_positive")]

    def __str__(self) -> str:
        return f"account of {self.user}"


class UsageDelta(models.Model):
    """A change of what an owner has, noted by the section that made it and folded into `UsageTotal` later.

    Insert-only, so that uploads do not meet at a row (`services.usage`).
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    place = models.CharField(max_length=6, help_text="assets, temp or trash")
    folder = BytewiseCharField(max_length=32, help_text="hex id, or the owner's id for home; empty in the trash")
    group = BytewiseCharField(max_length=64, help_text="content type up to its slash; empty in the trash")
    day = BytewiseCharField(max_length=10, help_text="of creation, in UTC; empty in the trash")
    bytes = models.BigIntegerField()
    count = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.bytes:+d} bytes of {self.owner_id}"


class UsageTotal(models.Model):
    """What an owner's files amount to along one dimension, without what waits in `UsageDelta`."""

    class Dimension(models.TextChoices):
        """What is told apart."""

        PLACE = "place"
        FOLDER = "folder"
        GROUP = "group"
        DAY = "day"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    dimension = models.CharField(max_length=6, choices=Dimension.choices)
    value = BytewiseCharField(max_length=64, help_text="as in the column of UsageDelta of that name")
    bytes = models.BigIntegerField()
    count = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "dimension", "value"], name="usage_value")]
        indexes = [models.Index(fields=["owner", "dimension", "-bytes"], name="usage_largest")]

    def __str__(self) -> str:
        return f"{self.dimension} {self.value} of {self.owner_id}"


class RetentionRule(models.Model):
    """How long a user's assets of a folder, a workflow or a job are kept (`services.retention`)."""

    class Scope(models.TextChoices):
        """What the assets have in common; the later ones go before the earlier."""

        FOLDER = "folder"  # wherever below it
        WORKFLOW = "workflow"
        JOB = "job"

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="retention_rules")
    scope = models.CharField(max_length=8, choices=Scope.choices)
    value = models.CharField(max_length=255, help_text="id of the folder (hex), workflow or job")
    seconds = models.PositiveBigIntegerField(help_text="from the creation of an asset to its end")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "scope", "value"], name="retention_rule")]

    def __str__(self) -> str:
        return f"{self.scope} {self.value}"


class RetentionMark(models.Model):
    """Says that an asset's `expires_at` comes from a rule, or that no rule may end it. Outlives asset and rule."""

    # No foreign keys: no deletion of assets pays for them.
    asset_id = models.UUIDField(primary_key=True, editable=False)
    rule_id = models.BigIntegerField(help_text="0: none")
    seconds = models.PositiveBigIntegerField(help_text="of the rule when it was applied")
    expires_at = models.DateTimeField(null=True, help_text="what was written; another value there is somebody else's")

    def __str__(self) -> str:
        return self.asset_id.hex


class ScheduledWork(models.Model):
    """Background work that one worker of many does at a time: its lock, and what came of it (`services.schedule`)."""

    class Status(models.TextChoices):
        """How it stands, or how the last time went."""

        WAITING = "waiting"  # it never ran
        RUNNING = "running"
        DONE = "done"
        ATTENTION = "attention"  # it ran, and found what somebody should look at
        FAILED = "failed"

    name = models.CharField(max_length=32, unique=True)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.WAITING)
    holder = models.CharField(max_length=300, blank=True, help_text="host and process that do it now")
    seen_at = models.DateTimeField(null=True, help_text="when its holder was last heard of")
    started_at = models.DateTimeField(null=True, help_text="of the last run")
    ended_at = models.DateTimeField(null=True, help_text="of the last run that ended")
    next_at = models.DateTimeField(help_text="nobody does it before")
    result = models.TextField(blank=True, help_text="what came of the last run that ended")

    def __str__(self) -> str:
        return self.name


class BucketRecord(models.Model):
    """What the catalog remembers of a bucket, to know it again (`assets.integrity.identity`)."""

    bucket = BytewiseCharField(max_length=255, primary_key=True)
    identity = models.UUIDField(help_text="also written into the bucket, where it can hold such a mark")
    generation = models.PositiveBigIntegerField(default=1, help_text="grows with each run; a restored backup is behind")

    def __str__(self) -> str:
        return self.bucket


class IntegrityRun(models.Model):
    """One comparison of catalog and buckets, or one undo: where it stands, and what came of it."""

    class Kind(models.TextChoices):
        """What the run was asked for."""

        VERIFY = "verify"
        SLICES = "slices"  # a comparison made piece by piece in the background
        REPAIR = "repair"

    class Status(models.TextChoices):
        """How it stands, or ended."""

        RUNNING = "running"
        CLEAN = "clean"
        FINDINGS = "findings"
        UNSURE = "unsure"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.RUNNING)
    deep = models.BooleanField(default=False)
    since = models.DateTimeField(null=True)
    phase = models.CharField(max_length=600, blank=True, help_text="what is being compared")
    after = models.CharField(max_length=1024, blank=True, help_text="the last key or id that is done in this phase")
    holder = models.CharField(max_length=300, blank=True, help_text="host and process that work on it")
    objects_seen = models.BigIntegerField(default=0)
    rows_seen = models.BigIntegerField(default=0)
    leftovers = models.BigIntegerField(default=0)
    hashed_bytes = models.BigIntegerField(default=0)
    listed = models.JSONField(default=dict, help_text="objects by bucket")
    counts = models.JSONField(default=dict, help_text="findings by kind")
    message = models.TextField(blank=True)
    started_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    undone_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["kind", "id"], condition=Q(status="running"), name="integrity_running")]

    def __str__(self) -> str:
        return self.pk.hex


class IntegrityFinding(models.Model):
    """One thing that a run found wrong: a report, never a work order."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(IntegrityRun, on_delete=models.CASCADE, related_name="findings")
    kind = models.CharField(max_length=32)
    bucket = models.CharField(max_length=255)
    key = models.TextField()
    row_id = models.CharField(max_length=64, blank=True)
    detail = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.bucket}/{self.key}"


class QuarantinedObject(models.Model):
    """An object that a repair set aside: recorded before its bytes move, kept as history after they went."""

    class State(models.TextChoices):
        """Where the bytes are."""

        MOVING = "moving"  # in the bucket, in quarantine, or (a moment) in both
        HELD = "held"  # in quarantine
        DELETING = "deleting"  # in quarantine, or gone
        DELETED = "deleted"
        RETURNED = "returned"  # in the bucket again

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(IntegrityRun, on_delete=models.CASCADE, related_name="quarantined")
    bucket = BytewiseCharField(max_length=255)
    key = BytewiseCharField(max_length=1024)
    size = models.BigIntegerField(help_text="bytes")
    state = models.CharField(max_length=8, choices=State.choices, default=State.MOVING)
    state_changed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "bucket", "key"], name="quarantine_run_key")]
        indexes = [
            models.Index(fields=["state_changed_at"], condition=Q(state="held"), name="quarantine_held"),
            models.Index(fields=["id"], condition=Q(state__in=["moving", "deleting"]), name="quarantine_unfinished"),
        ]

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"
