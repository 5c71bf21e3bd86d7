"""Finished tiles in memory, up to a number of bytes in all: the most recently asked for."""

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

_BYTES = 64_000_000


@dataclass(frozen=True)
class Tile:
    """A tile's bytes, and the entity tag that tells them from others."""

    content: bytes
    etag: str


class TileCache:
    """Tiles by map and place. Maps never change and their ids are never used again: nothing goes stale."""

    def __init__(self, most: int = _BYTES) -> None:
        self._most, self._held = most, 0
        self._tiles: OrderedDict[tuple[str, int, int, int], Tile] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, place: tuple[str, int, int, int]) -> Tile | None:
        """The tile of (map, z, x, y), if it is here."""
        with self._lock:
            if place in self._tiles:
                self._tiles.move_to_end(place)
            return self._tiles.get(place)

    def put(self, place: tuple[str, int, int, int], content: bytes) -> Tile:
        """Keep a tile, and let go of the oldest ones."""
        tile = Tile(content, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
        with self._lock:
            replaced = self._tiles.pop(place, None)
            self._tiles[place] = tile
            self._held += len(content) - (len(replaced.content) if replaced else 0)
            while self._held > self._most and len(self._tiles) > 1:
                self._held -= len(self._tiles.popitem(last=False)[1].content)
        return tile
