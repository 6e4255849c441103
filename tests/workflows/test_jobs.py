"""What every strategy does alike: inputs in, outputs out, logs, failures, limits, cancel, and the record."""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.utils import timezone

from assets.ids import new_id, uuid7
from assets.models import Asset, Derivation, Job
from assets.services import jobs as services_of_jobs
from assets.services import open_asset
from assets.services.jobs import JobEnd, finish_job, forget_jobs, lose_jobs, open_job
from assets.workflows import (
    JobFailedError,
    ProcessingContext,
    Secret,
    SubprocessExecution,
    Task,
    jobs,
    recover_jobs,
    run_job,
    start_job,
)
from assets.workflows.execution import Execution, LogTail
from assets.workflows.execution_folders import Claim, is_alive
from tests.workflows.conftest import CODE, NODES, Place, make_asset, make_execution, make_place


def task(name: str, **options: Any) -> Task:
    """Make a task of one of the nodes."""
    return Task(**{"callable": f"{NODES}:{name}", "code": CODE, "time_limit": 60.0} | options)


def read(asset: Asset) -> bytes:
    """Read all bytes."""
    with open_asset(Asset.objects.select_related("object").get(pk=asset.pk)) as stream:
        return stream.read()


@pytest.mark.parametrize("auth", ["local", "token"])
@pytest.mark.parametrize("kind", ["filesystem", "s3", "memory"])
@pytest.mark.parametrize("strategy", ["threaded", "subprocess", "docker"])
def test_job_with_inputs_leaves_outputs_with_lineage(
    strategy: str, kind: str, auth: str, request: pytest.FixtureRequest, tmp_path: Path, settings: Any, owner: User
) -> None:
    make_place(kind, auth, request, tmp_path, settings)
    source = make_asset(owner, "a.txt", b"abc")
    temp = make_asset(owner, "t.txt", b"xyz", bucket="temp")
    wanted = task("copy_inputs", inputs=(source.pk, temp.pk), request={"n": 1}, workflow_id="w", node_id="n")

    report = run_job(wanted, user=owner, execution=make_execution(strategy, request)).check()

    assert [(asset.name, read(asset)) for asset in report.outputs] == [("copy-a.txt", b"cba"), ("copy-t.txt", b"zyx")]
    for asset in report.outputs:
        assert (asset.job_id, asset.workflow_id, asset.node_id) == (report.job.pk.hex, "w", "n")
        assert set(Derivation.objects.filter(asset=asset).values_list("source", flat=True)) == {source.pk, temp.pk}
    assert isinstance(report.result, dict)
    assert report.result["request"] == {"n": 1}
    job = Job.objects.get(pk=report.job.pk)
    assert (job.state, job.exit_code, job.log_tail, job.problems) == ("succeeded", 0, "copying", [])
    assert [each["id"] for each in job.outputs] == [asset.pk.hex for asset in report.outputs]
    assert job.ended_at is not None
    assert [path.name for path in (tmp_path / "workspaces/.runs").iterdir()] == [".gate"]


def test_job_that_fails_says_so_in_its_log_and_keeps_what_it_left(
    place: Place, owner: User, execution: Execution
) -> None:
    report = run_job(task("fail"), user=owner, execution=execution)
    assert (report.job.state, report.job.exit_code) == ("failed", 1)
    assert "RuntimeError: the node broke" in report.job.log_tail
    assert [asset.name for asset in report.outputs] == ["half.txt"]
    with pytest.raises(JobFailedError, match="the node broke"):
        report.check()


def test_job_over_its_time_is_ended(place: Place, owner: User, execution: Execution) -> None:
    report = run_job(task("spin", time_limit=2.0), user=owner, execution=execution)
    assert (report.job.state, report.outputs) == ("timed out", ())
    assert "longer than 2 s" in report.job.error


