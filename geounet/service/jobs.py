"""Jobs and their durable queue: one SQLite table is the only truth about them.

A worker takes a job by a lease and keeps it by heartbeats. Every write of a worker names the lease's owner, so that a
worker that was believed dead cannot overwrite what its successor does (a fencing token). A worker that dies loses its
lease: at once where its process is seen to be gone, else when the lease runs out; the next one goes on from the
finished strips on disk.
"""

import json
import os
import secrets
import socket
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any

import psutil

from geounet.service.database import Database
from geounet.service.errors import ConflictError, IdempotencyError, LostLeaseError, NotFoundError, QuotaError

MAX_CRASHES = 3
URGENT = 10
"""Priority of requests whose client waits for the answer."""


class JobState(StrEnum):
    """The life of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        """Whether the job still has work ahead."""
        return self in (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class JobProgress:
    """Stage, pixels done of all, megapixels a second, seconds left (None: not known yet)."""

    stage: str
    done: int
    total: int
    rate: float
    seconds_left: float | None


@dataclass(frozen=True)
class JobRequest:
    """What somebody wants: a map of a scene by a model. `options` is what `map_child` reads."""

    owner: str | None
    scene: str
    model: str
    options: Mapping[str, Any]
    priority: int = 0


@dataclass(frozen=True)
class Job:
    """One row of the queue as it was at one moment. Times are seconds since 1970; `revision` grows with every change.

    The finished map carries the job's id.
    """

    id: str
    number: int
    owner: str | None
    scene: str
    model: str
    options: Mapping[str, Any]
    priority: int
    state: JobState
    created: float
    started: float | None
    finished: float | None
    revision: int
    attempts: int
    crashes: int
    cancel: bool
    progress: JobProgress | None
    error: Mapping[str, str] | None
    lease_owner: str | None
    child: tuple[int, float] | None


@dataclass(frozen=True)
class Idempotency:
    """A client's key and the fingerprint of what it asked for under it."""

    key: str
    fingerprint: str


_OPEN_OF = "SELECT count(*) FROM jobs WHERE owner IS ? AND state IN ('queued', 'running')"


