"""What is counted, and who may read it. How the processes of a run add up is in tests/server/test_observing.py."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.test import Client, RequestFactory
from django.utils import timezone

from assets.access import caller_address
from assets.models import Asset, IntegrityRun, ScheduledWork
from assets.services import purge
from nodetool_site import metrics
from nodetool_site.observing import request_id
from nodetool_site.runs import run_folder
from storagecache.environment import Environment
from storagecache.errors import BackendUnavailableError, ObjectNotFoundError
from storagecache.keys import new_object_key
from storagecache.metrics import NODE_CACHE, REGISTRY, Growth
from tests.roles import ChangeEnvironment, Everybody, remote, stored

PROJECT = Path(__file__).resolve().parent.parent


def sample(name: str, **labels: str) -> float:
    """Give a number of this process; 0 when it was never counted."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def shown(client: Client) -> dict[str, float]:
    """Read /metrics."""
    text = client.get("/metrics").content.decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def object_key() -> str:
    from assets.ids import new_id

    return new_object_key(new_id(), "bin")


@pytest.mark.parametrize(("sent", "status"), [("Bearer the-token", 200), ("Bearer the-tokem", 401), ("", 401)])
@pytest.mark.django_db
def test_metrics_answer_whoever_knows_the_token(
    change_environment: ChangeEnvironment, no_failures_yet: None, sent: str, status: int
) -> None:
    change_environment(metrics_token="the-token")
    assert remote(HTTP_AUTHORIZATION=sent).get("/metrics").status_code == status


@pytest.mark.django_db
def test_metrics_answer_this_machine_in_token_mode_but_not_its_proxies(change_environment: ChangeEnvironment) -> None:
    change_environment(auth_provider="token")
    assert Client().get("/metrics").status_code == 200
    assert Client(HTTP_X_FORWARDED_FOR="192.0.2.1").get("/metrics").status_code == 401


@pytest.mark.django_db(transaction=True)
def test_metrics_are_prometheus_text_that_nobody_stores() -> None:
    answer = Client().get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert "no-store" in answer.headers["Cache-Control"]
    assert shown(Client())["nodetool_catalog_up"] == 1


@pytest.mark.django_db(transaction=True)
def test_queue_and_last_comparison_come_from_the_catalog(everybody: Everybody) -> None:
    now = timezone.now()
    for counts, ended in (({"wrong_size": 9}, now - timedelta(days=1)), ({"stuck": 2, "wrong_digest": 1}, now)):
        IntegrityRun.objects.create(
            kind="verify", status="findings", counts=counts, started_at=now, updated_at=now, ended_at=ended
        )
    read = shown(Client())
    assert read['nodetool_queue{what="uploads"}'] == 0
    assert read["nodetool_jobs_running"] == 0
    assert read['nodetool_verify_findings{kind="stuck"}'] == 2
    assert read['nodetool_verify_findings{kind="all"}'] == 3
    assert read['nodetool_verify_ended_timestamp_seconds{status="findings"}'] == pytest.approx(now.timestamp())
    assert 'nodetool_verify_findings{kind="wrong_size"}' not in read


