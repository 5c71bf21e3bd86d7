"""The identity of a scene's file, without reading all of it."""

import hashlib
import os
from pathlib import Path
from typing import Any

from tiles.scene.source import block_extent, is_clean, is_remote, local_path

WHOLE_BYTES = 64_000_000
"""Files up to this size are hashed whole."""
PIECES = 256
PIECE_BYTES = 65_536


def fingerprint(dataset: Any, path: str | os.PathLike[str]) -> str:
    """SHA-256 in hexadecimal of what identifies the file's content; a copy has the same, whatever its name and date.

    A file up to 64 MB is hashed whole. Of a larger one: its size, the place and length of every block (up to 65,536,
    spread), its first and last bytes and 256 pieces of 64 KiB spread between. Compressed blocks change their length
    with their content; where a large file is not compressed they do not, so its modification time takes part and a
    copy may count as another file: that costs a second run, never a wrong map. Companions (`.ovr`, `.msk`,
    `.aux.xml`) are part of it. A remote file is known by its grid and its blocks' places and lengths. A
    decoded scene is known by the file that it was decoded from.
    """
    if is_clean(path):
        return str(dataset.fingerprint)
    digest = hashlib.sha256(b"geounet scene 1\n")
    if is_remote(path):
        _add_grid(digest, dataset)
        _add_blocks(digest, dataset)
        return digest.hexdigest()
    main = local_path(path)
    large = main.stat().st_size > WHOLE_BYTES
    _add_file(digest, main)
    if large:
        _add_grid(digest, dataset)
        _add_blocks(digest, dataset)
        if dataset.compression is None:
            digest.update(str(main.stat().st_mtime_ns).encode())
    for companion in sorted(Path(name) for name in dataset.files if Path(name).absolute() != main):
        if companion.is_file():
            digest.update(companion.suffix.encode())
            _add_file(digest, companion)
    return digest.hexdigest()


def _add_file(digest: Any, file: Path) -> None:
    size = file.stat().st_size
    digest.update(f"{size}\n".encode())
    with file.open("rb") as stream:
        if size <= WHOLE_BYTES:
            while piece := stream.read(1 << 20):
                digest.update(piece)
            return
        for index in range(PIECES + 1):
            stream.seek(index * (size - PIECE_BYTES) // PIECES)
            digest.update(stream.read(PIECE_BYTES))


def _add_grid(digest: Any, dataset: Any) -> None:
    facts = (dataset.shape, dataset.count, dataset.dtypes, tuple(dataset.transform), dataset.nodatavals)
    digest.update(repr(facts).encode())
    digest.update((dataset.crs.to_wkt() if dataset.crs else "").encode())


def _add_blocks(digest: Any, dataset: Any) -> None:
    height, width = dataset.block_shapes[0]
    down, across = -(-dataset.height // height), -(-dataset.width // width)
    for number in range(0, down * across, max(1, down * across // 65_536)):
        row, col = divmod(number, across)
        digest.update(repr(block_extent(dataset, 1, row, col)).encode())
