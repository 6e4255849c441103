"""Which code a key stands for: the same wherever a class runs, another as soon as it may compute something else."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from storagecache.node_cache import code_version, node_cache_key
from storagecache.node_cache.keys import CacheableNode

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import multiprocessing

class Node:
    def get_node_type(self): return "script.Node"
    def model_dump(self): return {"a": 1}

def told(_):
    from storagecache.node_cache import node_cache_key
    return node_cache_key(Node()).digest, Node.__module__

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*told(0), *pool.map(told, [0])[0])
"""


def written(folder: Path, text: str, name: str = "some_nodes") -> ModuleType:
    """Write a module and load it, as a process does that finds it there."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def node_text(factor: str) -> str:
    return (
        "class Node:\n"
        f"    factor = {factor}\n"
        "    def get_node_type(self): return 't'\n"
        "    def model_dump(self): return {}\n"
    )


def digest(node: CacheableNode) -> str:
    code_version._made.clear()  # as in a new process
    return node_cache_key(node).digest


def test_script_has_its_keys_in_the_processes_that_it_spawns_and_as_a_module(tmp_path: Path) -> None:
    (tmp_path / "a_script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}

    def run(*arguments: str) -> list[str]:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.split()

    main, main_module, spawned, spawned_module = run(str(tmp_path / "a_script.py"))
    assert (main_module, spawned_module) == ("__main__", "__mp_main__")
    assert main == spawned
    assert run("-c", "import a_script; print(a_script.told(0)[0])") == [main]


def test_source_that_changed_since_the_process_began_is_not_what_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_version, "_STARTED", time.time() + 3600)  # the file is older than this process
    running = written(tmp_path, node_text("2")).Node()
    (tmp_path / "some_nodes.py").write_text(node_text("3"))
    of_the_new_code = digest(written(tmp_path, node_text("3")).Node())
    monkeypatch.setattr(code_version, "_STARTED", time.time() - 3600)  # it is newer
    assert digest(running) != of_the_new_code


@pytest.mark.parametrize(("one", "other"), [("2", "3"), ("2", "2.0"), ("(1, 2)", "[1, 2]"), ("None", "'x'")])
def test_class_without_source_counts_what_it_holds(one: str, other: str) -> None:
    def made(factor: str) -> CacheableNode:
        names: dict[str, type] = {}
        exec(node_text(factor), {"__name__": "a_shell"}, names)
        node: CacheableNode = names["Node"]()
        return node

    assert digest(made(one)) == digest(made(one))
    assert digest(made(one)) != digest(made(other))


def test_package_of_another_name_counts_by_its_distributions() -> None:
    assert code_version._version_of("pymemcache").count(".") == 2
    assert code_version._version_by_contents("PIL").startswith("pillow ")
    assert code_version._version_of("no_such_package") == ""
