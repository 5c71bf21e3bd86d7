"""A worker: takes jobs from the queue, has each made in a process of its own, keeps the lease meanwhile."""

import contextlib
import fcntl
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from geounet.errors import GeounetError
from geounet.outputs.files import CORRECTIONS, MODEL, RUN, SUMMARY
from geounet.service.catalog import Catalog
from geounet.service.errors import BusyError, LostLeaseError, StorageError
from geounet.service.housekeeping import tidy
from geounet.service.jobs import Job, JobProgress, process_alive, worker_name
from geounet.service.processes.child import Child
from geounet.service.processes.map_child import FROM
from geounet.service.processes.map_task import MapTask
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store

log = logging.getLogger("geounet.service.processes.worker")


MAPPER = "geounet.service.processes.map_child:MapMaker"
IDLE_SECONDS = 0.2
TIDY_SECONDS = 600.0
JOBS_A_PROCESS = 50


class Worker:
    """One job at a time. Several workers may share a data folder; on one GPU they take turns."""

    def __init__(self, settings: ServiceSettings, mapper: str = MAPPER) -> None:
        self.settings = settings
        self.store = Store(settings)
        self.catalog = Catalog(settings.bundles)
        self.name = worker_name()
        self._mapper = mapper
        self._child: Child | None = None
        self._stopping = False
        self._tidied = float("-inf")

    def stop(self, *_: object) -> None:
        """Give the job in hand back and leave; safe in a signal handler."""
        self._stopping = True

    def run(self, once: bool = False) -> None:
        """Work until `stop`; with `once`, until the queue is empty."""
        log.info("worker started", extra={"data": str(self.store.root)})
        try:
            while not self._stopping:
                self._tidy()
                with self._turn() as mine:
                    job = self.store.queue.claim(self.name, self.settings.lease_seconds) if mine else None
                    if job is not None:
                        self._take(job)
                        continue
                if once:
                    return
                self._ready_child()  # so that the next job does not wait for imports
                time.sleep(IDLE_SECONDS)
        finally:
            self._kill_child()

    def _take(self, job: Job) -> None:
        log.info("job taken", extra={"job": job.id, "attempt": job.attempts})
        try:
            self._end_predecessor(job)
            self._make(job)
        except LostLeaseError:
            self._kill_child()
            log.warning("lease lost", extra={"job": job.id})

    def _make(self, job: Job) -> None:
        queue = self.store.queue
        if self.store.published(job):
            self.store.publish(job, self.name)
            return
        try:
            task = self._task(job)
        except GeounetError as error:
            self.store.even_if_full(queue.fail, job, self.name, {"kind": type(error).__name__, "detail": str(error)})
            return
        child = self._ready_child()
        queue.heartbeat(job, self.name, self.settings.lease_seconds, child=child.identity)
        child.send(task, job.id)
        outcome = self._follow(job, child)
        if outcome == "done":
            self.store.publish(job, self.name)
        elif outcome == "cancelled":
            self._kill_child()
            self.store.even_if_full(queue.cancelled, job, self.name)
            self.store.discard_work(job)
        elif outcome == "stopped":
            self._kill_child()
            queue.release(job, self.name)
        elif outcome == "late":
            self._kill_child()
            detail = f"the job ran longer than {self.settings.job_hours:g} hours: map a smaller area"
            self.store.even_if_full(queue.fail, job, self.name, {"kind": "timeout", "detail": detail})
            self.store.discard_work(job)
        elif isinstance(outcome, dict):
            self.store.even_if_full(queue.fail, job, self.name, outcome)
            self.store.discard_work(job)
        else:
            how = child.how_it_ended()
            self._kill_child()
            after = queue.release(job, self.name, crash=how)
            if not after.state.open:
                self.store.discard_work(job)
        log.info("job left", extra={"job": job.id, "outcome": str(outcome)})

    def _task(self, job: Job) -> MapTask:
        if "correct" in job.options:
            self._lay_out(job)
        return MapTask(
            scene=str(self.store.scenes.path(job.scene)),
            name=self.store.scenes.get(job.scene).name,
            model=str(self.catalog.locate(job.model)),
            out=str(self.store.work_folder(job) / "map"),
            options=job.options,
            engine=self.settings.engine,
            device=self.settings.device,
            max_polygons=self.settings.max_polygons,
        )

    def _lay_out(self, job: Job) -> None:
        """Put what a correction needs of the map it starts from where the mapping process may read it."""
        earlier = self.store.maps.get(job.options["correct"]["map"])
        source, target = self.store.maps.folder(earlier.id), self.store.work_folder(job) / FROM
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in (SUMMARY, RUN, CORRECTIONS):
            if (source / name).is_file():
                shutil.copyfile(source / name, target / name)
        if (source / MODEL).is_dir():
            shutil.copytree(source / MODEL, target / MODEL)

    def _follow(self, job: Job, child: "Child") -> str | dict[str, str]:
        """Wait for the job's end, beating the heart meanwhile.

        Gives "done", "cancelled", "stopped", "late", "crashed", or the error that the job ended with.
        """
        ends = time.monotonic() + self.settings.job_hours * 3600
        beat = min(0.5, self.settings.lease_seconds / 4)
        while True:
            progress = None
            for message in child.messages(beat):
                if "progress" in message:
                    progress = JobProgress(**message["progress"])
                elif "error" in message:
                    return dict(message["error"])
                elif "done" in message:
                    return "done"
            if self._beat(job, progress):
                return "cancelled"
            if self._stopping:
                return "stopped"
            if child.ended:
                return "crashed"
            if time.monotonic() > ends:
                return "late"

    def _beat(self, job: Job, progress: JobProgress | None) -> bool:
        """Keep the lease. Returns whether a cancel was asked for. Where the disk is full, the next beat counts."""
        try:
            return self.store.queue.heartbeat(job, self.name, self.settings.lease_seconds, progress)
        except (StorageError, BusyError) as error:
            log.warning("no heartbeat: %s", error, extra={"job": job.id})
            return False

    def _end_predecessor(self, job: Job) -> None:
        """Make sure that the process of the worker before us, who lost the lease, writes no more."""
        if job.child is None or not process_alive(*job.child):
            return
        with contextlib.suppress(psutil.Error):
            psutil.Process(job.child[0]).kill()
        ends = time.monotonic() + 10
        while process_alive(*job.child) and time.monotonic() < ends:
            time.sleep(0.02)

    def _ready_child(self) -> "Child":
        if self._child is None or self._child.ended or self._child.tasks >= JOBS_A_PROCESS:
            self._kill_child()
            self._child = Child(self._mapper, self.settings)
        return self._child

    def _kill_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    @contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether this worker may work now: on a GPU, one job at a time. The kernel frees the lock of a dead worker."""
        if self.settings.device == "cpu" or not Path("/dev/nvidiactl").exists():
            yield True
            return
        name = "cuda-0" if self.settings.device in ("auto", "cuda") else self.settings.device.replace(":", "-")
        with (self.store.root / "locks" / f"{Path(name).name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def _tidy(self) -> None:
        now = time.monotonic()
        if now - self._tidied > TIDY_SECONDS:
            self._tidied = now
            tidy(self.store)
