"""The example of five nodes: every strategy, on disk and on S3; computed once, then taken from the node cache."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User

from assets.models import Asset, Derivation, Job
from assets.workflows import AssetRef, ProcessingContext
from examples.five_nodes.run import GRAPH, Run, run_workflow, sample_image
from storagecache.environment import Environment
from tests.manage import Manage
from tests.workflows.conftest import make_execution, make_place

NAMES = [node.name for node in GRAPH]


@pytest.mark.parametrize("kind", ["filesystem", "s3"])
@pytest.mark.parametrize("strategy", ["threaded", "subprocess", "docker"])
def test_five_nodes_run_once_and_come_from_the_cache_then(
    strategy: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path, settings: Any, owner: User
) -> None:
    make_place(kind, "token", request, tmp_path, settings)
    execution, workflow = make_execution(strategy, request), uuid4().hex
    context, source = make_context(owner, workflow)

    first = run_workflow(context, source, execution)
    computed = Environment.get_node_cache().stats()["computes"]
    second = run_workflow(context, source, execution)

    assert (first.computed, second.computed) == (NAMES, [])
    assert Environment.get_node_cache().stats()["computes"] == computed
    assert ids(second) == ids(first)
    assert second.results == first.results
    assert Job.objects.filter(workflow_id=workflow, strategy=strategy, state="succeeded").count() == 5
    assert_lineage(ids(first), workflow)
    assert context.find_asset(ids(first)["sound"]).content_type == "audio/wav"
    with context.asset_to_io(first.outputs["sound"]) as stream, wave.open(stream) as sound:
        assert sound.getnframes() == 64 * 160


def make_context(owner: User, workflow: str) -> tuple[ProcessingContext, AssetRef]:
    """Make the context of a workflow, and its source."""
    context = ProcessingContext(user=owner, workflow_id=workflow)
    return context, context.reference_to(context.create_asset("source.png", "image/png", sample_image()), AssetRef)


def ids(run: Run) -> dict[str, str]:
    """Give the asset of each node."""
    return {name: reference.asset_id or "" for name, reference in run.outputs.items()}


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
    execution = make_execution("threaded", request)
    context, source = make_context(owner, uuid4().hex)
    first = run_workflow(context, source, execution)
    Asset.objects.filter(pk=ids(first)["sound"]).delete()
    second = run_workflow(context, source, execution)
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
