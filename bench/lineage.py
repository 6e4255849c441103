"""`python -m bench.lineage`: walks of lineage in a catalog of a million assets and three million edges.

The catalog is made here, in SQLite, or in the empty PostgreSQL database that DATABASE_URL names.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

TARGET_MS: Final = 50.0
ROUNDS: Final = 40
REACH: Final = 1000  # how far back the sources of an asset lie
HUB: Final = 7  # every tenth asset was made from this one, too


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m bench.lineage", description=__doc__)
    parser.add_argument("--assets", type=int, default=1_000_000)
    count = parser.parse_args().assets
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.environ |= {"NODETOOL_CONFIG_DIR": folder, "DJANGO_SETTINGS_MODULE": "nodetool_site.settings"}
        os.environ.setdefault("LOG_LEVEL", "WARNING")
        import django

        django.setup()
        edges = _fill(count)
        print(f"{count:,} assets, {edges:,} edges\n\n| walk | nodes | edges | median ms | worst ms | target ms |")
        print("|---|---|---|---|---|---|")
        for name, starts in _starts(count).items():
            print(_line(name, starts), flush=True)


def _starts(count: int) -> dict[str, list[int]]:
    chosen = random.Random(1)
    return {
        "depth 10 from the middle": [chosen.randrange(count // 4, count * 3 // 4) for _ in range(ROUNDS)],
        "depth 10 from the newest": [count - 1 - number for number in range(ROUNDS)],
        "depth 10 from a source of a tenth of all": [HUB] * ROUNDS,
        "used by, of a source of a tenth of all": [HUB] * ROUNDS,
    }


def _line(name: str, starts: list[int]) -> str:
    times = []
    for start in starts:
        elapsed, nodes, edges = _timed(start, is_list=name.startswith("used by"))
        times.append(elapsed * 1e3)
    return f"| {name} | {nodes} | {edges} | {statistics.median(times):.1f} | {max(times):.1f} | {TARGET_MS:.0f} |"


def _timed(start: int, *, is_list: bool) -> tuple[float, int, int]:
    """Give the seconds of one walk, and how many assets and edges it found."""
    from assets.models import Asset
    from assets.services.lineage import trace, used_by

    asset = Asset.objects.select_related("object").get(pk=UUID(int=start))
    begin = time.perf_counter()
    if is_list:
        uses = used_by([asset.pk], limit=20)
        return time.perf_counter() - begin, len(uses.assets), 0
    found = trace(asset, depth=10)
    return time.perf_counter() - begin, len(found.nodes), len(found.edges)


def _fill(count: int) -> int:
    """Make the rows with one statement each."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection

    from assets.models import Derivation, StoredObject

    call_command("migrate", verbosity=0)
    now = datetime.now(UTC)
    user = get_user_model().objects.create_user("owner")
    StoredObject(
        id=UUID(int=1), storage="assets", bucket="assets", key="k", size=1, sha256="0" * 64, content_type="image/png",
        state="ready", state_changed_at=now, referenced_at=now, created_at=now,
    ).save(force_insert=True)  # fmt: skip
    sqlite = connection.vendor == "sqlite"
    as_id = "printf('%%032x', {})" if sqlite else "lpad(to_hex({}), 32, '0')::uuid"
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %s)"
    with connection.cursor() as cursor:
        if sqlite:
            cursor.execute("PRAGMA synchronous = OFF")
        cursor.execute(
            _ASSETS.format(numbers=numbers, id=as_id.format("i"), one=as_id.format("1")),
            [count - 1, now, now, now, user.pk],
        )
        for factor in (7919, 104_729, 611_953):
            source = f"i - 1 - (i * {factor}) % {REACH}"
            cursor.execute(
                _EDGES.format(numbers=numbers, id=as_id.format("i"), source=as_id.format(source)), [count - 1, REACH]
            )
        cursor.execute(
            _EDGES.format(numbers=numbers, id=as_id.format("i"), source=as_id.format(HUB)).replace(
                "i > %s", "i > %s AND i %% 10 = 0"
            ),
            [count - 1, REACH],
        )
        cursor.execute("ANALYZE")
    return Derivation.objects.count()


_ASSETS: Final = """
INSERT INTO assets_asset (id, bucket, key, object_id, name, name_folded, is_folder, content_type, size, metadata, tags,
    is_public, workflow_id, job_id, node_id, created_at, updated_at, content_changed_at, revision, owner_id)
{numbers} SELECT {id}, 'assets', 'k' || i, {one}, 'picture ' || i, 'picture ' || i, false, 'image/png', 1, '{{}}', '[]',
    false, '', '', '', %s, %s, %s, 1, %s FROM n"""
_EDGES: Final = """
INSERT INTO assets_derivation (asset_id, source_id, job_id, node_id)
{numbers} SELECT {id}, {source}, '', '' FROM n WHERE i > %s ON CONFLICT DO NOTHING"""


if __name__ == "__main__":
    main()
