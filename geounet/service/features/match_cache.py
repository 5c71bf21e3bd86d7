"""The ids that a search found, kept for the next page of the same search."""

import threading
from collections import OrderedDict
from pathlib import Path

from geounet.service.features.layer import FeatureLayer, Filter, Ids

_CACHED_IDS = 8_000_000
_LAYERS = 32


class MatchCache:
    """What filters matched, the most recent ones, up to a number of ids in all; and the open layers."""

    def __init__(self, ids: int = _CACHED_IDS, layers: int = _LAYERS) -> None:
        self._limit, self._held, self._most_layers = ids, 0, layers
        self._matches: OrderedDict[tuple[Path, Filter], Ids] = OrderedDict()
        self._layers: OrderedDict[Path, FeatureLayer] = OrderedDict()
        self._lock = threading.Lock()

    def layer(self, folder: Path) -> FeatureLayer:
        """The layer of a map's folder, opened once."""
        with self._lock:
            if folder in self._layers:
                self._layers.move_to_end(folder)
                return self._layers[folder]
        layer = FeatureLayer(folder)
        with self._lock:
            self._layers[folder] = layer
            while len(self._layers) > self._most_layers:
                self._layers.popitem(last=False)[1].close()
        return layer

    def opened(self, folder: Path) -> FeatureLayer | None:
        """The layer of a map's folder if it is open already."""
        return self._layers.get(folder)

    def get(self, layer: FeatureLayer, wanted: Filter) -> Ids:
        """`layer.matches(wanted)`, remembered."""
        key = (layer.folder, wanted)
        with self._lock:
            if key in self._matches:
                self._matches.move_to_end(key)
                return self._matches[key]
        found = layer.matches(wanted)
        with self._lock:
            if key not in self._matches:
                self._matches[key] = found
                self._held += len(found)
            while self._held > self._limit and len(self._matches) > 1:
                self._held -= len(self._matches.popitem(last=False)[1])
        return found

    def forget(self, folder: Path) -> None:
        """Let go of a map that is being deleted."""
        with self._lock:
            layer = self._layers.pop(folder, None)
            for key in [k for k in self._matches if k[0] == folder]:
                self._held -= len(self._matches.pop(key))
        if layer is not None:
            layer.close()