@pytest.mark.parametrize("strategy", ["subprocess", "docker"])
def test_cancelled_job_ends_with_every_process_it_started(
    strategy: str, request: pytest.FixtureRequest, place: Place, owner: User
) -> None:
    said, lines = threading.Event(), list[str]()

    def listen(line: str) -> None:
        lines.append(line)
        said.set()

    execution = make_execution(strategy, request)
    handle = start_job(task("spin", request="family"), user=owner, execution=execution, on_log=listen)
    assert said.wait(30)
    handle.cancel()
    assert handle.wait(30).job.state == "cancelled"
    if strategy == "subprocess":
        assert [pid for pid in json.loads(lines[0]) if Path(f"/proc/{pid}").exists()] == []
    assert not is_alive(handle.job_id)


def test_cancelled_thread_ends(place: Place, owner: User, request: pytest.FixtureRequest) -> None:
    said = threading.Event()
    handle = start_job(
        task("spin"), user=owner, execution=make_execution("threaded", request), on_log=lambda _: said.set()
    )
    assert said.wait(30)
    handle.cancel()
    assert handle.wait(30).job.state == "cancelled"


@pytest.mark.parametrize("as_file", [False, True], ids=["environment", "file"])
@pytest.mark.parametrize("strategy", ["subprocess", "docker"])
def test_secret_reaches_the_job_that_names_it_and_no_log(
    strategy: str, as_file: bool, request: pytest.FixtureRequest, place: Place, owner: User
) -> None:
    secrets = (Secret(name="PASSWORD", value="hush-hush", as_file=as_file),)
    report = run_job(task("read_secret", secrets=secrets), user=owner, execution=make_execution(strategy, request))
    assert (report.check().result, report.job.log_tail) == (len("hush-hush"), "it is ***!")


KEY = "-----BEGIN-----\nMIIE-first\n}\nMIIE-last\n-----END-----\n"


def test_secret_of_many_lines_is_given_in_every_strategy_and_kept_out_of_the_log(
    place: Place, owner: User, execution: Execution
) -> None:
    secrets = (Secret(name="PASSWORD", value=KEY, as_file=True),)
    report = run_job(task("tell_secret", secrets=secrets), user=owner, execution=execution).check()
    assert report.result == len(KEY)
    assert report.job.log_tail.splitlines() == ["<***>", "<***>", "<}>", "<***>", "<***>"]


def test_secret_that_was_not_named_is_refused_by_name(place: Place, owner: User, execution: Execution) -> None:
    report = run_job(task("tell_secret"), user=owner, execution=execution)
    assert "ValueError: The task names no secret PASSWORD that travels as a file." in report.job.log_tail


def test_thread_is_given_its_variables_and_secrets_by_hand(
    place: Place, owner: User, request: pytest.FixtureRequest
) -> None:
    secrets = (Secret(name="PASSWORD", value=KEY),)
    wanted = task("tell_secret", secrets=secrets, workflow_id="w")
    report = run_job(wanted, user=owner, execution=make_execution("threaded", request)).check()
    assert report.result == len(KEY)
    assert "PASSWORD" not in os.environ
    variables = run_job(task("tell_variables", workflow_id="w"), user=owner).check().result
    assert isinstance(variables, dict)
    assert (variables["WORKFLOW_ID"], variables["ASSET_FOLDER"]) == ("w", str(place.folder / "assets"))


@pytest.mark.parametrize("kind", ["filesystem", "s3"])
@pytest.mark.parametrize("auth", ["local", "token"])
@pytest.mark.parametrize("strategy", ["threaded", "subprocess"])
def test_context_inside_a_job_resolves_its_inputs_without_the_catalog(
    strategy: str, auth: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path, settings: Any, owner: User
) -> None:
    make_place(kind, auth, request, tmp_path, settings)
    source = make_asset(owner, "in.txt", b"abc")
    wanted = task("use_context", inputs=(source.pk,), workflow_id="w", node_id="n")
    report = run_job(wanted, user=owner, execution=make_execution(strategy, request)).check()
    assert isinstance(report.result, dict)
    assert report.result["bound"] == [str(owner.pk), "w", report.job.pk.hex, "n"]
    assert report.result["same"] is True
    assert [(asset.name, read(asset)) for asset in report.outputs] == [("a_ü.txt", b"ABC")]


def test_result_that_is_too_large_fails_the_job_and_says_so(place: Place, owner: User, execution: Execution) -> None:
    report = run_job(task("return_much"), user=owner, execution=execution)
    assert (report.job.state, report.result) == ("failed", None)
    assert "at most 1048576 bytes as JSON" in report.job.log_tail


