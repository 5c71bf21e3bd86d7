"""On a full disk the service says so, and can still be made room in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path
from fastapi.testclient import TestClient
from api.main import create_app
from api.settings import ApiSettings
from geounet.service.jobs import JobRequest
from geounet.service.settings import ServiceSettings
from geounet.service.store import Store
from geounet.service.uploads import Share

disk, bundles = Path(sys.argv[1]), Path(sys.argv[2])
store = Store(ServiceSettings(data=disk / "data", disk_reserve=0))

def scene():
    upload = store.begin_upload(None, Share(), 10**9, None)
    upload.write(os.urandom(200_000))
    made = store.keep(upload, None, "a.tif", {}, 1, Share())
    upload.close()
    return made.id

def fill():
    "Every last byte."
    for size in (1 << 20, 4096, 512, 1):
        try:
            with (disk / "filler").open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(size))
        except OSError:
            pass

scenes = [scene() for _ in range(3)]
job = store.queue.submit(JobRequest(None, scenes[0], "toy", {}))
store.queue.submit(JobRequest(None, scenes[1], "toy", {}))
told = {}
app = create_app(ApiSettings(data=store.root, bundles=bundles, disk_reserve=0, model="toy"))
with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
    fill()
    for _ in range(40):  # what is left in the log's last block is used up, too
        try:
            store.queue.submit(JobRequest(None, scenes[1], "toy", {"x": "y" * 3000}))
        except Exception as error:
            told["submit"] = type(error).__name__
            break
    body = bytes(3_000_000)
    answers = {
        "upload": client.put("/scenes/b.tif", content=body),
        "key": client.post("/jobs", json={"scene": scenes[2]}, headers={"Idempotency-Key": "k"}),
        "health": client.get("/healthz"),
        "list": client.get("/scenes"),
        "cancel": client.delete(f"/jobs/{job.id}"),
        "delete": client.delete(f"/scenes/{scenes[2]}"),
    }
    told |= {name: [a.status_code, a.headers.get("retry-after"), a.text[:300]] for name, a in answers.items()}
    fill()
with TestClient(create_app(ApiSettings(data=store.root, bundles=bundles, disk_reserve=0, model="toy")),
                base_url="http://127.0.0.1") as client:  # a restart on a full disk
    told["restarted"] = client.get("/healthz").status_code
    for other in client.get("/jobs?state=queued").json()["jobs"]:
        told["cancel again"] = client.delete(f"/jobs/{other['id']}").status_code
    told["delete again"] = [client.delete(f"/scenes/{s}").status_code for s in scenes[:2]]
    (disk / "filler").unlink()
    told["scenes"] = len(client.get("/scenes").json()["scenes"])
store.ballast.take_on()
told["ballast"] = store.ballast.path.stat().st_blocks * 512
print(json.dumps(told))
"""


def run_on_a_small_disk(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python on a disk of 16 MB: a tmpfs that only its own namespace sees."""
    mounted = 'mount -t tmpfs -o size=16m none "$0" && exec "$@"'
    inside = ["sh", "-c", mounted, str(folder), sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder), *arguments]
    for namespace in (["unshare", "-Urm"], ["unshare", "-m"]):
        tried = subprocess.run([*namespace, "true"], capture_output=True, text=True)
        if tried.returncode == 0:
            return subprocess.run([*namespace, *inside], capture_output=True, text=True, timeout=300)
    pytest.skip("this system lets nobody mount a small disk of their own")


def test_a_full_disk_is_507_with_words_and_deleting_works(tmp_path: Path, bundles: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    done = run_on_a_small_disk(disk, str(bundles))
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["submit"] == "StorageError"
    status, retry, text = told["upload"]
    assert status == 507, text
    assert retry
    assert "delete scenes or maps" in text
    assert told["health"][0] == told["list"][0] == 200
    assert told["cancel"][0] == 202, told["cancel"]
    assert told["delete"][0] == 204, told["delete"]
    assert told["restarted"] == 200
    assert told["cancel again"] == 202
    assert told["delete again"] == [204, 204]
    assert told["scenes"] == 0
    assert told["ballast"] >= 3_000_000
