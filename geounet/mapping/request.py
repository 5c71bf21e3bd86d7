"""What a map is asked to be: two maps with equal requests are the same map."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from geounet import __version__
from geounet.model.bundle import ModelBundle
from geounet.options import Options
from tiles.scene.scene import Scene


def request_of(scene: Scene, bundle: ModelBundle, options: Options) -> dict[str, Any]:
    """What a map is asked to be: two maps with equal requests are the same map."""
    asked = {k: v for k, v in asdict(options).items() if k not in ("formats", "max_memory", "max_polygons", "trust")}
    record = {
        "geounet": __version__,
        "scene": scene.fingerprint(),
        "bundle": bundle.digest,
        "options": {**asked, "bands": dict(options.bands or {}), "formats": sorted(options.formats)},
    }
    text = json.dumps(record, sort_keys=True)
    return {**record, "digest": hashlib.sha256(text.encode()).hexdigest()}
