"""What the service keeps on disk, below its data folder: uploaded scenes and finished maps.

    geounet.sqlite3        records; `geounet.service.database`
    incoming/ID.part       an upload on its way in, locked by the process that writes it
    incoming/ID.clean/     what is being decoded of it
    scenes/ID/             a decoded upload; `geounet.service.tables.scenes`
    work/ID/               where a job works; what an interrupted one left is gone on from
    ballast                room to give free, so that things can be deleted from a full disk
    maps/ID/               a finished map, moved here in one step; `geounet.service.tables.maps`

What concerns more than one table is here, each in one transaction.
"""

import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from geounet.service.ballast import Ballast
from geounet.service.database import Database
from geounet.service.errors import ConflictError, QuotaError, StorageError, TooLargeError
from geounet.service.jobs import Job, JobState, Queue
from geounet.service.settings import ServiceSettings
from geounet.service.tables.corrections import Corrections
from geounet.service.tables.maps import Maps
from geounet.service.tables.scenes import SceneRecord, Scenes
from geounet.service.uploads import Share, Upload
from tiles.durable import sync_folder

DATABASE_FILE = "geounet.sqlite3"

Result = TypeVar("Result")


class Store:
    """Scenes, jobs and maps under one data folder. Safe to use from many threads and processes."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Open the folder, making what is missing. Raises StorageError where that cannot be."""
        self.settings = settings
        self.root = settings.data.resolve()
        try:
            for name in ("incoming", "scenes", "work", "maps", "locks"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.root} cannot be the data folder: {error.strerror}") from error
        self.ballast = Ballast(self.root)
        self.database = self.even_if_full(Database, self.root / DATABASE_FILE)
        self.queue = Queue(self.database)
        self.scenes = Scenes(self.database, self.root / "scenes", keep_originals=settings.keep_originals)
        self.corrections = Corrections(self.database)
        self.maps = Maps(self.database, self.root / "maps")

    def even_if_full(self, work: Callable[..., Result], *given: Any) -> Result:
        """Do what has to be possible on a full disk: whatever frees room, or ends a job. Raises what `work` raises."""
        try:
            return work(*given)
        except StorageError:
            if not self.ballast.drop():
                raise
            return work(*given)
        finally:
            self.ballast.take_on()

    # -- room --------------------------------------------------------------------------------------------------

    def begin_upload(self, owner: str | None, share: Share, limit: int, announced: int | None) -> Upload:
        """Room for an upload of at most `limit` bytes; `announced` is the client's Content-Length.

        Raises TooLargeError, QuotaError, StorageError before a byte is taken.
        """
        if announced is not None and announced > limit:
            raise TooLargeError(f"the body has {announced} bytes, the limit is {limit}: send a smaller scene")

        def check(size: int) -> None:
            self.check_room(owner, share, size)

        check(announced or 0)
        return Upload(self.root / "incoming" / f"{secrets.token_hex(10)}.part", limit, check)

    def check_room(self, owner: str | None, share: Share, size: int, pixels: int = 0) -> None:
        """Raise QuotaError or StorageError where `size` more bytes or `pixels` more pixels do not fit."""
        free = shutil.disk_usage(self.root).free
        if size + self.settings.disk_reserve > free:
            raise StorageError(f"the disk has no room for {size} more bytes: delete scenes or maps, or try later")
        if self.settings.quota is not None and self.used() + size > self.settings.quota:
            raise StorageError(f"the service may hold {self.settings.quota} bytes: delete scenes or maps first")
        scene_bytes, used_pixels = self.scenes.used_by(owner)
        used_bytes = scene_bytes + self.maps.used_by(owner)
        if share.max_bytes is not None and used_bytes + size > share.max_bytes:
            raise QuotaError(f"your key may hold {share.max_bytes} bytes and holds {used_bytes}: delete some first")
        if share.max_pixels is not None and used_pixels + pixels > share.max_pixels:
            raise QuotaError(f"your key may hold {share.max_pixels} pixels and holds {used_pixels}: delete some first")

    def used(self) -> int:
        """Bytes of all scenes and maps."""
        return self.scenes.used() + self.maps.used()

    # -- scenes and maps ---------------------------------------------------------------------------------------

    def keep(
        self, upload: Upload, owner: str | None, name: str, info: Mapping[str, Any], pixels: int, share: Share
    ) -> SceneRecord:
        """Make a checked upload a scene: from here on it survives any restart. Raises QuotaError, StorageError."""
        return self.scenes.add(
            upload, owner, name, info, pixels, lambda size: self.check_room(owner, share, size, pixels)
        )

    def delete_scene(self, scene_id: str) -> None:
        """Remove a scene, also from a full disk. Raises NotFoundError, and ConflictError while an open job needs it."""
        self.even_if_full(self._delete_scene, scene_id)

    def _delete_scene(self, scene_id: str) -> None:
        with self.database.write() as db:
            busy = self.queue.open_job_of(db, scene_id)
            if busy is not None:
                raise ConflictError(f"job '{busy}' still needs this scene: cancel it or wait for it")
            self.scenes.remove(db, scene_id)
            self.queue.forget_scene(db, scene_id)
        self.scenes.discard(scene_id)

    def delete_map(self, map_id: str) -> None:
        """Remove a map and its job's record, also from a full disk. Raises NotFoundError."""
        self.even_if_full(self._delete_map, map_id)

    def _delete_map(self, map_id: str) -> None:
        with self.database.write() as db:
            self.maps.remove(db, map_id)
            self.corrections.forget(db, map_id)
            self.queue.forget_job(db, map_id)
        self.maps.discard(map_id)

    # -- jobs on disk ------------------------------------------------------------------------------------------

    def work_folder(self, job: Job) -> Path:
        """Where a job works; `publish` takes the folder `map` inside."""
        return self.root / "work" / job.id

    def published(self, job: Job) -> bool:
        """Whether the map lies in its place already, though a worker died before it could say so."""
        return self.maps.folder(job.id).is_dir()

    def publish(self, job: Job, worker: str) -> None:
        """Move a finished map into its place and end its job, under the lease. Raises LostLeaseError."""
        target = self.maps.folder(job.id)
        with self.database.write() as db:
            self.queue.close(db, job, worker, JobState.DONE)
            if not target.is_dir():
                (self.work_folder(job) / "map").rename(target)
                sync_folder(target.parent)
            self.maps.record(db, job, self.scenes.name(db, job.scene) or job.scene)
        self.discard_work(job)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job, also on a full disk, and remove what it has left. Raises NotFoundError, ConflictError."""
        return self.even_if_full(self._cancel, job_id)

    def _cancel(self, job_id: str) -> Job:
        job = self.queue.cancel(job_id)
        if not job.state.open:
            self.discard_work(job)
        return job

    def discard_work(self, job: Job) -> None:
        """Remove what a job has left in its working folder."""
        shutil.rmtree(self.work_folder(job), ignore_errors=True)
