"""`python -m bench.library`: lists, search, filters, lineage and trees in a catalog of a million assets.

The catalog is made by `generate_catalog` in SQLite, or in the empty PostgreSQL database that DATABASE_URL names; with
--folder it is kept, and found again. A figure is a whole request through Django, without a socket.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

if TYPE_CHECKING:
    from django.test import Client

    from assets.services.listing import Order

ROUNDS: Final = 30
WARM: Final = 3  # requests that are not counted
PAGE: Final = 100
FAR: Final = 5000  # the page in the middle
TREE: Final = 1000  # files of the folder that is read with all it holds


@dataclass(frozen=True, slots=True)
class Question:
    """A request, who asks it, and what it may cost, by engine."""

    name: str
    path: str
    target_ms: dict[str, float]
    client: Client


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m bench.library", description=__doc__)
    parser.add_argument("--assets", type=int, default=1_000_000)
    parser.add_argument("--folder", help="keeps the catalog here, and measures the one that it finds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-") as aside:
        os.environ |= {
            "NODETOOL_CONFIG_DIR": options.folder or aside,
            "DJANGO_SETTINGS_MODULE": "nodetool_site.settings",
        }
        os.environ.setdefault("LOG_LEVEL", "WARNING")
        import django

        django.setup()
        _fill(options.assets)
        from nodetool_site.settling import settle

        settle()  # as a web process does before its first request
        _report(options.assets)


def _fill(count: int) -> None:
    from django.core.management import call_command

    from assets.models import Asset

    call_command("migrate", verbosity=0)
    if not Asset.objects.exists():
        call_command("generate_catalog", assets=count, owners=2, edges=3 * count)
        call_command("generate_catalog", assets=TREE, folders=1, yes=True)


def _report(count: int) -> None:
    from django.db import connection

    print(
        f"{count:,} assets, {connection.vendor}\n\n| request | found | median ms | CPU ms | target ms |\n|---|---|---|---|---|"
    )
    for question in _questions(count):
        found, times, cpu = _measure(question)
        target = question.target_ms.get(connection.vendor, question.target_ms.get("", 0))
        print(
            f"| {question.name} | {found} | {statistics.median(times):.1f} | {cpu:.1f} | {target:.0f} |",
            flush=True,
        )


def _measure(question: Question) -> tuple[int, list[float], float]:
    """Give how many assets the answer holds, the milliseconds of each request, and the mean of their CPU."""
    for _ in range(WARM):
        found = _found(question)
    times, costs = [], []
    for _ in range(ROUNDS):
        begin, spent = time.perf_counter(), _cpu()
        question.client.get(question.path)
        times.append((time.perf_counter() - begin) * 1e3)
        costs.append((_cpu() - spent) * 1e3)
    return found, times, statistics.mean(costs)


def _cpu() -> float:
    """Give the seconds that this process has computed, and PostgreSQL for it; the latter is counted in hundredths."""
    from django.db import connection

    if connection.vendor != "postgresql":
        return time.process_time()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        fields = Path(f"/proc/{cursor.fetchone()[0]}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _found(question: Question) -> int:
    answer = question.client.get(question.path)
    if answer.status_code != 200:
        raise RuntimeError(f"{question.path} answered {answer.status_code}: {answer.content!r}")
    body = answer.json()
    if "nodes" in body:
        return len(body["nodes"])
    assets = body["assets"]
    return len(assets[0].get("children", assets)) if assets else 0


def _questions(count: int) -> Iterator[Question]:
    owner, other = _clients()
    yield from _pages(owner, count)
    for name, term, target in (
        ("search, a word in one of 100,000 names", "needle", {"": 15.0}),
        ("search, a word in no name", "zeppelin", {"": 15.0}),
        ("search, two letters", "ha", {"sqlite": 150.0, "": 450.0}),
        ("search, two letters in no name", "qx", {"sqlite": 150.0, "": 450.0}),
    ):
        yield Question(name, _search(term), target, owner)
    yield Question("search, owner of 100, what all names hold", _search(" 0"), {"": 50.0}, other)
    yield Question("search, owner of 100, what two in five names hold", _search("png"), {"": 50.0}, other)
    for name, query in (
        ("one number", {"meta.seed": count // 2 * 2_654_435_761 % (1 << 32)}),
        ("a bound", {"meta.cfg__gte": 7}),
        ("a number and a bound", {"meta.model": "model-3", "meta.cfg__gte": 19}),
        ("a bound, by name", {"meta.cfg__gte": 19, "order": "name"}),
    ):
        yield Question(f"filter by metadata, {name}", _list(**query), {"": 50.0}, owner)
    yield from _walks(owner, count)


def _clients() -> tuple[Client, Client]:
    """Give the local user, who owns nearly all, and one who owns a hundred assets."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    owner, other = Client(SERVER_NAME="127.0.0.1"), Client(SERVER_NAME="127.0.0.1")
    other.force_login(get_user_model().objects.order_by("pk")[1])
    return owner, other


def _pages(owner: Client, count: int) -> Iterator[Question]:
    orders: tuple[Order, ...] = ("created", "-created", "name", "-size")
    for order in orders:
        yield Question(f"list by {order}, first page of {PAGE}", _list(order=order), {"": 15.0}, owner)
        if count >= 2 * FAR * PAGE:
            far = _list(order=order, cursor=_cursor(order))
            yield Question(f"list by {order}, page {FAR:,}", far, {"": 15.0}, owner)


def _cursor(order: Order) -> str:
    """Make the cursor of the page, as the one before it would: walking there would take longer than all the rest."""
    from assets.models import Asset
    from assets.services.cursors import Cursor, encode_cursor
    from assets.services.listing import Filters

    columns = {"created": "pk", "-created": "-pk", "name": "name_key", "-size": "-size"}
    sign = "-" if order.startswith("-") else ""
    rows = Asset.objects.filter(owner_id=1, parent=None, trashed_at=None, is_folder=False)
    before = rows.order_by(columns[order], f"{sign}pk")[(FAR - 1) * PAGE - 1]
    name = before.name_key if order == "name" else ""
    end = Cursor(before.pk, name, before.size if order == "-size" else None)
    return encode_cursor(end, Filters().bound_to(1, order))


def _walks(owner: Client, count: int) -> Iterator[Question]:
    from assets.models import Asset

    live = Asset.objects.filter(owner_id=1, is_folder=False).order_by("pk")
    for name, place in (("the middle", count // 2), ("the newest", count - 150)):
        path = f"/api/assets/{live[place].pk.hex}/lineage?depth=10"
        yield Question(f"lineage to depth 10 from {name}", path, {"": 50.0}, owner)
    folder = Asset.objects.filter(owner_id=1, is_folder=True).latest("pk")
    yield Question(f"tree of {TREE:,}", f"/api/assets/{folder.pk.hex}/recursive", {"": 60.0}, owner)


def _list(**query: object) -> str:
    return "/api/assets?" + urlencode({"page_size": PAGE} | query)


def _search(term: str) -> str:
    return "/api/assets/search?" + urlencode({"query": term, "page_size": PAGE})


if __name__ == "__main__":
    main()
