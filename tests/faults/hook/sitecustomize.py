"""Counts the steps of a process of the service, and kills it before a chosen one (docs/decisions/0032-fault-steps.md).

Python imports this at its start where PYTHONPATH names this folder; without FAULT_FOLDER it does nothing. Product code
knows nothing of it. A step is what changes something outside of the process: a writing SQL statement, a commit, a call
of S3, a system call that changes a file, an answer. Only these steps count: in a web process those of requests with
the header `X-Fault: step`, in a worker those of previews, in a command all.

In FAULT_FOLDER (written by `tests.faults.steps`): `record-ROLE` gets a line for each step; `arm-ROLE` holds how many
steps may still pass and who dies then (process or group); `died` tells before which step that was.
"""

import fcntl
import importlib.abc
import importlib.util
import os
import signal
import sys
import threading

FOLDER = os.environ.get("FAULT_FOLDER", "")
READS = ("SELECT", "PRAGMA", "EXPLAIN", "SHOW")
FILE_CALLS = ("fsync", "link", "unlink", "remove", "replace", "rename", "mkdir", "write", "fchmod")
_real = {name: getattr(os, name) for name in FILE_CALLS}
_scope = threading.local()


def role():
    """Tell which process of the service this is; "" for others."""
    words = sys.orig_argv
    if "nodetool_site.web" in words:
        return "web"
    if "nodetool_site.command" in words:
        return "worker" if words[-1] == "worker" else ""
    return "command" if "manage.py" in words else ""


ROLE = role()


def step(kind):
    """Note one step, and die here if it was chosen."""
    if not (ROLE == "command" or getattr(_scope, "counts", False)):
        return
    record, arm = f"{FOLDER}/record-{ROLE}", f"{FOLDER}/arm-{ROLE}"
    if os.path.exists(record):
        with open(record, "a") as stream:
            stream.write(f"{kind}\n")
    elif os.path.exists(arm):
        with open(f"{FOLDER}/lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _count_down(arm, kind)


def _count_down(arm, kind):
    try:
        with open(arm) as stream:
            left, whom = stream.read().split()
    except FileNotFoundError:  # another process took it
        return
    if int(left) > 0:
        with open(arm, "w") as stream:
            stream.write(f"{int(left) - 1} {whom}")
        return
    with open(f"{FOLDER}/died", "w") as stream:
        stream.write(kind)
    _real["unlink"](arm)
    if whom == "group":
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def before(kind, call):
    """Make a step of each call."""

    def stepped(*arguments, **options):
        step(kind)
        return call(*arguments, **options)

    return stepped


def counting(call, *, wanted=lambda *arguments: True):
    """Let the steps inside of these calls count."""

    def counted(*arguments, **options):
        _scope.counts = wanted(*arguments)
        try:
            return call(*arguments, **options)
        finally:
            step("the end")
            _scope.counts = False

    return counted


def change_statements(module):
    execute = module.CursorWrapper.execute

    def stepped(self, sql, params=None):
        word = str(sql).lstrip().split(" ", 1)[0].upper()
        if word not in READS:
            step(f"sql {word}")
        return execute(self, sql, params)

    module.CursorWrapper.execute = stepped


def change_commits(module):
    module.BaseDatabaseWrapper._commit = before("commit", module.BaseDatabaseWrapper._commit)


def change_s3(module):
    call = module.BaseClient._make_api_call

    def stepped(self, operation_name, api_params):
        step(f"s3 {operation_name}")
        return call(self, operation_name, api_params)

    module.BaseClient._make_api_call = stepped


def change_dispatch(module):
    module._send = before("answer", module._send)
    chosen = lambda self, exchange, environ: environ.get("HTTP_X_FAULT") == "step"  # noqa: E731
    module.Dispatcher._full = counting(module.Dispatcher._full, wanted=chosen)


def change_previews(module):
    module._make = counting(module._make)


WARM = ("boto3.session", "botocore.httpsession", "django.core.management", "django.db.models", "django.forms")
WARM += ("django.template.defaulttags", "pydantic.main", "psycopg", "PIL.Image", "pymemcache")


def warm(module):
    """Let the parent of the web processes import what others wrote, so that a killed process is soon there again."""
    for name in WARM:
        importlib.import_module(name)


CHANGES = {
    "django.db.backends.utils": change_statements,
    "django.db.backends.base.base": change_commits,
    "botocore.client": change_s3,
    "nodetool_site.dispatch": change_dispatch,
    "assets.services.previews": change_previews,
}


class Finder(importlib.abc.MetaPathFinder):
    """Changes modules right behind their import."""

    def find_spec(self, name, path, target=None):
        change = CHANGES.pop(name, None)  # popped: the real search below comes here again
        if change is None:
            return None
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            change(module)

        spec.loader.exec_module = execute_and_change
        return spec


if FOLDER and ROLE:
    for name in FILE_CALLS:
        setattr(os, name, before(name, _real[name]))
    if ROLE == "web":
        CHANGES["granian.server.mp"] = warm
    sys.meta_path.insert(0, Finder())
