"""Mutated files through the reader of directories, and some of them through the fenced process behind it.

Seconds in the suite; `make fuzz` goes on for ten minutes. What surprised is kept in `tests/security/corpus` and tried
first from then on.
"""

import hashlib
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from geounet.service.errors import HostileSceneError, TooLargeError
from geounet.service.processes.tiff_header import check_tiff
from geounet.service.processes.upload_check import ingest_upload
from geounet.service.settings import ServiceSettings

CORPUS = Path(__file__).parent / "corpus"
SECONDS = float(os.environ.get("GEOUNET_FUZZ_SECONDS", "3"))
SETTINGS = ServiceSettings(disk_reserve=0, inspect_seconds=10)
INTERESTING = (0, 1, 2, 7, 8, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
SLOWEST_SECONDS = 10.0


def mutated(body: bytes, dice: random.Random) -> bytes:
    """A file with a few changes where directories lie: bits, numbers, lengths, pieces that move."""
    changed = bytearray(body)
    for _ in range(dice.randint(1, 6)):
        at = dice.randrange(min(len(changed), 600)) if changed else 0
        kind = dice.randrange(6)
        if kind == 0 and changed:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            changed[at : at + 4] = struct.pack(dice.choice("<>") + "I", dice.choice(INTERESTING))
        elif kind == 2:
            changed[at : at + 2] = struct.pack(dice.choice("<>") + "H", dice.choice(INTERESTING) & 0xFFFF)
        elif kind == 3:
            del changed[at + dice.randrange(1, 400) :]
        elif kind == 4:
            piece = changed[at : at + dice.randrange(1, 60)]
            changed[dice.randrange(len(changed) + 1) :][:0] = piece
            changed += piece
        else:
            changed[at : at + 8] = dice.randbytes(8)
    return bytes(changed)


def seeds(forge: Any) -> list[bytes]:
    """Honest and hostile files to begin with, and all that surprised before."""
    made = [forge.tiff(order=order, big=big, side=16) for order in "<>" for big in (False, True)]
    made.append(forge.tiff(forge.overview_file("/etc/passwd"), side=16))
    made.append(forge.tiff({322: (4, 1, struct.pack("<I", 16)), 323: (4, 1, struct.pack("<I", 16))}, side=16))
    return made + [path.read_bytes() for path in sorted(CORPUS.glob("*.tif"))]


def test_no_mutation_of_a_file_surprises_the_reader_of_directories(tmp_path: Path, forge: Any) -> None:
    seed = int(os.environ.get("GEOUNET_FUZZ_SEED", "1"))
    dice, begun, tried = random.Random(seed), seeds(forge), 0
    path, ends = tmp_path / "x.tif", time.monotonic() + SECONDS
    for body in begun:
        _must_end_in_words(path, body)
    while time.monotonic() < ends:
        _must_end_in_words(path, mutated(dice.choice(begun), dice))
        tried += 1
    print(f"{tried} files of seed {seed}")
    assert tried > 50


def _must_end_in_words(path: Path, body: bytes) -> bool:
    """Whether it was taken; anything but that and a refusal is kept for the next time."""
    path.write_bytes(body)
    began = time.monotonic()
    try:
        check_tiff(path, SETTINGS)
    except (HostileSceneError, TooLargeError):
        return False
    except Exception as error:
        pytest.fail(f"{type(error).__name__}: {error}; {_kept(body)}")
    finally:
        if time.monotonic() - began > SLOWEST_SECONDS:
            pytest.fail(f"took {time.monotonic() - began:.1f} s; {_kept(body)}")
    return True


@pytest.mark.skipif(SECONDS < 60, reason="a process a file: for `make fuzz`")
def test_no_mutation_of_a_file_surprises_the_process_that_opens_it(tmp_path: Path, forge: Any) -> None:
    dice, begun, tried = random.Random(2), seeds(forge), 0
    path, ends = tmp_path / "x.tif", time.monotonic() + SECONDS
    while time.monotonic() < ends:
        body = mutated(dice.choice(begun), dice)
        if not _must_end_in_words(path, body):
            continue
        tried, said = tried + 1, ""
        try:
            clean = tmp_path / f"clean{tried}"
            clean.mkdir()
            ingest_upload(path, clean, "x.tif", SETTINGS)
        except (HostileSceneError, TooLargeError) as error:
            said = str(error)
        except Exception as error:
            pytest.fail(f"{type(error).__name__}: {error}; {_kept(body)}")
        assert str(tmp_path) not in said, _kept(body)
    assert tried > 10


def _kept(body: bytes) -> str:
    CORPUS.mkdir(exist_ok=True)
    path = CORPUS / f"{hashlib.sha256(body).hexdigest()[:16]}.tif"
    path.write_bytes(body)
    return f"the file is {path}"