def test_listener_that_raises_spoils_neither_job_nor_log(
    place: Place, owner: User, execution: Execution, caplog: pytest.LogCaptureFixture
) -> None:
    def listen(line: str) -> None:
        raise KeyError(line)

    source = make_asset(owner, "a.txt", b"abc")
    report = run_job(task("copy_inputs", inputs=(source.pk,)), user=owner, execution=execution, on_log=listen).check()
    assert (report.job.log_tail, len(report.outputs)) == ("copying", 1)
    assert [record.message for record in caplog.records].count("listener of the log of a job failed") == 1


def test_thread_never_runs_another_module_of_the_same_name(
    place: Place, owner: User, request: pytest.FixtureRequest
) -> None:
    """Python keeps a module by its name alone: the second node would silently be the first."""
    name, execution = f"twins_{uuid4().hex}", make_execution("threaded", request)
    for number in range(2):
        (place.folder / f"code{number}").mkdir()
        (place.folder / f"code{number}" / f"{name}.py").write_text(f"def node(request, job): return {number}")
    codes = [str(place.folder / f"code{number}") for number in (0, 1, 0)]
    reports = [run_job(Task(callable=f"{name}:node", code=code), user=owner, execution=execution) for code in codes]
    assert [(report.job.state, report.result) for report in reports] == [
        ("succeeded", 0), ("failed", None), ("succeeded", 0),
    ]  # fmt: skip
    assert "use the strategy subprocess" in reports[1].job.log_tail


def test_kept_workspace_keeps_no_copy_of_inputs(
    request: pytest.FixtureRequest, tmp_path: Path, settings: Any, owner: User
) -> None:
    make_place("s3", "token", request, tmp_path, settings)
    source, workspace = make_asset(owner, "a.txt", b"abc"), tmp_path / "mine"
    workspace.mkdir()
    wanted = task("copy_inputs", inputs=(source.pk,))
    run_job(wanted, user=owner, execution=SubprocessExecution(), workspace=str(workspace)).check()
    (entry,) = json.loads((workspace / ".assets/manifest.json").read_text())
    assert entry["id"] == source.pk.hex
    assert not (workspace / ".assets/inputs").exists()
    context = ProcessingContext.from_request({"user_id": 1, "workspace_dir": str(workspace), "has_catalog": False})
    with pytest.raises(ValueError, match=f"Asset {source.pk.hex} not found"):
        context.asset_to_bytes(source.pk.hex)


def test_path_that_is_no_text_is_recorded_all_the_same(place: Place, owner: User) -> None:
    workspace = os.fsdecode(os.fsencode(str(place.folder)) + b"/\xff")
    report = run_job(task("say"), user=owner, execution=SubprocessExecution(), workspace=workspace)
    assert report.job.state == Job.objects.get().state == "failed"
    assert "The folders of the job cannot be made" in Job.objects.get().error


@pytest.mark.parametrize("strategy", ["subprocess", "docker"])
def test_job_inherits_no_variable_of_the_service(
    strategy: str, request: pytest.FixtureRequest, place: Place, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "hush-hush")
    report = run_job(task("look_around"), user=owner, execution=make_execution(strategy, request)).check()
    assert isinstance(report.result, dict)
    variables = report.result["variables"]
    assert "hush-hush" not in json.dumps(report.result)
    assert variables["JOB_ID"] == report.job.pk.hex
    scratch = (
        "/scratch" if strategy == "docker" else str(place.folder / "workspaces/.runs" / report.job.pk.hex / "scratch")
    )
    assert (variables["TMPDIR"], variables["TEMP_FOLDER"]) == (scratch, scratch)
    assert variables["ASSET_FOLDER"] == ("/assets" if strategy == "docker" else str(place.folder / "assets"))


def test_input_of_another_user_is_not_found(place: Place, owner: User, stranger: User) -> None:
    foreign = make_asset(stranger, "a.txt", b"abc")
    for asset_id in (foreign.pk, uuid4()):
        with pytest.raises(ValueError, match=f"Asset {asset_id.hex} not found"):
            run_job(task("copy_inputs", inputs=(asset_id,)), user=owner)
    assert not Job.objects.exists()


