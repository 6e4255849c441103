"""Jobs in the admin: a list, a page with outputs and log, nothing to change, nothing for others."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from assets.ids import new_id
from assets.models import Job
from assets.services.jobs import JobEnd, finish_job, open_job
from tests.admin.conftest import HOSTILE, MakeAsset, MakeUser


@pytest.fixture
def job(transactional_db: None, make_user: MakeUser, make_asset: MakeAsset) -> Job:
    """Give a failed job with one output and hostile texts."""
    user = make_user("worker")
    job = open_job(new_id(), user=user, strategy="docker", task=HOSTILE, workflow="w-1", node="n")
    output = make_asset(owner=user, name=HOSTILE)
    finish_job(job, JobEnd("failed", exit_code=3), log_tail=f"{HOSTILE}\nsecond", outputs=[output], problems=[HOSTILE])
    return job


def test_list_and_page_show_the_job_and_script_nothing(job: Job, admin_client: Client) -> None:
    page = admin_client.get("/admin/assets/job/?q=w-1").content.decode()
    assert job.pk.hex in page.replace("-", "")
    shown = admin_client.get(f"/admin/assets/job/{job.pk}/change/").content.decode()
    assert job.outputs[0]["id"] in shown.replace("-", "")
    assert "second" in shown
    for text in (page, shown):
        assert HOSTILE not in text


@pytest.mark.parametrize(
    ("query", "found"), [("state=failed", 1), ("state=lost", 0), ("strategy=docker", 1), ("q=zzz", 0)]
)
def test_list_is_filtered(job: Job, admin_client: Client, query: str, found: int) -> None:
    page = admin_client.get(f"/admin/assets/job/?{query}").content.decode()
    assert page.count(f"/admin/assets/job/{job.pk}/change/") == found


def test_running_job_can_be_found_by_its_id(transactional_db: None, admin_client: Client, admin_user: User) -> None:
    job = open_job(new_id(), user=admin_user, strategy="threaded", task="t", workflow="", node="")
    assert str(job.pk) in admin_client.get(f"/admin/assets/job/?q={job.pk.hex}").content.decode()
