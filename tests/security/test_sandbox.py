"""The kernel's fence around a process, tried from inside; and what the service says of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from geounet.service.processes.sandbox.kernel import Fence, Held, SandboxError, enter, probe, runtime_paths

HELD = probe("auto")
needs_landlock = pytest.mark.skipif(not HELD.landlock, reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(not HELD.seccomp, reason="this kernel takes no seccomp filter")

_TRY = """
import json, os, socket, subprocess, sys
from geounet.service.processes.sandbox.kernel import Fence, enter
fence, layers = json.loads(sys.argv[1]), json.loads(sys.argv[2])
enter(Fence(**fence), layers)
told = {}
def attempt(name, act):
    try:
        act()
        told[name] = "done"
    except OSError as error:
        told[name] = type(error).__name__
for path in json.loads(sys.argv[3]):
    attempt("read " + path, lambda: open(path, "rb").close())
    attempt("write " + path, lambda: open(path, "ab").close())
attempt("list", lambda: os.listdir("/"))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
attempt("unix", lambda: socket.socket(socket.AF_UNIX).close())
attempt("pair", lambda: socket.socketpair())
attempt("program", lambda: subprocess.run([sys.executable, "-c", ""]))
attempt("signal", lambda: os.kill(os.getppid(), 0))
print(json.dumps(told))
"""


def attempts(fence: Fence, layers: list[str], *paths: Path) -> dict[str, str]:
    """What a process behind `layers` can do."""
    given = [json.dumps(fence.as_record()), json.dumps(layers), json.dumps([str(path) for path in paths])]
    done = subprocess.run([sys.executable, "-c", _TRY, *given], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@needs_landlock
def test_landlock_leaves_what_is_named(tmp_path: Path) -> None:
    mine, written, other = tmp_path / "mine", tmp_path / "folder" / "written", tmp_path / "other"
    written.parent.mkdir()
    for path in (mine, written, other):
        path.write_bytes(b"x")
    fence = Fence("auto", (*runtime_paths(), str(mine)), (str(written.parent),))
    told = attempts(fence, ["landlock"], mine, written, other, Path("/etc/passwd"))
    assert told[f"read {mine}"] == told[f"read {written}"] == told[f"write {written}"] == "done"
    assert told[f"write {mine}"] == told[f"read {other}"] == told["read /etc/passwd"] == "PermissionError"
    assert told["list"] == "PermissionError"


@needs_landlock
def test_landlock_sees_through_links(tmp_path: Path) -> None:
    secret, folder = tmp_path / "secret", tmp_path / "folder"
    secret.write_bytes(b"x")
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    told = attempts(Fence("auto", (*runtime_paths(), str(folder))), ["landlock"], folder / "link")
    assert told[f"read {folder / 'link'}"] == "PermissionError"


@needs_seccomp
def test_seccomp_leaves_no_socket_and_no_program(tmp_path: Path) -> None:
    told = attempts(Fence(), ["seccomp"], Path("/etc/passwd"))
    assert {told[name] for name in ("udp", "unix", "pair", "program", "signal")} == {"PermissionError"}
    assert told["read /etc/passwd"] == "done"
    mapping = attempts(Fence(programs=True), ["seccomp"])
    assert mapping["udp"] == mapping["unix"] == "PermissionError"
    assert mapping["program"] == "done"


def test_off_is_off(tmp_path: Path) -> None:
    told = attempts(Fence("off"), ["landlock", "seccomp", "network"], Path("/etc/passwd"))
    assert told["read /etc/passwd"] == told["udp"] == told["program"] == "done"


def test_require_does_not_start_without(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SandboxError, match="does not keep it"):
        enter(Fence("require"), layers=())
    answer: Any = subprocess.CompletedProcess([], 0, json.dumps({"landlock": 0, "seccomp": True, "network": False}))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert probe("auto") == Held(0, True, False)
    with pytest.raises(SandboxError, match=r"Linux 5\.13"):
        probe("require")


@pytest.mark.skipif(not HELD.enough, reason="this kernel lacks Landlock or seccomp")
def test_require_starts_with(tmp_path: Path) -> None:
    assert probe("require").enough


def test_what_holds_is_said_in_words() -> None:
    assert "NOT fenced" in str(Held())
    assert "NOT" not in str(Held(7, True, True))
    assert not Held(7, False, True).enough
