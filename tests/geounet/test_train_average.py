from pathlib import Path
from typing import Any

import pytest
import torch

from geounet.errors import TrainingError
from geounet.model.bundle import ModelBundle, save_bundle
from geounet.train.average import mean_state


def bundle(folder: Path, value: float, **changes: Any) -> ModelBundle:
    card: dict[str, Any] = {
        "name": "tiny",
        "bands": ["red"],
        "normalisation": {"mean": [127.0], "std": [128.0]},
        "legend": [{"value": i, "name": n, "color": (i, i, i)} for i, n in enumerate("ab")],
        "gsd_m": [0.5, 1.0],
    }
    return save_bundle(folder, card | changes, {"w": torch.full((2, 3), value)}, "")


def test_weights_are_averaged_one_by_one(tmp_path: Path) -> None:
    bundles = [bundle(tmp_path / str(v), float(v)) for v in (1, 2, 6)]
    torch.testing.assert_close(mean_state(bundles)["w"], torch.full((2, 3), 3.0))


def test_bundles_of_different_kinds_are_refused(tmp_path: Path) -> None:
    other = bundle(tmp_path / "b", 2.0, architecture={"name": "fpn"})
    with pytest.raises(TrainingError, match="another architecture, legend or bands"):
        mean_state([bundle(tmp_path / "a", 1.0), other])
