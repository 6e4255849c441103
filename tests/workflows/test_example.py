"""The example of five nodes: every strategy, on disk and on S3; computed once, then taken from the node cache."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User

from assets.models import Asset, Derivation, Job
from assets.services import open_asset
from examples.five_nodes.run import GRAPH, run_workflow, sample_image
from tests.manage import Manage
from tests.workflows.conftest import make_asset, make_execution, make_place

NAMES = [node.name for node in GRAPH]


@pytest.mark.parametrize("kind", ["filesystem", "s3"])
@pytest.mark.parametrize("strategy", ["threaded", "subprocess", "docker"])
def test_five_nodes_run_once_and_come_from_the_cache_then(
    strategy: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path, settings: Any, owner: User
) -> None:
    make_place(kind, "token", request, tmp_path, settings)
    source = make_asset(owner, "source.png", sample_image())
    execution, workflow = make_execution(strategy, request), uuid4().hex

    first = run_workflow(owner, source.pk, execution, workflow_id=workflow)
    second = run_workflow(owner, source.pk, execution, workflow_id=workflow)

    assert (first.computed, second.computed) == (NAMES, [])
    assert second.assets == first.assets
    assert second.results == first.results
    assert Job.objects.filter(workflow_id=workflow, strategy=strategy, state="succeeded").count() == 5
    assert_lineage(first.assets, workflow)
    last = Asset.objects.select_related("object").get(pk=first.assets["sound"])
    assert last.content_type == "audio/wav"
    with open_asset(last) as stream, wave.open(io.BytesIO(stream.read())) as sound:
        assert sound.getnframes() == 64 * 160


def assert_lineage(assets: dict[str, str], workflow: str) -> None:
    """Assert that each output names its workflow, node and job, and the assets it was made from."""
    for node in GRAPH:
        asset = Asset.objects.get(pk=assets[node.name])
        assert (asset.workflow_id, asset.node_id) == (workflow, node.name)
        assert Job.objects.get(pk=asset.job_id).outputs[0]["id"] == asset.pk.hex
        sources = set(Derivation.objects.filter(asset=asset).values_list("source", flat=True))
        assert sources == {UUID(assets[name]) for name in node.reads}


def test_deleted_output_is_computed_again(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Any, owner: User
) -> None:
    make_place("filesystem", "local", request, tmp_path, settings)
    source = make_asset(owner, "source.png", sample_image())
    execution, workflow = make_execution("threaded", request), uuid4().hex
    first = run_workflow(owner, source.pk, execution, workflow_id=workflow)
    Asset.objects.filter(pk=first.assets["sound"]).delete()
    second = run_workflow(owner, source.pk, execution, workflow_id=workflow)
    assert second.computed == ["sound"]


def test_example_runs_as_a_program(manage: Manage) -> None:
    import subprocess
    import sys

    from tests.manage import PROJECT

    assert manage("prepare").returncode == 0
    _, environment = manage.how()
    command = [sys.executable, "-m", "examples.five_nodes.run"]
    for how in ("computed", "from the cache"):
        answer = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        lines = [line.split(maxsplit=2) for line in answer.stdout.splitlines()]
        assert [(line[0], line[2]) for line in lines] == [(name, how) for name in NAMES]
