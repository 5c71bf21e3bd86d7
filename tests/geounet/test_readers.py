"""The processes that read rasters for the API."""

import threading
from pathlib import Path
from time import sleep

import numpy as np
import rasterio
from affine import Affine

from geounet.service.processes.raster_pool import Readers
from geounet.service.settings import ServiceSettings


def test_a_reader_outlives_the_thread_that_asked_first(tmp_path: Path) -> None:
    path = tmp_path / "maps" / "raster.tif"  # a reader sees scenes and maps, nothing else of the data folder
    path.parent.mkdir()
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8", "crs": "EPSG:3857"}
    with rasterio.open(path, "w", transform=Affine(2, 0, 500, 0, -2, 900), **profile) as target:
        target.write(np.ones((1, 64, 64), dtype=np.uint8))
    readers = Readers(ServiceSettings(data=tmp_path), processes=1)
    found: list[object] = []
    try:
        first = threading.Thread(target=lambda: found.append(readers.ask({"want": "zooms", "path": str(path)})[0]))
        first.start()
        first.join()
        sleep(0.2)  # the kernel would end the reader at once
        found.append(readers.ask({"want": "zooms", "path": str(path)})[0])
    finally:
        readers.close()
    assert found[0] == found[1]
    assert len(found) == 2
