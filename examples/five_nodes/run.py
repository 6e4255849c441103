"""Runs five nodes through a ProcessingContext: what was computed before comes from the node cache, all else is a job.

    python -m examples.five_nodes.run [--strategy threaded|subprocess|docker] [--user NAME] [IMAGE]

The context stores the source, keeps each node's result under the node's key and hands out references. Nodes run as jobs
and need neither the service's database nor its cache nor its secrets; what they leave lands in the library.
"""

from __future__ import annotations

import argparse
import hashlib
import struct
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

if TYPE_CHECKING:
    from assets.workflows import AssetRef, ProcessingContext

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
    inputs: tuple[AssetRef, ...]
    cache_version: str = VERSION

    def get_node_type(self) -> str:
        """Name the node's type."""
        return f"examples.five_nodes.{self.node.name}"

    def model_dump(self) -> dict[str, Any]:
        """Give everything that the result depends on; assets count by their content."""
        return {"properties": dict(self.node.properties), "inputs": [{"asset_id": ref.asset_id} for ref in self.inputs]}


@dataclass(slots=True)
class Run:
    """What a run gave: a reference to the output of each node, its result, and the nodes that had to be computed."""

    outputs: dict[str, AssetRef] = field(default_factory=dict)
    results: dict[str, object] = field(default_factory=dict)
    computed: list[str] = field(default_factory=list)


GRAPH: Final = (
    Node("load_image", ("source",)),
    Node("resize", ("load_image",), {"size": 64}),
    Node("caption", ("resize",), {"greeting": "Behold"}),
    Node("table", ("resize", "caption")),
    Node("sound", ("table",), {"seconds": 0.02}),
)


def run_workflow(context: ProcessingContext, source: AssetRef, execution: Any) -> Run:
    """Run the graph on an image of the library, for the user and the workflow of the context."""
    run = Run({"source": source})
    for node in GRAPH:
        call = Call(node, tuple(run.outputs[name] for name in node.reads))
        of_node = context.for_node(node.name)
        made = of_node.cached(call, lambda call=call, own=of_node: _compute(call, own, execution, run))
        run.outputs[node.name], run.results[node.name] = made["output"], made["result"]
    return run


def _compute(call: Call, context: ProcessingContext, execution: Any, run: Run) -> dict[str, Any]:
    from django.contrib.auth import get_user_model

    from assets.workflows import AssetRef, Task, run_job

    user = get_user_model()._default_manager.get(pk=context.user_id)
    task = Task(
        callable=f"five_nodes:{call.node.name}",
        code=str(CODE),
        request=dict(call.node.properties),
        inputs=tuple(UUID(ref.asset_id) for ref in call.inputs),
        workflow_id=context.workflow_id,
        node_id=call.node.name,
        time_limit=120,
    )
    report = run_job(task, user=user, execution=execution).check()
    run.computed.append(call.node.name)
    (output,) = report.outputs
    return {"output": context.reference_to(output, AssetRef), "result": report.result}


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

    from assets.workflows import AssetRef, DockerExecution, ProcessingContext, SubprocessExecution, ThreadedExecution

    strategies = {"threaded": ThreadedExecution, "subprocess": SubprocessExecution, "docker": DockerExecution}
    user = get_user_model()._default_manager.get(username=options.user)
    context = ProcessingContext(user=user, workflow_id="five-nodes")
    source = context.create_asset("source.png", "image/png", options.image or sample_image())
    run = run_workflow(context, context.reference_to(source, AssetRef), strategies[options.strategy]())
    for node in GRAPH:
        how = "computed" if node.name in run.computed else "from the cache"
        sys.stdout.write(f"{node.name:12} {run.outputs[node.name].asset_id}  {how}\n")
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