class Queue:
    """Submit, take, keep, finish and cancel jobs. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def submit(
        self, request: JobRequest, *, idempotency: Idempotency | None = None, max_open: int | None = None
    ) -> Job:
        """Queue a job, or return the one that the same idempotency key made before.

        Raises IdempotencyError, QuotaError (too many open jobs of this owner), NotFoundError (the scene is gone).
        """
        job_id = secrets.token_hex(10)
        now = time.time()
        with self.database.write() as db:
            if idempotency is not None:
                known = _remembered(db, request.owner, idempotency)
                if known is not None and known["job"] is not None:
                    return self.get(known["job"])
            if db.execute("SELECT 1 FROM scenes WHERE id = ?", (request.scene,)).fetchone() is None:
                raise NotFoundError(f"there is no scene '{request.scene}' (any more): upload it first", "scene")
            if max_open is not None and _open_jobs(db, request.owner) >= max_open:
                raise QuotaError(f"{max_open} jobs of yours are open already: wait for one or cancel one")
            db.execute(
                "INSERT INTO jobs (id, owner, scene, model, options, priority, state, created)"
                " VALUES (?, ?, ?, ?, ?, ?, 'queued', ?)",
                (
                    job_id,
                    request.owner,
                    request.scene,
                    request.model,
                    json.dumps(dict(request.options)),
                    request.priority,
                    now,
                ),
            )
            if idempotency is not None:
                _remember(db, request.owner, idempotency, request.scene, job_id)
        return self.get(job_id)

    def remembered(self, owner: str | None, idempotency: Idempotency) -> tuple[str, str | None] | None:
        """(scene, job) that this key made before. Raises IdempotencyError where it was used for something else."""
        row = _remembered(self.database.connection(), owner, idempotency)
        return None if row is None else (row["scene"], row["job"])

    def remember(self, owner: str | None, idempotency: Idempotency, scene: str) -> None:
        """Note that this key uploaded this scene."""
        with self.database.write() as db:
            if _remembered(db, owner, idempotency) is None:
                _remember(db, owner, idempotency, scene, None)

    def get(self, job_id: str) -> Job:
        """The job as it is now. Raises NotFoundError."""
        row = self.database.one("SELECT * FROM jobs WHERE id = ?", job_id)
        if row is None:
            raise NotFoundError(f"there is no job '{job_id}'")
        return _job(row)

    def page(
        self, owner: str | None, *, everyone: bool, before: int | None, limit: int, state: JobState | None = None
    ) -> list[Job]:
        """The newest jobs first; `before` is the `number` of the last job of the page before."""
        rows = self.database.all(
            "SELECT * FROM jobs WHERE (?1 OR owner IS ?2) AND (?3 IS NULL OR number < ?3)"
            " AND (?5 IS NULL OR state = ?5) ORDER BY number DESC LIMIT ?4",
            everyone,
            owner,
            before,
            limit,
            state,
        )
        return [_job(row) for row in rows]

    def place(self, job: Job) -> int | None:
        """How many jobs are ahead in the queue; None unless the job is queued."""
        if job.state is not JobState.QUEUED:
            return None
        row = self.database.one(
            "SELECT count(*) FROM jobs WHERE state = 'queued' AND (priority > ?1 OR (priority = ?1 AND number < ?2))",
            job.priority,
            job.number,
        )
        return int(row[0]) if row is not None else None

    def open_jobs(self) -> int:
        """Queued and running jobs of everybody."""
        row = self.database.one("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')")
        return int(row[0]) if row is not None else 0

    def open_jobs_of(self, owner: str | None) -> int:
        """Queued and running jobs of one owner."""
        row = self.database.one(_OPEN_OF, owner)
        return int(row[0]) if row is not None else 0

    def claim(self, worker: str, lease_seconds: float) -> Job | None:
        """Take the next job: the most urgent, then the oldest; also one whose worker has died.

        A job that has taken `MAX_CRASHES` workers or mapping processes with it is failed instead.
        """
        now = time.time()
        while True:
            with self.database.write() as db:
                row = _next(db, now)
                if row is None:
                    return None
                died = row["state"] == JobState.RUNNING
                crashes = row["crashes"] + died
                if row["cancel"]:
                    _close(db, row["number"], JobState.CANCELLED, None, now)
                elif crashes >= MAX_CRASHES:
                    _close(db, row["number"], JobState.FAILED, _crash_report(crashes, "the worker process died"), now)
                else:
                    db.execute(
                        "UPDATE jobs SET state = 'running', lease_owner = ?, lease_until = ?, crashes = ?,"
                        " attempts = attempts + 1, started = coalesce(started, ?), error = NULL,"
                        " revision = revision + 1 WHERE number = ?",
                        (worker, now + lease_seconds, crashes, now, row["number"]),
                    )
                    claimed = row["id"]
                    break
        return self.get(claimed)

    def heartbeat(
        self,
        job: Job,
        worker: str,
        lease_seconds: float,
        progress: JobProgress | None = None,
        child: tuple[int, float] | None = None,
    ) -> bool:
        """Keep the lease, note progress and the mapping process. Returns whether a cancel was asked for.

        Raises LostLeaseError where the lease is another worker's by now.
        """
        with self.database.write() as db:
            changed = db.execute(
                "UPDATE jobs SET lease_until = ?, child_pid = coalesce(?, child_pid),"
                " child_born = coalesce(?, child_born), revision = revision + ?, progress = coalesce(?, progress)"
                " WHERE id = ? AND lease_owner = ? AND state = 'running' RETURNING cancel",
                (
                    time.time() + lease_seconds,
                    child[0] if child else None,
                    child[1] if child else None,
                    progress is not None,
                    json.dumps(vars(progress)) if progress else None,
                    job.id,
                    worker,
                ),
            ).fetchone()
        if changed is None:
            raise _lost(job)
        return bool(changed["cancel"])

    def close(
        self,
        db: sqlite3.Connection,
        job: Job,
        worker: str,
        state: JobState,
        error: Mapping[str, str] | None = None,
    ) -> None:
        """End a job inside the caller's transaction. Raises LostLeaseError, and then the caller must undo its part."""
        held = db.execute(
            "SELECT number FROM jobs WHERE id = ? AND lease_owner = ? AND state = 'running'", (job.id, worker)
        ).fetchone()
        if held is None:
            raise _lost(job)
        _close(db, held["number"], state, error, time.time())

    def open_job_of(self, db: sqlite3.Connection, scene_id: str) -> str | None:
        """The id of an open job that needs this scene, inside the caller's transaction."""
        row = db.execute(
            "SELECT id FROM jobs WHERE scene = ? AND state IN ('queued', 'running')", (scene_id,)
        ).fetchone()
        return None if row is None else str(row["id"])

    def forget_scene(self, db: sqlite3.Connection, scene_id: str) -> None:
        """Forget the keys that a scene was uploaded under, inside the caller's transaction."""
        db.execute("DELETE FROM idempotency WHERE scene = ?", (scene_id,))

    def forget_job(self, db: sqlite3.Connection, job_id: str) -> None:
        """Remove a job's record and the keys it was asked for under, inside the caller's transaction."""
        db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        db.execute("DELETE FROM idempotency WHERE job = ?", (job_id,))

    def expire(self, before: float) -> None:
        """Forget jobs without a map and keys that are older than `before`, seconds since 1970."""
        with self.database.write() as db:
            db.execute("DELETE FROM jobs WHERE finished < ? AND state IN ('failed', 'cancelled')", (before,))
            db.execute("DELETE FROM idempotency WHERE created < ?", (before,))

    def fail(self, job: Job, worker: str, error: Mapping[str, str]) -> None:
        """End a job with the reason: `kind`, `detail` and, where a field is to blame, `field`."""
        with self.database.write() as db:
            self.close(db, job, worker, JobState.FAILED, error)

    def cancelled(self, job: Job, worker: str) -> None:
        """The worker has stopped the job as it was asked to."""
        with self.database.write() as db:
            self.close(db, job, worker, JobState.CANCELLED)

    def release(self, job: Job, worker: str, *, crash: str | None = None) -> Job:
        """Give a job back: after an orderly stop, or because its mapping process died (`crash` says how).

        The third crash fails the job. Raises LostLeaseError.
        """
        with self.database.write() as db:
            row = db.execute(
                "SELECT number, crashes FROM jobs WHERE id = ? AND lease_owner = ? AND state = 'running'",
                (job.id, worker),
            ).fetchone()
            if row is None:
                raise _lost(job)
            crashes = row["crashes"] + (crash is not None)
            if crashes >= MAX_CRASHES:
                _close(db, row["number"], JobState.FAILED, _crash_report(crashes, crash or ""), time.time())
            else:
                db.execute(
                    "UPDATE jobs SET state = 'queued', lease_owner = NULL, lease_until = NULL, child_pid = NULL,"
                    " child_born = NULL, crashes = ?, revision = revision + 1 WHERE number = ?",
                    (crashes, row["number"]),
                )
        return self.get(job.id)

    def cancel(self, job_id: str) -> Job:
        """Cancel a queued job at once, a running one as soon as its worker hears of it.

        A job that has failed or was cancelled stays as it is. Raises NotFoundError, and ConflictError for a done job.
        """
        with self.database.write() as db:
            row = db.execute("SELECT number, state FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if row is None:
                raise NotFoundError(f"there is no job '{job_id}'")
            if row["state"] == JobState.DONE:
                raise ConflictError(f"job '{job_id}' is done: delete its map instead, DELETE /maps/{job_id}")
            if row["state"] == JobState.QUEUED:
                _close(db, row["number"], JobState.CANCELLED, None, time.time())
            elif row["state"] == JobState.RUNNING:
                db.execute("UPDATE jobs SET cancel = 1, revision = revision + 1 WHERE number = ?", (row["number"],))
        return self.get(job_id)


def worker_name() -> str:
    """Who holds a lease: host, process, the process's birth, and a random part. Unique for each call."""
    return f"{socket.gethostname()}|{os.getpid()}|{psutil.Process().create_time()}|{secrets.token_hex(4)}"


def process_alive(pid: int, born: float) -> bool:
    """Whether this very process still runs; the birth time tells it from a later one with the same number."""
    try:
        process = psutil.Process(pid)
        return bool(abs(process.create_time() - born) < 1.0 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


@cache
def _host() -> str:
    return socket.gethostname()


def _owner_gone(worker: str) -> bool:
    """Whether the lease's owner surely does not run any more: a process of this host that is not there."""
    host, pid, born, _ = worker.split("|")
    return host == _host() and not process_alive(int(pid), float(born))


def _next(db: sqlite3.Connection, now: float) -> sqlite3.Row | None:
    rows = db.execute(
        "SELECT number, id, state, crashes, cancel, lease_until, lease_owner FROM jobs"
        " WHERE state IN ('queued', 'running') ORDER BY priority DESC, number"
    )
    for row in rows:
        if row["state"] == JobState.QUEUED or row["lease_until"] < now or _owner_gone(row["lease_owner"]):
            found: sqlite3.Row = row
            return found
    return None


def _close(db: sqlite3.Connection, number: int, state: JobState, error: Mapping[str, str] | None, now: float) -> None:
    db.execute(
        "UPDATE jobs SET state = ?, error = ?, finished = ?, lease_owner = NULL, lease_until = NULL,"
        " child_pid = NULL, child_born = NULL, revision = revision + 1 WHERE number = ?",
        (state, json.dumps(dict(error)) if error else None, now, number),
    )


def _crash_report(crashes: int, how: str) -> dict[str, str]:
    return {
        "kind": "crash",
        "detail": f"the mapping process died {crashes} times on this scene (the last time: {how}), so it is not tried "
        "again: the scene may be damaged, or need more memory than there is",
    }


def _remembered(db: sqlite3.Connection, owner: str | None, idempotency: Idempotency) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(
        "SELECT fingerprint, scene, job FROM idempotency WHERE owner = ? AND key = ?", (owner or "", idempotency.key)
    ).fetchone()
    if row is not None and row["fingerprint"] != idempotency.fingerprint:
        raise IdempotencyError(
            "this Idempotency-Key was used for a different request before: take a new key for a new request",
            "Idempotency-Key",
        )
    return row


def _remember(db: sqlite3.Connection, owner: str | None, idempotency: Idempotency, scene: str, job: str | None) -> None:
    db.execute(
        "INSERT OR REPLACE INTO idempotency (owner, key, fingerprint, scene, job, created) VALUES (?, ?, ?, ?, ?, ?)",
        (owner or "", idempotency.key, idempotency.fingerprint, scene, job, time.time()),
    )


def _open_jobs(db: sqlite3.Connection, owner: str | None) -> int:
    return int(db.execute(_OPEN_OF, (owner,)).fetchone()[0])


def _lost(job: Job) -> LostLeaseError:
    return LostLeaseError(f"job '{job.id}' is not this worker's any more: nothing was written")


def _job(row: sqlite3.Row) -> Job:
    progress = json.loads(row["progress"]) if row["progress"] else None
    return Job(
        id=row["id"],
        number=row["number"],
        owner=row["owner"],
        scene=row["scene"],
        model=row["model"],
        options=json.loads(row["options"]),
        priority=row["priority"],
        state=JobState(row["state"]),
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        revision=row["revision"],
        attempts=row["attempts"],
        crashes=row["crashes"],
        cancel=bool(row["cancel"]),
        progress=JobProgress(**progress) if progress else None,
        error=json.loads(row["error"]) if row["error"] else None,
        lease_owner=row["lease_owner"],
        child=(row["child_pid"], row["child_born"]) if row["child_pid"] else None,
    )
