"""Log lines: their form, their request, and what is taken out of them."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from nodetool_site import logs
from storagecache.environment import Environment

SECRET = "canary-secret-0123456789"
SIGNATURE = "canaryABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"


@contextmanager
def writing(form: str) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """Give a logger that writes as the service's do, and what it wrote."""
    made = logs.configuration("DEBUG", form=form, secrets=[SECRET, "abc"])
    formatter: logging.Formatter = made["formatters"]["line"]["()"]()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("tests.logs", logging.DEBUG)
    logger.addHandler(handler)
    token = logs.REQUEST_ID.set("")
    try:
        yield logger, stream
    finally:
        logs.REQUEST_ID.reset(token)


def test_json_line_is_one_object_with_the_request() -> None:
    with writing("json") as (logger, stream):
        logs.REQUEST_ID.set("id-1")
        logger.warning("event key=%s", 'a "quoted"\nvalue')
    line: dict[str, Any] = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "tests.logs",
        "message": 'event key=a "quoted"\nvalue',
        "request_id": "id-1",
    }


def test_json_line_of_an_exception_holds_its_traceback() -> None:
    with writing("json") as (logger, stream):
        try:
            raise ValueError(f"wrong {SECRET}")
        except ValueError:
            logger.exception("failed")
    line = json.loads(stream.getvalue())
    assert "ValueError: wrong ***" in line["exception"]
    assert "request_id" not in line


def test_text_line_names_the_request() -> None:
    with writing("text") as (logger, stream):
        logger.info("before")
        logs.REQUEST_ID.set("id-2")
        logger.info("event")
    before, event = stream.getvalue().splitlines()
    assert before.endswith("INFO tests.logs before")
    assert event.endswith("INFO tests.logs [id-2] event")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "said",
    [
        f"key is {SECRET}",
        f'quoted "{SECRET}"',
        f"GET /storage/assets/a?expires=1&key_id=0&object=0&signature={SIGNATURE} failed",
        f"https://s3/b/k?X-Amz-Credential=AK%2F1&X-Amz-Expires=9&X-Amz-Signature={SIGNATURE}",
        f"params signature={SIGNATURE}",
        f"Authorization: Bearer {SIGNATURE}",
        f"Authorization: Basic {SIGNATURE}",
        f"token nts_{SIGNATURE}",
        f"postgres://app:{SIGNATURE}@db:5432/app",
        f"AWS4-HMAC-SHA256 Credential={SIGNATURE}, SignedHeaders=host, Signature={SIGNATURE}",
    ],
)
def test_line_with_a_secret_leaves_it_out(form: str, said: str) -> None:
    with writing(form) as (logger, stream):
        logger.error("event reason=%s", said)
    assert "***" in stream.getvalue()
    assert "canary" not in stream.getvalue()
    assert "AK%2F1" not in stream.getvalue()


def test_line_without_a_secret_stays_as_it_is() -> None:
    said = "asset created bucket=assets key=a?b size=1 https://host/path?page=2 signature of abc //server/share a@b"
    assert logs.masked(said, [SECRET]) == said


def test_short_secrets_are_no_reason_to_cut_words() -> None:
    with writing("text") as (logger, stream):
        logger.info("abcdef")
    assert "abcdef" in stream.getvalue()


def test_talkative_libraries_are_held_at_info() -> None:
    made = logs.configuration("DEBUG", form="text", secrets=[])
    assert {made["loggers"][name]["level"] for name in ("botocore", "boto3", "urllib3", "s3transfer")} == {"INFO"}


def test_secrets_of_an_environment_are_all_known(tmp_path: Any) -> None:
    secret = {
        "SECRET_KEY": "a" * 50,
        "SECRET_KEY_FALLBACKS": "b" * 50 + "," + "c" * 50,
        "S3_ACCESS_KEY_ID": "d" * 20,
        "S3_SECRET_ACCESS_KEY": "e" * 20,
        "ADMIN_PASSWORD": "f" * 20,
        "METRICS_TOKEN": "g" * 20,
        "DATABASE_URL": "postgres://app:hhhhhhhhh@127.0.0.1/app",
    }
    made = Environment.load(secret | {"NODETOOL_CONFIG_DIR": str(tmp_path)}, under_pytest=False)
    wanted = {part for name, text in secret.items() if name != "DATABASE_URL" for part in text.split(",")}
    assert set(made.secrets()) == wanted | {made.database_url, "hhhhhhhhh"}
    declared = {variable.name for variable in Environment.variables().values() if variable.secret}
    assert declared == set(secret)


def test_python_knows_the_configuration() -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logging.config.dictConfig(logs.configuration("INFO", form="json", secrets=[SECRET]))
        (handler,) = logging.getLogger().handlers
        assert isinstance(handler.formatter, logs.JsonFormatter)
        assert getattr(handler, "stream", None) is sys.stderr
    finally:
        logging.getLogger().handlers, logging.getLogger().level = before
