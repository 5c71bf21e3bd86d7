"""Where a map came from: its scene, its model, the options it was made with."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from geounet.errors import BundleError, CorrectionError, OptionError
from geounet.model.bundle import ModelBundle, added_bundles, shipped_bundles
from geounet.options import Options
from geounet.outputs.files import MODEL, RUN, SUMMARY
from tiles.scene.scene import Scene, open_scene
from tiles.scene.source import is_remote


@dataclass(frozen=True)
class MapOrigin:
    """A finished map's folder, `summary.json` and `run.json`, and the options that were chosen for it."""

    folder: Path
    summary: dict[str, Any]
    run: dict[str, Any]
    options: Options

    @classmethod
    def of(cls, folder: Path) -> "MapOrigin":
        """Raises CorrectionError where the folder holds no map of ours."""
        try:
            summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
            run = json.loads((folder / RUN).read_text(encoding="utf-8"))
            known = {field.name for field in fields(Options)}
            asked = {k: v for k, v in summary["request"]["options"].items() if k in known}
            options = Options.from_record({**asked, "bands": asked.get("bands") or None})
            return cls(folder, summary, run, options)
        except (OSError, ValueError, KeyError, TypeError, OptionError) as error:
            raise CorrectionError(
                f"{folder} is no map to correct: give the folder that `geounet predict` made ({error})"
            ) from error

    def bundle(self, model: str | None = None) -> ModelBundle:
        """The model that made the map. Raises BundleError where it is not here any more, or `model` is another."""
        name, digest = self.summary["model"]["name"], self.summary["model"]["digest"]
        places: list[str | Path] = [model] if model else [self.folder / MODEL]
        if not model and name in (*shipped_bundles(), *added_bundles()):
            places.append(name)
        if not model and isinstance(self.run.get("model"), str):
            places.append(self.folder / self.run["model"])
        for place in places:
            try:
                found = ModelBundle.load(place)
            except BundleError:
                if model:
                    raise
                continue
            if found.digest == digest:
                return found
        raise BundleError(
            f"{self.folder} was made by the model '{name}' with digest {digest[:12]}..., which is not "
            f"{'what --model gives' if model else 'here'}: give its folder with --model, or map the scene again"
        )

    def scene_path(self, given: str | Path | None = None) -> str:
        """Where the scene should be. Raises CorrectionError where nothing is there."""
        if given is not None:
            return str(given)
        noted = self.run.get("scene")
        if not isinstance(noted, str):
            raise CorrectionError(f"{self.folder} does not say where its scene is: give it with --scene")
        if is_remote(noted):
            return noted
        path = (self.folder.absolute() / noted).resolve()
        if not path.is_file():
            raise CorrectionError(f"the scene of {self.folder} is not at {path} any more: say where with --scene")
        return str(path)

    def open(self, bundle: ModelBundle, given: str | Path | None = None) -> Scene:
        """The scene as it was mapped; close it. Raises CorrectionError where it has changed since."""
        path = self.scene_path(given)
        scene = open_scene(
            path,
            bundle.bands,
            bands=self.options.bands,
            assume_crs=self.options.assume_crs,
            nodata=self.options.nodata,
            gsd_range=bundle.card.gsd_m,
            force=self.options.force,
            trust=self.options.trust,
        )
        if scene.fingerprint() != self.summary["request"]["scene"]:
            scene.close()
            raise CorrectionError(
                f"{path} is not the scene that {self.folder} was made from, or has changed since: "
                "give the right one with --scene, or map it again first"
            )
        return scene
