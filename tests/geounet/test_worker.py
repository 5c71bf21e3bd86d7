"""The worker: jobs survive whatever kills it; crashes cost one job; results appear whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest

from geounet.service.jobs import Job, JobRequest, JobState
from geounet.service.processes.worker import Worker
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store
from geounet.service.uploads import Share

STUB = '''
import os, signal, sys, time
from pathlib import Path

class Make:
    """Writes ten lines, one a step, and goes on where it was interrupted; the scene's name says what to do."""
    def __call__(self, task, say):
        from tiles.errors import SceneError
        what = task.options.get("do", "")
        out = Path(task.out)
        partial = out.with_name("spool")
        out.parent.mkdir(parents=True, exist_ok=True)
        if what == "refuse":
            raise SceneError(f"{task.scene} is cut short")
        if what == "bug":
            raise ZeroDivisionError
        if what == "crash" or (what == "crash once" and not partial.exists()):
            partial.touch()
            os.kill(os.getpid(), signal.SIGSEGV)
        print("a library prints this")
        done = partial.read_text().count("\\n") if partial.exists() else 0
        for line in range(done, 10):
            with partial.open("a") as file:
                file.write(f"{line}\\n")
            say({"progress": {"stage": "predict", "done": line, "total": 10, "rate": 1.0, "seconds_left": None}})
            time.sleep(float(task.options.get("step", 0)))
        out.mkdir(exist_ok=True)
        (out / "result").write_text(partial.read_text())
