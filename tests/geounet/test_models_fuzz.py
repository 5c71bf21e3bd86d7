"""Mutated models: whatever is in a file, the process that asks survives, and nothing appears outside the folder.

Some files here; `make fuzz-models` goes on for ten minutes (`GEOUNET_FUZZ_SECONDS`). Each file goes through everything
that a brought model goes through - looked at, described, built into a graph, run - in a process forked for it, fenced
like the real one: that process may die, which is what it is for.
"""

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from geounet.errors import BundleError
from geounet.model.bundle import save_onnx_bundle
from geounet.registry import probe
from geounet.registry.describe import Told, describe

pytest.importorskip("onnx", reason="the extra `onnx` is not installed")

SECONDS = float(os.environ.get("GEOUNET_FUZZ_SECONDS", "0"))
FEWEST = 40
TOLD = Told(name="m", gsd_m=(1, 1), values="0-1", mean=(0, 0, 0), std=(1, 1, 1))
LIMITS = {"memory": 8_000_000_000, "seconds": 20, "file_bytes": 1_000_000}
METADATA = {
    "model_type": '"Segmentor"',
    "class_names": '{"0": "a", "1": "b", "2": "c"}',
    "resolution": "30.0",
    "tiles_overlap": "15",
}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, a piece cut out, doubled or moved, or lengths and numbers made extreme."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at, size = rng.randrange(len(out)), rng.randint(1, 40)
        kind = rng.randrange(6)
        if kind == 0:
            out[at] = rng.randrange(256)
        elif kind == 1:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size] * rng.choice([1, 2, 200])
        elif kind == 4:
            out[at : at + 1] = rng.choice([b"\xff\xff\xff\xff\x07", b"\x80" * 9 + b"\x01", b"\x00", b"../../"])
        else:
            out[at : at + 8] = rng.choice([b"\x00\x00\xc0\x7f", b"\xff" * 8, b"\n\x1b[31m"])
        if not out:
            return b"\0"
    return bytes(out)


def in_a_child(file: Path, folder: Path) -> str:
    """What becomes of one file: `refused`, `runs`, or how the process ended."""
    child = os.fork()
    if child == 0:
        code = 70  # whatever is not a line of ours is a bug
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            probe._fence(LIMITS)
            code = 0 if everything(file, folder) else 10
        except BundleError as error:
            code = 10 if str(error).isprintable() and len(str(error)) < 2000 else 71
        except MemoryError:
            code = 11
        finally:
            os._exit(code)
    until = monotonic() + 60
    while monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return f"died of {signal.Signals(os.WTERMSIG(status)).name}"
            return {0: "runs", 10: "refused", 11: "starved"}.get(os.WEXITSTATUS(status), "a bug")
        sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def everything(file: Path, folder: Path) -> bool:
    whole = folder / "whole.onnx"
    facts = probe._look({"path": str(file), "whole": str(whole), "limits": LIMITS})
    described = describe(json.loads(json.dumps(facts)), TOLD, "x.onnx")
    described.card["chip_size"] = described.card["onnx"]["size"] or 64
    described.card["overlap"] = 16
    save_onnx_bundle(folder / "made", described.card, whole.read_bytes(), "")
    return bool(probe._try({"path": str(folder / "made"), "chip": None}))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_mutated_models_harm_nobody(make_onnx: Callable[..., Any], tmp_path: Path) -> None:
    import geounet.model.onnx_scorer  # noqa: F401  (imported before the forks, once for all)

    seeds = [
        make_onnx(metadata=METADATA, **form).SerializeToString()
        for form in (
            {},
            {"layout": "nhwc", "last": "Softmax"},
            {"kind": "uint8", "size": 64},
            {"shrink": 4, "size": 64},
        )
    ]
    home, folder = tmp_path / "home", tmp_path / "home" / "folder"
    folder.mkdir(parents=True)
    rng = random.Random(int(SECONDS) or 3)
    ends: Counter[str] = Counter()
    until = monotonic() + SECONDS
    while monotonic() < until or ends.total() < FEWEST:
        file = folder / "x.onnx"
        file.write_bytes(mutated(rng.choice(seeds), rng) if ends.total() else seeds[0])
        end = in_a_child(file, folder)
        if end not in ("refused", "runs"):
            (tmp_path / f"{end.replace(' ', '-')}-{ends[end]}.onnx").write_bytes(file.read_bytes())
        ends[end] += 1
    print(dict(ends))
    assert ends["refused"] > 0
    assert ends["runs"] > 0
    assert ends["a bug"] == 0
    assert ends["hangs"] == 0
    assert [p.name for p in home.iterdir()] == ["folder"]
    assert {p.name for p in folder.iterdir()} <= {"x.onnx", "whole.onnx", "made"}
