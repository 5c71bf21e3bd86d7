"""Scenes and maps on disk: limits while bytes come in, quotas, what a crash leaves, what is removed."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from geounet.service.errors import (
    ConflictError,
    LostLeaseError,
    NotFoundError,
    QuotaError,
    StorageError,
    TooLargeError,
)
from geounet.service.housekeeping import tidy
from geounet.service.jobs import JobRequest, JobState, worker_name
from geounet.service.settings import MEGA, ServiceSettings
from geounet.service.store import Store
from geounet.service.tables.scenes import ORIGINAL_FILE, SceneRecord
from geounet.service.uploads import Share

FREE = Share()


def open_store(folder: Path, **settings: object) -> Store:
    return Store(ServiceSettings(data=folder / "data", disk_reserve=0, keep_originals=True, **settings))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def add(store: Store, owner: str | None = None, body: bytes = b"12345", share: Share = FREE) -> SceneRecord:
    upload = store.begin_upload(owner, share, 1000 * MEGA, len(body))
    try:
        upload.write(body)
        return store.keep(upload, owner, "a.tif", {"columns": 1}, 10, share)
    finally:
        upload.close()


def finish(store: Store, scene: SceneRecord) -> str:
    job = store.queue.submit(JobRequest(scene.owner, scene.id, "m", {}))
    worker = worker_name()
    taken = store.queue.claim(worker, 60)
    assert taken is not None
    folder = store.work_folder(taken) / "map"
    folder.mkdir(parents=True)
    (folder / "x").write_bytes(b"123")
    store.publish(taken, worker)
    return job.id


def test_a_kept_upload_is_a_scene_after_a_restart(tmp_path: Path, store: Store) -> None:
    record = add(store)
    again = open_store(tmp_path)
    assert again.scenes.get(record.id) == record
    assert (again.scenes.path(record.id) / ORIGINAL_FILE).read_bytes() == b"12345"
    assert list((store.root / "incoming").iterdir()) == []


def test_an_upload_over_the_limit_is_refused_in_mid_stream_and_goes(store: Store) -> None:
    upload = store.begin_upload(None, FREE, 10, None)
    upload.write(b"1234567890")
    with pytest.raises(TooLargeError, match="10 bytes"):
        upload.write(b"1")
    upload.close()
    assert list((store.root / "incoming").iterdir()) == []
    with pytest.raises(TooLargeError):
        store.begin_upload(None, FREE, 10, 11)


def test_quotas_hold_for_a_key_and_for_the_whole_service(tmp_path: Path) -> None:
    store = open_store(tmp_path, quota=20)
    add(store, "me", share=Share(max_bytes=10))
    with pytest.raises(QuotaError, match="10 bytes"):
        add(store, "me", b"123456", Share(max_bytes=10))
    add(store, "you", b"123456", Share(max_bytes=10))
    with pytest.raises(QuotaError, match="pixels"):
        add(store, "you", b"1", Share(max_pixels=15))
    with pytest.raises(StorageError, match="20 bytes"):
        add(store, None, b"1234567890")
    assert store.used() == 11


def test_a_full_disk_is_said_before_a_byte_is_taken(tmp_path: Path) -> None:
    store = Store(ServiceSettings(data=tmp_path / "data", disk_reserve=10**18))
    with pytest.raises(StorageError, match="no room"):
        store.begin_upload(None, FREE, 10, 5)


def test_a_scene_that_a_job_needs_stays(store: Store) -> None:
    scene = add(store)
    job = store.queue.submit(JobRequest(None, scene.id, "m", {}))
    with pytest.raises(ConflictError, match=job.id):
        store.delete_scene(scene.id)
    store.queue.cancel(job.id)
    store.delete_scene(scene.id)
    with pytest.raises(NotFoundError):
        store.scenes.get(scene.id)
    assert not store.scenes.path(scene.id).exists()


def test_publishing_is_fenced(store: Store) -> None:
    scene = add(store)
    store.queue.submit(JobRequest(None, scene.id, "m", {}))
    worker = worker_name()
    job = store.queue.claim(worker, -1)
    assert job is not None
    (store.work_folder(job) / "map").mkdir(parents=True)
    other = store.queue.claim(worker_name(), 60)
    assert other is not None
    with pytest.raises(LostLeaseError):
        store.publish(job, worker)
    assert not store.maps.folder(job.id).exists()
    assert store.queue.get(job.id).state is JobState.RUNNING


def test_a_deleted_map_is_gone_with_its_job(store: Store) -> None:
    map_id = finish(store, add(store, "me"))
    assert [m.id for m in store.maps.page("me", everyone=False, after=None, limit=9)] == [map_id]
    assert store.scenes.used_by("me") == (5, 10)
    assert store.maps.used_by("me") == 3
    store.delete_map(map_id)
    assert store.scenes.used_by("me") == (5, 10)
    with pytest.raises(NotFoundError):
        store.maps.get(map_id)
    with pytest.raises(NotFoundError):
        store.queue.get(map_id)
    assert not store.maps.folder(map_id).exists()


def test_what_is_older_than_the_days_to_keep_goes(tmp_path: Path) -> None:
    store = open_store(tmp_path, keep_days=2)
    scene = add(store)
    map_id = finish(store, scene)
    tidy(store, time.time() + 1.9 * 86400)
    assert store.maps.get(map_id)
    tidy(store, time.time() + 2.1 * 86400)
    with pytest.raises(NotFoundError):
        store.maps.get(map_id)
    with pytest.raises(NotFoundError):
        store.scenes.get(scene.id)
    assert store.used() == 0


def test_tidying_removes_what_a_crash_left_and_nothing_else(store: Store) -> None:
    scene = add(store)
    waiting = store.queue.submit(JobRequest(None, scene.id, "m", {}))
    orphans = [store.root / kind / "orphan" for kind in ("scenes", "maps", "work")]
    orphans.append(store.root / "incoming" / "left.clean")  # a decoding process, killed with the service
    kept = [store.work_folder(waiting), store.scenes.path(scene.id)]
    for folder in (*orphans, kept[0]):
        folder.mkdir()
    long_ago = time.time() - 3600
    for folder in (*orphans, *kept):
        os.utime(folder, (long_ago, long_ago))
    (store.root / "incoming" / "left.part").touch()
    running = store.begin_upload(None, FREE, 10, None)
    tidy(store)
    assert not any(folder.exists() for folder in orphans)
    assert all(folder.exists() for folder in kept)
    assert {p.name for p in (store.root / "incoming").iterdir()} == {running.path.name, running.clean.name}
    running.close()


def test_a_name_from_outside_never_becomes_a_path(store: Store) -> None:
    upload = store.begin_upload(None, FREE, 10, None)
    upload.write(b"x")
    record = store.keep(upload, None, "../../etc/passwd", {}, 1, FREE)
    upload.close()
    assert store.scenes.path(record.id).is_relative_to(store.root / "scenes")
    assert store.scenes.same(None, "../../etc/passwd", record.sha256) == record
    assert store.scenes.same("me", "../../etc/passwd", record.sha256) is None
    assert replace(record, name="x") != record


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "geounet.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(StorageError, match=r"geounet\.sqlite3"):
        open_store(tmp_path)