'''
WORKER = """
import signal
from geounet.service.settings import ServiceSettings
from geounet.service.processes.worker import Worker
worker = Worker(ServiceSettings(lease_seconds=2, device="cpu"), "mapper_stub:Make")
signal.signal(signal.SIGTERM, worker.stop)
worker.run()
"""
RESULT = "".join(f"{n}\n" for n in range(10))


@pytest.fixture
def store(tmp_path: Path, toy_bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "mapper_stub.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("GEOUNET_SERVICE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GEOUNET_SERVICE_BUNDLES", str(toy_bundles))
    return Store(ServiceSettings(device="cpu", disk_reserve=0))


@pytest.fixture(scope="module")
def toy_bundles(tmp_path_factory: pytest.TempPathFactory, make_toy_bundle: Callable[..., object]) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    make_toy_bundle(folder / "toy")
    return folder


def submit(store: Store, **options: object) -> Job:
    upload = store.begin_upload(None, Share(), 1000, None)
    upload.write(b"pixels")
    scene = store.keep(upload, None, "field.tif", {}, 1, Share())
    upload.close()
    return store.queue.submit(JobRequest(None, scene.id, "toy", options))


def work(store: Store) -> Worker:
    worker = Worker(ServiceSettings(device="cpu", disk_reserve=0), "mapper_stub:Make")
    worker.run(once=True)
    return worker


@contextmanager
def worker_process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", WORKER])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait(test: Callable[[], bool], seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < ends, "it did not come to pass"
        time.sleep(0.05)


def fewer_open_than(store: Store, jobs: int) -> bool:
    return store.queue.open_jobs() < jobs


def test_a_job_becomes_a_map(store: Store) -> None:
    job = submit(store, step=0.1)  # what is said in one breath with the end is not kept as progress
    work(store)
    after = store.queue.get(job.id)
    assert after.state is JobState.DONE
    assert after.progress is not None
    assert (store.maps.folder(job.id) / "result").read_text() == RESULT
    record = store.maps.get(job.id)
    assert (record.title, record.model, record.bytes) == ("field.tif", "toy", len(RESULT))
    assert not store.work_folder(job).exists()


def test_a_scene_that_cannot_be_mapped_fails_with_its_own_name(store: Store) -> None:
    job = submit(store, do="refuse")
    work(store)
    after = store.queue.get(job.id)
    assert after.state is JobState.FAILED
    assert after.error == {"kind": "SceneError", "detail": "field.tif is cut short"}
    assert not store.work_folder(job).exists()


def test_a_bug_shows_no_inner_workings(store: Store) -> None:
    job = submit(store, do="bug")
    work(store)
    error = store.queue.get(job.id).error
    assert error is not None
    assert error["kind"] == "bug"
    assert "Traceback" not in error["detail"]


def test_what_a_mapping_process_prints_is_logged_with_its_job(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = submit(store), submit(store, do="bug")
    work(store)
    said = [
        (r.getMessage(), r.__dict__["job"]) for r in caplog.records if r.name == "geounet.service.processes.map_child"
    ]
    assert ("a library prints this", good.id) in said
    assert ("ZeroDivisionError", bad.id) in said


def test_a_crash_costs_its_own_job_only(store: Store) -> None:
    bad, once, good = submit(store, do="crash"), submit(store, do="crash once"), submit(store)
    work(store)
    after = store.queue.get(bad.id)
    assert after.state is JobState.FAILED
    assert after.error is not None
    assert "SIGSEGV" in after.error["detail"]
    assert [store.queue.get(j.id).state for j in (once, good)] == [JobState.DONE] * 2


def test_an_unknown_model_fails_the_job(store: Store) -> None:
    job = store.queue.submit(JobRequest(None, store.scenes.get(submit(store).scene).id, "gone", {}))
    work(store)
    error = store.queue.get(job.id).error
    assert error is not None
    assert "no model 'gone'" in error["detail"]


def test_a_running_job_is_cancelled_and_leaves_nothing(store: Store) -> None:
    job = submit(store, step=0.5)
    with worker_process():
        wait(lambda: store.queue.get(job.id).progress is not None)
        store.queue.cancel(job.id)
        wait(lambda: store.queue.get(job.id).state is JobState.CANCELLED)
        wait(lambda: not store.work_folder(job).exists())
    assert not store.maps.folder(job.id).exists()


def test_a_worker_that_is_stopped_gives_its_job_back(store: Store) -> None:
    job = submit(store, step=0.3)
    with worker_process() as process:
        wait(lambda: store.queue.get(job.id).progress is not None)
        process.terminate()
        assert process.wait(20) == 0
    after = store.queue.get(job.id)
    assert (after.state, after.crashes) == (JobState.QUEUED, 0)
    work(store)
    assert (store.maps.folder(job.id) / "result").read_text() == RESULT


def test_a_killed_worker_takes_its_child_along_and_the_next_goes_on_from_the_spool(store: Store) -> None:
    job = submit(store, step=0.2)
    with worker_process() as process:
        wait(lambda: (p := store.queue.get(job.id).progress) is not None and p.done >= 2)
        children = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
    wait(lambda: not any(c.is_running() and c.status() != psutil.STATUS_ZOMBIE for c in children))
    began = time.monotonic()
    work(store)
    after = store.queue.get(job.id)
    assert (after.state, after.crashes) == (JobState.DONE, 1)
    assert (store.maps.folder(job.id) / "result").read_text() == RESULT  # a start over would have doubled lines
    assert time.monotonic() - began < 20


def test_a_sleeping_worker_is_fenced_and_its_child_ended(store: Store) -> None:
    job = submit(store, step=0.3)
    with worker_process() as process:
        wait(lambda: (p := store.queue.get(job.id).progress) is not None and p.done >= 1)
        child = psutil.Process(process.pid).children()[0]
        for asleep in (psutil.Process(process.pid), child):
            asleep.suspend()
        time.sleep(2.2)
        work(store)
        process.send_signal(signal.SIGCONT)
        wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        time.sleep(0.5)
        assert process.poll() is None
    assert store.queue.get(job.id).state is JobState.DONE
    assert (store.maps.folder(job.id) / "result").read_text() == RESULT


def test_a_map_that_was_moved_but_not_noted_is_noted(store: Store) -> None:
    job = submit(store, do="crash")
    store.maps.folder(job.id).mkdir()
    work(store)
    assert store.queue.get(job.id).state is JobState.DONE
    assert store.maps.get(job.id).bytes == 0


def test_many_jobs_survive_random_kills(store: Store) -> None:
    jobs = [submit(store, step=0.005) for _ in range(50)]

    def finished() -> bool:
        return not store.queue.open_jobs()

    for kill in range(6):
        # A job more is done before each kill: no job can then be hit three times, which would rightly fail it.
        left = 50 - 7 * kill
        with worker_process() as process:
            wait(partial(fewer_open_than, store, left), 60)
            time.sleep(0.05 * kill)
            os.kill(process.pid, signal.SIGKILL)
    work(store)
    assert finished()
    states = {store.queue.get(j.id).state for j in jobs}
    assert states == {JobState.DONE}
    assert {(store.maps.folder(j.id) / "result").read_text() for j in jobs} == {RESULT}
