"""The doctor as a whole and part by part: it finds, it ends in time, it leaves nothing, it keeps every secret."""

from __future__ import annotations

import http.client
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from storagecache.doctor.bucket import judge_clock
from storagecache.doctor.examination import examine
from storagecache.doctor.masking import Mask
from storagecache.doctor.registry import Outcome, Part, all_parts, failed, ok
from storagecache.environment import Environment
from tests.doctor.conftest import Doctor, is_root
from tests.manage import Manage
from tests.ports import free_ports
from tests.servers import HOST, MemcachedServer, PostgresServer, SeaweedServer, Server, _accepts, require

CANARY = "canary-7f3b/+%"
PARTS = ["configuration", "folders", "database", "s3", "memcached", "addresses", "docker"]
SECRETS = [variable.name for variable in Environment.variables().values() if variable.secret]


def files(folder: Path) -> set[str]:
    """Give everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.endswith(("-shm", "-wal"))}


def test_healthy_installation_is_told_part_by_part_and_left_as_it_was(doctor: Doctor) -> None:
    before = files(doctor.manage.folder)
    report = doctor(PORT="1")
    assert report.code == 0
    assert list(dict.fromkeys(line["part"] for line in report.lines)) == PARTS
    assert [line["tried"] for line in report.bad()] == ["this service answers at http://127.0.0.1:1"]
    assert files(doctor.manage.folder) == before


def test_text_says_level_trouble_and_remedy(doctor: Doctor) -> None:
    answer = doctor.manage("doctor", NODETOOL_API_URL="http://no-such-host.invalid")
    lines = answer.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  failed"))
    assert "Missing asset URLs: The host no-such-host.invalid is not known" in lines[at]
    assert lines[at + 1].strip().startswith("mend: Correct NODETOOL_API_URL")
    assert lines[-1].endswith("1 failed")
    assert (answer.returncode, answer.stderr) == (1, "CommandError: 1 failed. See docs/troubleshooting.md.\n")


def test_catalog_that_was_never_made_is_told_and_not_made(manage: Manage) -> None:
    report = Doctor(manage)()
    (line,) = report.bad("database")
    assert (line["status"], report.code) == ("warning", 0)
    assert "There is no catalog" in line["detail"]
    assert "manage.py prepare" in line["remedy"]
    assert not (manage.folder / "nodetool.sqlite3").exists()


def test_migration_that_is_missing_is_told(doctor: Doctor) -> None:
    assert doctor.manage("migrate", "assets", "0010", "-v0").returncode == 0
    (line,) = doctor().bad("database")
    assert line["detail"].startswith("Missing: assets.0011")


@pytest.mark.parametrize(
    ("text", "said"), [("PORT: http\n", "PORT (from"), ("A: '", "is not valid YAML"), ("HOST: 0.0.0.0\n", "HOST (from")]
)
def test_wrong_configuration_is_a_finding_with_the_remedy(manage: Manage, text: str, said: str) -> None:
    manage.folder.mkdir()
    (manage.folder / "settings.yaml").write_text(text)
    report = Doctor(manage)()
    assert report.code == 1
    assert said in report.lines[0]["detail"]
    assert "settings set" in report.lines[0]["remedy"]


@pytest.mark.skipif(not is_root(), reason="needs root to mount")
def test_full_disk_is_told(doctor: Doctor, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        with pytest.raises(OSError, match="No space"):
            (small / "filler").write_bytes(bytes(2 << 20))
        report = doctor(TEMP_FOLDER=str(small))
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert "No space left" in report.bad("folders")[0]["detail"]
    assert "Free space or inodes" in report.bad("folders")[0]["remedy"]
    assert "(storagecache.W005)" in report.bad("configuration")[0]["detail"]


def test_folder_that_is_a_link_to_nowhere_is_told(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "assets").symlink_to(tmp_path / "unmounted")
    line = doctor(ASSET_FOLDER=str(tmp_path / "assets")).bad("folders")[0]
    assert f"a link to {tmp_path}/unmounted, which is not there" in line["detail"]


def test_good_bucket_is_tried_with_every_verb_and_left_empty(
    doctor: Doctor, s3_variables: dict[str, str], seaweedfs: SeaweedServer
) -> None:
    report = doctor(**s3_variables)
    assert report.bad("s3") == []
    assert len(report.of("s3")) == 9
    client, bucket = seaweedfs.client(), s3_variables["ASSET_BUCKET"]
    assert client.list_objects_v2(Bucket=bucket).get("Contents", []) == []
    assert client.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


def test_temp_bucket_is_tried_too(doctor: Doctor, s3_variables: dict[str, str], seaweedfs: SeaweedServer) -> None:
    report = doctor(ASSET_TEMP_BUCKET=seaweedfs.new_bucket(), **s3_variables)
    assert (report.bad("s3"), len(report.of("s3"))) == ([], 18)
    (line,) = doctor(ASSET_TEMP_BUCKET="no-such-bucket", **s3_variables).bad("s3")
    assert "ASSET_TEMP_BUCKET" in line["remedy"]


def test_bucket_that_is_not_there_is_told(doctor: Doctor, s3_variables: dict[str, str]) -> None:
    (line,) = doctor(**s3_variables | {"ASSET_BUCKET": "no-such-bucket"}).bad("s3")
    assert "There is no such bucket. (S3 answered 404 NoSuchBucket.)" in line["detail"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
def test_endpoint_where_nobody_answers_is_told(doctor: Doctor, s3_variables: dict[str, str], url: str) -> None:
    (line,) = doctor(**s3_variables | {"S3_ENDPOINT_URL": url}).bad("s3")
    assert f"No answer from {url}" in line["detail"]
    assert "S3_ENDPOINT_URL (from environment)" in line["remedy"]


def test_hung_s3_ends_in_time_and_the_rest_is_told(
    doctor: Doctor, s3_variables: dict[str, str], seaweedfs: SeaweedServer
) -> None:
    with seaweedfs.server.paused():
        report = doctor(**s3_variables)
    (line,) = report.bad("s3")
    assert "No answer from" in line["detail"]
    assert report.bad("database", "folders") == []


def test_bucket_whose_cors_leaves_pages_out_is_a_warning(
    doctor: Doctor, s3_variables: dict[str, str], seaweedfs: SeaweedServer
) -> None:
    rule = {"AllowedOrigins": ["https://other.example"], "AllowedMethods": ["GET"]}
    seaweedfs.client().put_bucket_cors(Bucket=s3_variables["ASSET_BUCKET"], CORSConfiguration={"CORSRules": [rule]})
    (line,) = doctor(**s3_variables).bad("s3")
    assert (line["status"], "(CORS, origin http://127.0.0.1:7777)" in line["tried"]) == ("warning", True)
    assert "S3_DELIVERY=proxy" in line["remedy"]
    assert doctor(S3_DELIVERY="proxy", **s3_variables).bad("s3") == []


def test_bucket_that_anybody_can_read_is_a_warning(
    doctor: Doctor, s3_variables: dict[str, str], seaweedfs: SeaweedServer
) -> None:
    bucket = s3_variables["ASSET_BUCKET"]
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy = {"Version": "2012-10-17", "Statement": [allow]}
    seaweedfs.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    (line,) = doctor(**s3_variables).bad("s3")
    assert (line["status"], line["detail"]) == ("warning", "Anybody who knows a key can read it.")
    public = f"{seaweedfs.endpoint_url}/{bucket}"
    assert doctor(NODETOOL_STORAGE_PUBLIC_URL=public, **s3_variables).bad("s3") == []


def test_keys_that_may_not_write_are_told(
    doctor: Doctor, s3_variables: dict[str, str], seaweedfs: SeaweedServer
) -> None:
    bucket = s3_variables["ASSET_BUCKET"]
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy = {"Version": "2012-10-17", "Statement": [deny]}
    seaweedfs.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
    (line,) = doctor(**s3_variables).bad("s3")
    assert line["trouble"] == "S3 authentication errors"
    assert "may not do this" in line["detail"]


def test_public_url_that_refuses_a_new_object_is_a_warning(
    doctor: Doctor, s3_variables: dict[str, str], seaweedfs: SeaweedServer
) -> None:
    url = f"{seaweedfs.endpoint_url}/{s3_variables['ASSET_BUCKET']}"
    (line,) = doctor(NODETOOL_STORAGE_PUBLIC_URL=url, **s3_variables).bad("s3")
    assert (line["status"], line["detail"]) == ("warning", "It answered 403 for a new object.")


@contextmanager
def behind_the_times(upstream: str, seconds: int) -> Iterator[str]:
    """Run a relay before an S3 server which makes its clock differ."""
    host, port = upstream.removeprefix("http://").split(":")

    class Relay(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection(host, int(port))
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in {"expect", "connection"}:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            self._answer(answer, answer.read())
            connection.close()

        def _answer(self, answer: http.client.HTTPResponse, body: bytes) -> None:
            self.send_response_only(answer.status)
            self.send_header("Date", format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True))
            for name, value in answer.getheaders():
                if name.lower() not in {"date", "transfer-encoding", "connection", "content-length"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _relay  # noqa: N815  # the library's own names

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((HOST, 0), Relay) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("seconds", "status", "code"), [(-300, "warning", 0), (7200, "failed", 1)])
def test_s3_whose_clock_differs_is_told(
    doctor: Doctor, s3_variables: dict[str, str], seconds: int, status: str, code: int
) -> None:
    with behind_the_times(s3_variables["S3_ENDPOINT_URL"], seconds) as url:
        report = doctor(**s3_variables | {"S3_ENDPOINT_URL": url})
    (line,) = report.bad("s3")
    assert (line["status"], line["trouble"], report.code) == (status, "S3 authentication errors", code)
    assert "They differ by" in line["detail"]
    assert "NTP" in line["remedy"]


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(0, "ok"), (59, "ok"), (-61, "warning"), (899, "warning"), (900, "failed"), (-4000, "failed")],
)
def test_clocks_that_differ_are_told(seconds: int, level: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert judge_clock(now + timedelta(seconds=seconds), now).level == level
    assert judge_clock(None, now).level == "ok"


def test_memcached_in_order_is_well(doctor: Doctor, memcached_server: MemcachedServer) -> None:
    report = doctor(MEMCACHE_HOST=f"{memcached_server.host}:{memcached_server.port}")
    assert (report.bad("memcached"), len(report.of("memcached"))) == ([], 5)


def test_memcached_node_that_is_gone_is_told_by_name(doctor: Doctor, memcached_server: MemcachedServer) -> None:
    report = doctor(MEMCACHE_HOST=f"{memcached_server.host}:{memcached_server.port},127.0.0.1:1")
    (line,) = report.bad("memcached")
    assert (line["status"], line["tried"]) == ("failed", "Memcached 127.0.0.1:1 answers")
    assert "MEMCACHE_HOST (from environment)" in line["remedy"]


@contextmanager
def memcached(folder: Path, *options: str) -> Iterator[str]:
    """Run a Memcached of our own."""
    program, port = require(shutil.which("memcached"), "the Debian package memcached"), free_ports(1)
    as_user = ["-u", "memcache"] if is_root() else []
    server = Server(
        [program, *as_user, "-U", "0", "-l", HOST, "-p", str(port), *options], folder, lambda: _accepts(port)
    )
    server.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        server.stop()


def test_memcached_with_small_items_and_no_eviction_is_a_warning(doctor: Doctor, tmp_path: Path) -> None:
    with memcached(tmp_path, "-I", "512k", "-M") as address:
        lines = doctor(MEMCACHE_HOST=address).bad("memcached")
    assert [(line["status"], line["remedy"]) for line in lines] == [
        ("warning", "Start it with -I 1m."), ("warning", "Start it without -M."),
    ]  # fmt: skip


def test_memcached_that_evicts_much_is_a_warning(doctor: Doctor, tmp_path: Path) -> None:
    from pymemcache.client.base import Client

    with memcached(tmp_path, "-m", "2") as address:
        client = Client(address)
        for number in range(200):
            client.set(f"k{number}", bytes(100_000))
        client.close()
        (line,) = doctor(MEMCACHE_HOST=address).bad("memcached")
    assert "Give it more memory" in line["remedy"]


def test_postgresql_is_told_before_and_behind_its_migrations(manage: Manage, postgres_server: PostgresServer) -> None:
    url = postgres_server.new_database()
    before = Doctor(manage)(DATABASE_URL=url).bad("database")
    assert [line["remedy"].split()[0] for line in before] == ["Install", "Run"]
    assert manage("prepare", DATABASE_URL=url).returncode == 0
    report = Doctor(manage)(DATABASE_URL=url)
    assert report.bad("database") == []
    assert "version 1" in report.of("database")[1]["detail"]


def test_database_that_does_not_answer_is_told_without_its_password(manage: Manage) -> None:
    report = Doctor(manage)(DATABASE_URL="postgres://app:canary-pw@127.0.0.1:1/app")
    (line,) = report.bad("database")
    assert "DATABASE_URL (from environment)" in line["remedy"]
    assert "canary-pw" not in report.text


def test_no_secret_is_in_any_output_when_everything_fails(manage: Manage, tmp_path: Path) -> None:
    values = {name: f"{CANARY}{name}" for name in SECRETS}
    values["DATABASE_URL"] = f"postgres://app:{quote(CANARY, safe='')}@127.0.0.1:1/app"
    values |= {"ASSET_STORAGE": "s3", "S3_ENDPOINT_URL": f"http://user:{quote(CANARY, safe='')}@127.0.0.1:1"}
    values |= {"NODETOOL_API_URL": f"http://user:{quote(CANARY, safe='')}@no-such-host.invalid"}
    values |= {"MEMCACHE_HOST": "127.0.0.1:1", "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    for options in ([], ["--json"]):
        answer = manage("doctor", *options, **values)
        said = answer.stdout + answer.stderr
        assert answer.returncode == 1
        assert "canary" not in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    "text", [CANARY, quote(CANARY, safe=""), f"x{CANARY}y", f"https://u:{CANARY}@h/", "ab", "is 'ab'.", "//a:b@h"]
)
def test_mask_takes_out_secrets_in_every_form(text: str, tmp_path: Path) -> None:
    assert CANARY not in Mask(None, CANARY, "ab")(text)
    assert quote(CANARY, safe="") not in Mask(None, CANARY)(text)
    assert "ab" not in Mask(None, "ab")(text).replace("able", "")
    assert Mask(None, "ab")("table") == "table"
    assert Mask(None)("https://b/k?X-Amz-Signature=abc&X-Amz-Credential=k/1") == (
        "https://b/k?X-Amz-Signature=***&X-Amz-Credential=***"
    )


def environment(tmp_path: Path) -> Environment:
    """Make an environment."""
    return Environment.load({"NODETOOL_CONFIG_DIR": str(tmp_path)}, project_folder=tmp_path)


@pytest.mark.django_db(transaction=True)
def test_part_that_hangs_is_told_with_what_it_found_and_holds_up_nobody(tmp_path: Path) -> None:
    never = threading.Event()

    def hung(_environment: Environment) -> Iterator[Outcome]:
        yield ok("the first step")
        never.wait()

    def broken(_environment: Environment) -> Iterator[Outcome]:
        yield ok("before")
        raise KeyError(CANARY)

    def quick(_environment: Environment) -> Iterator[Outcome]:
        yield failed("x", f"it said {CANARY}", f"not {CANARY}")

    probes: dict[str, Any] = {"hung": hung, "broken": broken, "quick": quick}
    parts = [Part(name=name, probe=probe, seconds=0.2) for name, probe in probes.items()]
    found = list(examine(environment(tmp_path), parts, Mask(None, CANARY)))
    never.set()
    told = [(finding.part, str(finding.outcome.level), finding.outcome.detail) for finding in found]
    assert told == [
        ("hung", "ok", ""),
        ("hung", "failed", "No answer within 0.2 s after: the first step."),
        ("broken", "ok", ""),
        ("broken", "failed", "KeyError: '***'"),
        ("quick", "failed", "it said ***"),
    ]


def test_every_part_is_registered_once_and_in_order() -> None:
    assert [part.name for part in all_parts()] == PARTS


def test_every_line_that_is_not_ok_has_a_remedy(manage: Manage, tmp_path: Path) -> None:
    answer = manage("doctor", "--json", ASSET_STORAGE="s3", S3_ENDPOINT_URL="http://127.0.0.1:1", S3_ACCESS_KEY_ID="k",
                    MEMCACHE_HOST="127.0.0.1:1", DOCKER_HOST=f"unix://{tmp_path}/no.sock")  # fmt: skip
    lines = [line for line in json.loads(answer.stdout)["checks"] if line["status"] != "ok"]
    assert len(lines) >= 5
    assert all(line["remedy"] and line["detail"] for line in lines)
