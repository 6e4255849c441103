"""Runs the five nodes: what is in the node cache is taken from it, all else is a job; the outputs land in the library.

    python -m examples.five_nodes.run [--strategy threaded|subprocess|docker] [--user NAME] [IMAGE]

The service decides everything here: nodes run as jobs and need neither its database nor its cache nor its secrets.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import struct
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

CODE: Final = Path(__file__).parent / "code"
VERSION: Final = hashlib.sha256((CODE / "five_nodes.py").read_bytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the graph: a function of `five_nodes`, what it is told, and the nodes it reads."""

    name: str
    reads: tuple[str, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A node with its inputs at hand: what the node cache keys."""

    node: Node
    inputs: tuple[str, ...]  # asset ids
    cache_version: str = VERSION

    def get_node_type(self) -> str:
        """Name the node's type."""
        return f"examples.five_nodes.{self.node.name}"

    def model_dump(self) -> dict[str, Any]:
        """Give everything that the result depends on; assets count by their content."""
        return {"properties": dict(self.node.properties), "inputs": [{"asset_id": each} for each in self.inputs]}


@dataclass(slots=True)
class Run:
    """What a run gave: the asset of each node, and the nodes that had to be computed."""

    assets: dict[str, str] = field(default_factory=dict)
    results: dict[str, object] = field(default_factory=dict)
    computed: list[str] = field(default_factory=list)


GRAPH: Final = (
    Node("load_image", ("source",)),
    Node("resize", ("load_image",), {"size": 64}),
    Node("caption", ("resize",), {"greeting": "Behold"}),
    Node("table", ("resize", "caption")),
    Node("sound", ("table",), {"seconds": 0.02}),
)


def run_workflow(user: Any, source: UUID, execution: Any, *, workflow_id: str = "five-nodes") -> Run:
    """Run the graph on an image of the library."""
    from storagecache.environment import Environment
    from storagecache.node_cache import node_cache_key

    run, cache = Run({"source": source.hex}), Environment.get_node_cache()
    for node in GRAPH:
        call = Call(node, tuple(run.assets[name] for name in node.reads))
        key = node_cache_key(call, user=str(user.pk), workflow=workflow_id)
        made = cache.get_or_compute(key, lambda call=call: _compute(call, user, execution, workflow_id, run))
        run.assets[node.name], run.results[node.name] = made["output"]["asset_id"], made["result"]
    return run


def _compute(call: Call, user: Any, execution: Any, workflow_id: str, run: Run) -> dict[str, Any]:
    from assets.workflows import Task, run_job

    task = Task(
        callable=f"five_nodes:{call.node.name}",
        code=str(CODE),
        request=dict(call.node.properties),
        inputs=tuple(map(UUID, call.inputs)),
        workflow_id=workflow_id,
        node_id=call.node.name,
        time_limit=120,
    )
    report = run_job(task, user=user, execution=execution).check()
    run.computed.append(call.node.name)
    (output,) = report.outputs
    return {"output": {"type": "asset", "asset_id": output.pk.hex}, "result": report.result}


def sample_image(width: int = 120, height: int = 80) -> bytes:
    """Draw a PNG without any library: a slope from blue to green."""
    rows = b"".join(b"\0" + b"".join(bytes((40, 2 * x, 120 - x)) for x in range(width)) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def main(arguments: list[str]) -> int:
    """Run the example as a program."""
    options = _parser().parse_args(arguments)
    import django

    django.setup()
    from django.contrib.auth import get_user_model

    from assets.services import create_asset
    from assets.workflows import DockerExecution, SubprocessExecution, ThreadedExecution

    strategies = {"threaded": ThreadedExecution, "subprocess": SubprocessExecution, "docker": DockerExecution}
    user = get_user_model()._default_manager.get(username=options.user)
    data = options.image.read_bytes() if options.image else sample_image()
    source = create_asset(owner=user, name="source.png", content=io.BytesIO(data))
    run = run_workflow(user, source.pk, strategies[options.strategy]())
    for node in GRAPH:
        how = "computed" if node.name in run.computed else "from the cache"
        sys.stdout.write(f"{node.name:12} {run.assets[node.name]}  {how}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run a workflow of five nodes.")
    parser.add_argument("image", nargs="?", type=Path, help="an image file; without one a sample is drawn")
    parser.add_argument("--strategy", choices=("threaded", "subprocess", "docker"), default="threaded")
    parser.add_argument("--user", default="admin")
    return parser


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nodetool_site.settings")
    sys.exit(main(sys.argv[1:]))
