"""The search index: an FTS5 table of trigrams on SQLite, a trigram index on PostgreSQL; and the attributes of old rows."""

from django.db import DatabaseError, NotSupportedError, migrations

SQLITE = (
    'CREATE VIRTUAL TABLE "assets_search" USING fts5 '
    "(name, asset UNINDEXED, owner UNINDEXED, tokenize='trigram case_sensitive 1')"
)
# Without a list of pending entries, which every search would read through.
POSTGRESQL = (
    'CREATE INDEX "asset_name_trigrams" ON "assets_asset" USING gin ("name_folded" gin_trgm_ops) '
    'WITH (fastupdate = off) WHERE "trashed_at" IS NULL'
)
EXTENSION = "SELECT 1 FROM pg_extension WHERE extname = 'pg_trgm'"


def make_index(apps, editor):
    {"sqlite": _make_sqlite, "postgresql": _make_postgresql}[editor.connection.vendor](editor)


def _make_sqlite(editor):
    try:
        editor.execute(SQLITE)
    except DatabaseError as error:
        text = "Search needs SQLite 3.34 or newer, built with FTS5. Use a newer Python or set DATABASE_URL to PostgreSQL."
        raise NotSupportedError(text) from error


def _make_postgresql(editor):
    with editor.connection.cursor() as cursor:
        cursor.execute(EXTENSION)
        known = cursor.fetchone()
    if known is None:
        _add_extension(editor)
    editor.execute(POSTGRESQL)


def _add_extension(editor):
    try:
        editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except DatabaseError as error:
        text = (
            "Search needs the extension pg_trgm (package postgresql-contrib). "
            "Let an administrator run CREATE EXTENSION pg_trgm in this database, then migrate again."
        )
        raise NotSupportedError(text) from error


def drop_index(apps, editor):
    if editor.connection.vendor == "sqlite":
        editor.execute('DROP TABLE "assets_search"')
    else:
        editor.execute('DROP INDEX "asset_name_trigrams"')


def fill(apps, editor):
    """Index what is there; `rebuild_search` does the same later on."""
    from assets.attributes import attributes_of
    from assets.ids import search_row

    asset, attribute = apps.get_model("assets", "Asset"), apps.get_model("assets", "AssetAttribute")
    live = asset.objects.filter(trashed_at=None).only("id", "owner_id", "name_folded", "metadata", "tags")
    names, rows = [], []
    for found in live.order_by("id").iterator(chunk_size=1000):
        names.append((search_row(found.id), found.name_folded, found.id.hex, found.owner_id))
        rows += [
            attribute(asset_id=found.id, owner_id=found.owner_id, name=one.name, text=one.text, number=one.number)
            for one in attributes_of(found.metadata, found.tags)
        ]
        if len(names) >= 1000:
            _write(editor, attribute, names, rows)
    _write(editor, attribute, names, rows)


def _write(editor, attribute, names, rows):
    if editor.connection.vendor == "sqlite" and names:
        with editor.connection.cursor() as cursor:
            cursor.executemany('INSERT INTO "assets_search" (rowid, name, asset, owner) VALUES (%s, %s, %s, %s)', names)
    attribute.objects.bulk_create(rows, batch_size=500)
    names.clear()
    rows.clear()


class Migration(migrations.Migration):

    dependencies = [
        ('assets', '0010_integrity'),
    ]

    operations = [
        migrations.RunPython(make_index, drop_index),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