def test_command_runs_with_its_own_exit_code(place: Place, owner: User) -> None:
    command = ("/bin/sh", "-c", 'echo said; echo left > "$WORKSPACE_DIR/outputs/x.txt"; exit 7')
    report = run_job(Task(command=command), user=owner, execution=SubprocessExecution())
    assert (report.job.state, report.job.exit_code, report.job.log_tail) == ("failed", 7, "said")
    assert [(asset.name, read(asset)) for asset in report.outputs] == [("x.txt", b"left\n")]


def test_command_that_is_not_there_fails_with_its_name(place: Place, owner: User) -> None:
    report = run_job(Task(command=("no-such-program",)), user=owner, execution=SubprocessExecution())
    assert (report.job.exit_code, report.job.log_tail) == (127, "no-such-program: No such file or directory")


def test_command_in_a_thread_is_refused_with_the_remedy(
    place: Place, owner: User, request: pytest.FixtureRequest
) -> None:
    report = run_job(Task(command=("ls",)), user=owner, execution=make_execution("threaded", request))
    assert report.job.state == "failed"
    assert "Use the strategy subprocess or docker. See docs/troubleshooting.md" in report.job.error


def test_kept_workspace_hands_each_output_over_once(place: Place, owner: User) -> None:
    workspace = place.folder / "mine"
    (workspace / "outputs").mkdir(parents=True)
    (workspace / "outputs/before.txt").write_text("before")
    (workspace / ".assets").symlink_to("/etc")
    for number in range(2):
        command = ("/bin/sh", "-c", f"echo {number} > outputs/{number}.txt; echo kept > note")
        report = run_job(Task(command=command), user=owner, execution=SubprocessExecution(), workspace=str(workspace))
        assert [asset.name for asset in report.check().outputs] == [f"{number}.txt"]
    assert (workspace / "note").read_text() == "kept\n"
    assert [path.read_text() for path in workspace.glob("outputs-before-*/before.txt")] == ["before"]
    assert not (workspace / ".assets").is_symlink()


def test_second_job_in_a_workspace_is_refused(place: Place, owner: User) -> None:
    workspace, said = place.folder / "mine", threading.Event()
    workspace.mkdir()
    first = start_job(task("spin"), user=owner, execution=SubprocessExecution(), workspace=str(workspace),
                      on_log=lambda _: said.set())  # fmt: skip
    assert said.wait(30)
    second = run_job(task("say"), user=owner, execution=SubprocessExecution(), workspace=str(workspace))
    assert "Another job runs in the workspace" in second.job.error
    first.cancel()
    assert first.wait(30).job.state == "cancelled"


def test_job_of_a_dead_process_is_lost_at_the_next_start(place: Place, owner: User) -> None:
    dead, alive = Claim.take(new_id()), Claim.take(new_id())
    for claim in (dead, alive):
        open_job(claim.job_id, user=owner, strategy="subprocess", task="t", workflow="", node="")
    os.close(dead.lock)  # as the kernel does

    assert recover_jobs() == [dead.job_id.hex]
    assert recover_jobs() == []

    states = {job.pk: (job.state, job.ended_at is not None) for job in Job.objects.all()}
    assert states == {dead.job_id: ("lost", True), alive.job_id: ("running", False)}
    assert (dead.folder.exists(), alive.folder.exists()) == (False, True)
    alive.release()


@pytest.mark.parametrize(("minutes", "state"), [(9, "running"), (11, "lost")])
def test_job_of_a_silent_machine_is_given_up_in_time(place: Place, owner: User, minutes: int, state: str) -> None:
    job = open_job(new_id(), user=owner, strategy="subprocess", task="t", workflow="", node="")
    heard = timezone.now() - timedelta(minutes=minutes)
    Job.objects.filter(pk=job.pk).update(host="elsewhere", seen_at=heard)
    recover_jobs()
    assert Job.objects.get().state == state


def test_running_job_says_that_it_lives(place: Place, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "NOTED_EVERY", 0.05)
    handle = start_job(task("spin"), user=owner, execution=SubprocessExecution())
    deadline = time.monotonic() + 30
    while not Job.objects.filter(pk=handle.job_id, seen_at__gt=F("started_at")).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)  # a poll of another thread, not a wait for a time
    handle.cancel()
    assert handle.wait(30).job.state == "cancelled"