@pytest.mark.django_db(transaction=True)
def test_scrape_costs_six_bounded_statements(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(6) as asked:
        Client().get("/metrics")
    assert all("LIMIT" in query["sql"] for query in asked.captured_queries)


@pytest.mark.django_db(transaction=True)
def test_scheduled_work_tells_its_last_and_next_run_and_how_it_stands() -> None:
    now = timezone.now()
    ScheduledWork.objects.create(
        name="verify", status="attention", ended_at=now, next_at=now + timedelta(hours=1), result="1 finding"
    )
    ScheduledWork.objects.create(name="purge", next_at=now)
    read = shown(Client())
    assert read['nodetool_work_ended_timestamp_seconds{work="verify"}'] == now.timestamp()
    assert read['nodetool_work_next_timestamp_seconds{work="verify"}'] == (now + timedelta(hours=1)).timestamp()
    assert read['nodetool_work_status{status="attention",work="verify"}'] == 1
    assert read['nodetool_work_status{status="done",work="verify"}'] == 0
    assert read['nodetool_work_status{status="waiting",work="purge"}'] == 1
    assert 'nodetool_work_ended_timestamp_seconds{work="purge"}' not in read


@pytest.mark.django_db(transaction=True)
def test_lost_catalog_is_told_and_the_rest_is_there() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE assets_storedobject RENAME TO assets_aside")
    try:
        read = shown(Client())
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE assets_aside RENAME TO assets_storedobject")
    assert read["nodetool_catalog_up"] == 0
    assert "nodetool_jobs_running" not in read
    assert "nodetool_purged_objects_total" in read


@pytest.mark.django_db(transaction=True)
def test_purge_is_counted(everybody: Everybody) -> None:
    before = sample("nodetool_purged_objects_total"), sample("nodetool_purged_bytes_total")
    asset = stored(everybody.owner, "gone.txt", b"12345", bucket="temp")
    Asset.objects.filter(pk=asset.pk).update(expires_at=timezone.now() - timedelta(days=2))
    purge(dry_run=True)
    assert sample("nodetool_purged_objects_total") == before[0]
    started = timezone.now().timestamp()
    report = purge()
    assert report.objects == 1
    assert sample("nodetool_purged_objects_total") == before[0] + 1
    assert sample("nodetool_purged_bytes_total") == before[1] + 5
    assert sample("nodetool_purge_ended_timestamp_seconds") >= started


def test_storage_verbs_are_timed_and_failures_counted(tmp_path: Path) -> None:
    from storagecache.storages.filesystem import FilesystemObjectStorage

    labels = {"backend": "filesystem", "operation": "save"}
    counted = sample("nodetool_storage_seconds_count", **labels)
    storage = FilesystemObjectStorage(location=tmp_path / "bucket")
    key = object_key()
    storage.save(key, io.BytesIO(b"x"))
    assert sample("nodetool_storage_seconds_count", **labels) == counted + 1
    lost = FilesystemObjectStorage(location=tmp_path / "not" / "mounted")
    error = {"backend": "filesystem", "operation": "check_ready", "error": "BackendUnavailableError"}
    failed = sample("nodetool_storage_errors_total", **error)
    with pytest.raises(BackendUnavailableError):
        lost.check_ready()
    assert sample("nodetool_storage_errors_total", **error) == failed + 1
    with pytest.raises(ObjectNotFoundError):
        storage.open(object_key())
    absent = {"backend": "filesystem", "operation": "open", "error": "ObjectNotFoundError"}
    assert sample("nodetool_storage_errors_total", **absent) == 0


def test_s3_calls_errors_and_retries_are_counted() -> None:
    from storagecache.storages.s3 import S3ObjectStorage

    labels = {"call": "HeadObject"}
    error = labels | {"error": "EndpointConnectionError"}
    names = ("nodetool_s3_retries_total", "nodetool_s3_seconds_count")
    before = [sample(name, **labels) for name in names], sample("nodetool_s3_errors_total", **error)
    storage = S3ObjectStorage(
        bucket="bucket", endpoint_url="http://127.0.0.1:9", access_key="a", secret_key="b", max_attempts=2
    )
    with pytest.raises(BackendUnavailableError):
        storage.size(object_key())
    assert [sample(name, **labels) for name in names] == [number + 1 for number in before[0]]
    assert sample("nodetool_s3_errors_total", **error) == before[1] + 1


def test_node_cache_counts_grow_by_what_was_added_since() -> None:
    growth, labels = Growth(), ("l9", "hits")
    for value in (3, 3, 5, 1):  # a fall: the counter began anew
        growth.add({labels: value})
    assert NODE_CACHE.labels(*labels)._value.get() == 6


def test_node_cache_of_the_process_is_read_once_it_is_in_use() -> None:
    cache = Environment.get_node_cache()
    metrics.flush()
    before = sample("nodetool_node_cache_total", tier="all", event="misses")
    cache.get("no such key")
    metrics.flush()
    assert sample("nodetool_node_cache_total", tier="all", event="misses") == before + 1


@pytest.mark.parametrize("brought", ["abc-1._X", "a" * 64])
def test_request_id_of_a_proxy_is_kept(brought: str) -> None:
    assert request_id({"HTTP_X_REQUEST_ID": brought}) == brought


@pytest.mark.parametrize("brought", ["", "a" * 65, "a b", 'a"', "a\n", "ä", "a\tb=1"])
def test_request_id_that_is_none_is_replaced_by_a_new_one(brought: str) -> None:
    first, second = (request_id({"HTTP_X_REQUEST_ID": brought}) for _ in range(2))
    assert brought not in (first, second)
    assert first != second


@pytest.mark.parametrize(
    ("address", "forwarded", "caller"),
    [
        ("10.1.2.3", "192.0.2.1, 192.0.2.9", "192.0.2.9"),
        ("::ffff:10.1.2.3", "192.0.2.9", "192.0.2.9"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("192.0.2.5", "192.0.2.9", "192.0.2.5"),
        ("127.0.0.1", "192.0.2.9", "192.0.2.9"),
    ],
)
def test_caller_behind_a_trusted_proxy_is_whom_it_names(
    change_environment: ChangeEnvironment, address: str, forwarded: str, caller: str
) -> None:
    from storagecache.casts import networks

    change_environment(trusted_proxies=networks("10.0.0.0/8"))
    request = RequestFactory().get("/", REMOTE_ADDR=address, HTTP_X_FORWARDED_FOR=forwarded)
    assert caller_address(request) == caller


def test_run_folder_of_a_dead_run_is_removed_and_of_a_live_one_kept(tmp_path: Path) -> None:
    (tmp_path / "web-worker-host-1").mkdir()
    (tmp_path / "web-worker-host-1" / "counter_1.db").write_bytes(b"")
    with run_folder(tmp_path, "web") as one, run_folder(tmp_path, "worker") as two:
        assert sorted(tmp_path.iterdir()) == sorted([one, two])
        assert two.name.startswith("worker-")
    assert list(tmp_path.iterdir()) == []


def test_storages_of_the_service_name_their_backend() -> None:
    assert storages["assets"]._kind == "memory"  # type: ignore[attr-defined]


LOOK = (
    "import {limit} sys; from storagecache import metrics as m; m.PURGED_OBJECTS.inc(3); sys.stdout.write(str("
    "(m.is_shared(), m.REGISTRY.get_sample_value('nodetool_purged_objects_total'))))"
)
NO_ROOM = "resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); import"


@pytest.mark.skipif(sys.platform != "linux", reason="takes room as Linux does")
@pytest.mark.parametrize(("limit", "shared"), [("", True), (NO_ROOM, False)], ids=["room", "no room"])
def test_files_of_numbers_have_their_room_or_are_not_used(tmp_path: Path, limit: str, shared: bool) -> None:
    variables = os.environ | {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "NODETOOL_CONFIG_DIR": str(tmp_path / "config"),
    }
    command = [sys.executable, "-c", LOOK.format(limit=limit)]
    done = subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == str((shared, 3.0))
    files = [path.stat() for path in tmp_path.glob("*.db")]
    assert not shared or (len(files) == 3 and all(file.st_blocks * 512 >= file.st_size >= 1 << 16 for file in files))


def test_runs_that_start_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from nodetool_site.runs import run_folder\n"
        "with run_folder(pathlib.Path(sys.argv[1]), 'web') as folder:\n"
        "    (folder / 'own').touch(); sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read(); "
        "sys.exit(0 if (folder / 'own').exists() else 1)"
    )
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, stdin=pipe, stdout=pipe)
        for _ in range(6)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
    assert len(list(tmp_path.iterdir())) == 6
    for process in started:
        process.communicate(timeout=20)
    assert [process.returncode for process in started] == [0] * 6
    assert list(tmp_path.iterdir()) == []
