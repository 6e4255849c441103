"""`manage.py node_cache`: what the node cache did, clearing it by scope, and why a node ran again."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from storagecache.environment import Environment
from storagecache.errors import StorageError
from storagecache.node_cache.cache import Explanation
from storagecache.node_cache.errors import ClearFailedError
from storagecache.node_cache.statistics import TIER_COUNTS, TIERS, Stats
from storagecache.node_cache.tiers import TierTroubleError


class Command(BaseCommand):
    """Shows and clears the node cache of all processes."""

    help = "Show what the node cache did (stats), clear it by scope (clear), tell why a node ran again (explain)."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        stats = actions.add_parser("stats", help="sum the counters of all processes of the last days")
        stats.add_argument("--json", action="store_true", help="print JSON")
        clear = actions.add_parser("clear", help="make entries unreachable for every process; without options all")
        clear.add_argument("--node-type", help="only of this node type")
        explain = actions.add_parser("explain", help="name the first field in which a type's last two keys differ")
        explain.add_argument("node_type", metavar="NODE_TYPE")
        explain.add_argument("--json", action="store_true", help="print JSON")
        for action in (clear, explain):
            action.add_argument("--user", help="only of this user")
            action.add_argument("--workflow", help="only of this workflow")

    def handle(self, *_args: object, **options: Any) -> None:
        getattr(self, f"_{options['action']}")(argparse.Namespace(**options))

    def _stats(self, options: argparse.Namespace) -> None:
        try:
            processes, stats = Environment.get_node_cache().stats_of_all()
        except (StorageError, OSError) as error:
            raise CommandError(f"The statistics cannot be read: {error}") from error
        if options.json:
            self.stdout.write(json.dumps({"processes": processes, **stats}))
            return
        self.stdout.write("\n".join(_table(processes, stats)))

    def _clear(self, options: argparse.Namespace) -> None:
        try:
            Environment.get_node_cache().clear(
                user=options.user, workflow=options.workflow, node_type=options.node_type
            )
        except ClearFailedError as error:
            raise CommandError(str(error)) from error
        self.stdout.write("Cleared.")

    def _explain(self, options: argparse.Namespace) -> None:
        try:
            found = Environment.get_node_cache().explain(
                options.node_type, user=options.user, workflow=options.workflow
            )
        except TierTroubleError as error:
            raise CommandError(f"The node cache does not answer: {error}") from error
        if options.json:
            self.stdout.write(json.dumps(_plain(found)))
            return
        self.stdout.write("\n".join(_told(options.node_type, found)))


def _table(processes: int, stats: Stats) -> list[str]:
    """Give the counters as lines: a table of the tiers, then the rest."""
    lines = [f"{'tier':<6}" + "".join(f"{name:>16}" for name in TIER_COUNTS)]
    lines += [f"{tier:<6}" + "".join(f"{stats[tier][name]:>16,}" for name in TIER_COUNTS) for tier in TIERS]
    rest = {name: value for name, value in stats.items() if name not in TIERS}
    lines += [f"{name.replace('_', ' '):<22}{value:>16,.1f}".removesuffix(".0") for name, value in rest.items()]
    return [*lines, f"{'processes':<22}{processes:>16,}"]


def _told(node_type: str, found: Explanation) -> list[str]:
    if not found.history:
        return [f"No key of {node_type} has been seen here."]
    lines = [f"{_time(seen.at)}  {seen.digest[:16]}" for seen in found.history]
    if len(found.history) == 1:
        return [*lines, "Only one key was seen: if it ran again, its entry had expired, was cleared or evicted."]
    if found.difference is None:
        return [*lines, "The keys differ, but in parts too long to be kept."]
    first = found.difference
    return [*lines, f"First difference: {first.path}", f"  before: {first.before}", f"  after:  {first.after}"]


def _plain(found: Explanation) -> dict[str, Any]:
    first = found.difference
    return {
        "keys": [{"digest": seen.digest, "at": _time(seen.at)} for seen in found.history],
        "difference": first and {"path": first.path, "before": first.before, "after": first.after},
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
