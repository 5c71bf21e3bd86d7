"""The queue: leases, fencing, order, crashes, idempotency."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geounet.service.database import Database
from geounet.service.errors import ConflictError, IdempotencyError, LostLeaseError, NotFoundError, QuotaError
from geounet.service.jobs import (
    MAX_CRASHES,
    URGENT,
    Idempotency,
    Job,
    JobProgress,
    JobRequest,
    JobState,
    Queue,
    worker_name,
)

LONG = 60.0


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    database = Database(tmp_path / "q.sqlite3")
    with database.write() as db:
        db.execute("INSERT INTO scenes VALUES ('s', NULL, 'a.tif', 1, '', 1, '{}', 0)")
    return Queue(database)


def submit(queue: Queue, owner: str | None = None, priority: int = 0) -> Job:
    return queue.submit(JobRequest(owner, "s", "m", {}, priority))


def take(queue: Queue, worker: str, seconds: float = LONG) -> Job:
    job = queue.claim(worker, seconds)
    assert job is not None
    return job


def test_a_job_is_queued_and_then_runs(queue: Queue) -> None:
    job = submit(queue)
    assert job.state is JobState.QUEUED
    taken = take(queue, worker_name())
    assert (taken.id, taken.state, taken.attempts) == (job.id, JobState.RUNNING, 1)
    assert queue.claim(worker_name(), LONG) is None


def test_the_urgent_first_then_the_oldest(queue: Queue) -> None:
    first, second = submit(queue), submit(queue)
    urgent = submit(queue, priority=URGENT)
    assert [queue.place(j) for j in (first, second, urgent)] == [1, 2, 0]
    assert [take(queue, worker_name()).id for _ in range(3)] == [urgent.id, first.id, second.id]


def test_a_job_needs_its_scene(queue: Queue) -> None:
    with pytest.raises(NotFoundError, match="no scene"):
        queue.submit(JobRequest(None, "gone", "m", {}))


def test_a_lease_that_ran_out_goes_to_the_next_worker_and_fences_the_first(queue: Queue) -> None:
    submit(queue)
    slow, quick = worker_name(), worker_name()
    job = take(queue, slow, seconds=0.05)
    assert queue.claim(quick, LONG) is None
    time.sleep(0.06)
    again = take(queue, quick)
    assert (again.id, again.crashes) == (job.id, 1)
    with pytest.raises(LostLeaseError):
        queue.heartbeat(job, slow, LONG, JobProgress("predict", 1, 2, 1.0, None))
    with pytest.raises(LostLeaseError):
        queue.fail(job, slow, {"kind": "x", "detail": "y"})
    with pytest.raises(LostLeaseError):
        queue.release(job, slow)
    assert queue.get(job.id).state is JobState.RUNNING
    assert queue.heartbeat(again, quick, LONG) is False


def test_the_job_of_a_process_that_is_gone_is_taken_at_once(queue: Queue) -> None:
    submit(queue)
    host, _, _, nonce = worker_name().split("|")
    job = take(queue, f"{host}|999999999|1.0|{nonce}")
    assert take(queue, worker_name()).id == job.id


def test_a_job_that_kills_its_workers_is_failed_with_the_reason(queue: Queue) -> None:
    job = submit(queue)
    for _ in range(MAX_CRASHES):
        take(queue, worker_name(), seconds=-1)
    assert queue.claim(worker_name(), LONG) is None
    after = queue.get(job.id)
    assert after.state is JobState.FAILED
    assert after.error is not None
    assert after.error["kind"] == "crash"
    assert "3 times" in after.error["detail"]


def test_a_mapping_process_that_dies_counts_and_an_orderly_stop_does_not(queue: Queue) -> None:
    submit(queue)
    worker = worker_name()
    for _ in range(MAX_CRASHES + 1):
        assert queue.release(take(queue, worker), worker).crashes == 0
    for _ in range(MAX_CRASHES):
        job = queue.release(take(queue, worker), worker, crash="signal SIGSEGV")
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert "SIGSEGV" in job.error["detail"]


def test_cancelling(queue: Queue) -> None:
    waiting, running = submit(queue, priority=-1), submit(queue)
    worker = worker_name()
    job = take(queue, worker)
    assert job.id == running.id
    assert queue.cancel(waiting.id).state is JobState.CANCELLED
    assert queue.cancel(running.id).cancel
    assert queue.heartbeat(job, worker, LONG) is True
    queue.cancelled(job, worker)
    assert queue.cancel(running.id).state is JobState.CANCELLED
    with pytest.raises(NotFoundError):
        queue.cancel("nothing")


def test_a_cancelled_job_whose_worker_died_is_not_run_again(queue: Queue) -> None:
    job = submit(queue)
    take(queue, worker_name(), seconds=-1)
    queue.cancel(job.id)
    assert queue.claim(worker_name(), LONG) is None
    assert queue.get(job.id).state is JobState.CANCELLED


def test_a_done_job_cannot_be_cancelled(queue: Queue) -> None:
    job = submit(queue)
    worker = worker_name()
    taken = take(queue, worker)
    with queue.database.write() as db:
        queue.close(db, taken, worker, JobState.DONE)
    with pytest.raises(ConflictError, match="DELETE /maps"):
        queue.cancel(job.id)


def test_the_same_key_twice_is_one_job(queue: Queue) -> None:
    key = Idempotency("k", "what was asked")
    first = queue.submit(JobRequest("me", "s", "m", {}), idempotency=key)
    assert queue.submit(JobRequest("me", "s", "m", {}), idempotency=key).id == first.id
    assert queue.submit(JobRequest("you", "s", "m", {}), idempotency=key).id != first.id
    with pytest.raises(IdempotencyError):
        queue.submit(JobRequest("me", "s", "m", {}), idempotency=replace(key, fingerprint="something else"))


def test_the_same_key_from_many_threads_is_one_job(queue: Queue) -> None:
    found = []

    def ask() -> None:
        found.append(queue.submit(JobRequest("me", "s", "m", {}), idempotency=Idempotency("k", "f")).id)
        queue.database.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_open_jobs_of_a_key_are_limited(queue: Queue) -> None:
    request = JobRequest("me", "s", "m", {})
    queue.submit(request, max_open=2)
    second = queue.submit(request, max_open=2)
    with pytest.raises(QuotaError):
        queue.submit(request, max_open=2)
    queue.submit(replace(request, owner="you"), max_open=2)
    queue.cancel(second.id)
    queue.submit(request, max_open=2)


def test_pages_show_the_newest_first_and_only_the_owners(queue: Queue) -> None:
    mine = [submit(queue, "me") for _ in range(3)]
    submit(queue, "you")
    page = queue.page("me", everyone=False, before=None, limit=2)
    assert [j.id for j in page] == [mine[2].id, mine[1].id]
    rest = queue.page("me", everyone=False, before=page[-1].number, limit=2)
    assert [j.id for j in rest] == [mine[0].id]
    assert len(queue.page(None, everyone=True, before=None, limit=10)) == 4


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["submit", "claim", "die", "stop", "done", "cancel", "beat"]), max_size=40))
def test_whatever_happens_no_job_is_lost_and_none_runs_twice(tmp_path: Path, events: list[str]) -> None:
    """After any history, every job is finished or will still be handed out, and never to two holders."""
    database = Database(tmp_path / f"{time.monotonic_ns()}.sqlite3")
    with database.write() as db:
        db.execute("INSERT INTO scenes VALUES ('s', NULL, 'a.tif', 1, '', 1, '{}', 0)")
    queue = Queue(database)
    made: list[str] = []
    held: dict[str, tuple[Job, str]] = {}
    for event in events:
        if event == "submit":
            made.append(submit(queue).id)
        elif event == "claim":
            worker = worker_name()
            job = queue.claim(worker, LONG)
            if job is not None:
                assert job.id not in held
                held[job.id] = (job, worker)
        elif event == "cancel" and made:
            if queue.get(made[0]).state is not JobState.DONE:
                queue.cancel(made[0])
        elif held:
            job, worker = held.pop(next(iter(held)))
            if event == "die":
                queue.release(job, worker, crash="signal")
            elif event == "stop":
                queue.release(job, worker)
            elif event == "done":
                with database.write() as db:
                    queue.close(db, job, worker, JobState.DONE)
            else:
                queue.heartbeat(job, worker, LONG)
                held[job.id] = (job, worker)
    for job, worker in held.values():
        queue.release(job, worker)
    while (job_ := queue.claim(worker := worker_name(), LONG)) is not None:
        with database.write() as db:
            queue.close(db, job_, worker, JobState.DONE)
    assert len(set(made)) == len(made)
    assert not any(queue.get(j).state.open for j in made)
    database.close()