def test_job_that_was_given_up_meanwhile_is_told_as_it_ended(place: Place, owner: User) -> None:
    job = open_job(new_id(), user=owner, strategy="subprocess", task="t", workflow="", node="")
    assert [lost.pk for lost in lose_jobs(lambda _: False)] == [job.pk]
    finish_job(job, JobEnd("succeeded", exit_code=0), log_tail="", outputs=(), problems=())
    assert Job.objects.get().state == "succeeded"


def test_cancel_is_heard_at_any_time_and_only_once(place: Place, owner: User, execution: Execution) -> None:
    early = start_job(task("spin"), user=owner, execution=execution)
    early.cancel()  # most likely before it runs
    early.cancel()
    assert early.wait(60).job.state == "cancelled"
    late = start_job(task("look_around"), user=owner, execution=execution)
    assert late.wait(60).job.state == "succeeded"
    late.cancel()
    assert Job.objects.get(pk=late.job_id).state == "succeeded"


def id_at(moment: datetime) -> UUID:
    """Make the id that a job would have got at a time."""
    return uuid7(int(moment.timestamp() * 1000), 0, uuid4().int)


@pytest.mark.parametrize("batch", [1, 500])
def test_old_records_are_forgotten_and_their_assets_stay(
    place: Place, owner: User, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(services_of_jobs, "_BATCH", batch)
    now = timezone.now()
    asset = make_asset(owner, "left.txt", b"left")
    kept, gone = [], []
    for days, running, fate in [(100, False, gone), (91, False, gone), (89, False, kept), (100, True, kept)]:
        at = now - timedelta(days=days)
        job = open_job(id_at(at), user=owner, strategy="subprocess", task="t", workflow="", node="")
        ended = {} if running else {"state": "succeeded", "ended_at": at}
        Job.objects.filter(pk=job.pk).update(started_at=at, **ended)
        fate.append(job.pk)
    at = now - timedelta(days=100)
    slow = open_job(id_at(at), user=owner, strategy="subprocess", task="t", workflow="", node="")
    Job.objects.filter(pk=slow.pk).update(state="failed", ended_at=now)
    assert forget_jobs(ended_before=now - timedelta(days=90)) == 2
    assert set(Job.objects.values_list("pk", flat=True)) == {*kept, slow.pk}
    assert read(asset) == b"left"
    assert forget_jobs(ended_before=now - timedelta(days=90)) == 0


def test_log_keeps_its_end_and_masks_secrets_across_blocks() -> None:
    lines: list[str] = []
    log = LogTail(lines.append, ["s3cret", "s3"])
    for block in (b"one\ntwo s3c", b"ret\nnul \0 bad \xff", b"\nlast"):
        log.write(block)
    assert lines == ["one", "two ***", "nul \ufffd bad \ufffd"]
    assert log.text().splitlines() == ["one", "two ***", "nul \ufffd bad \ufffd", "last"]
    for number in range(20_000):
        log.say(f"line {number}")
    assert len(log.text()) <= 64 << 10
    assert log.text().endswith("line 19999")


@pytest.mark.parametrize(
    "wrong",
    [{}, {"callable": "a:b", "command": ("x",)}, {"callable": "a.b"}, {"callable": "a:b", "time_limit": 0},
     {"callable": "a:b", "node_id": "x" * 256}, {"command": ("a", "b\0")},
     {"callable": "a:b", "request": float("nan")}, {"callable": "a:b", "inputs": (uuid4(),) * 1001}],
    ids=["nothing", "both", "no function", "no time", "long id", "nul", "no JSON", "too many inputs"],
)  # fmt: skip
def test_wrong_task_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"task|callable|form|time|JSON|inputs"):
        Task(**wrong)


def test_unknown_secret_is_refused(place: Place, owner: User) -> None:
    for name in ("NO_SUCH_THING", "LOG_LEVEL"):
        with pytest.raises(ValueError, match=f"The secret {name} has no value"):
            run_job(task("say", secrets=(Secret(name=name),)), user=owner)
