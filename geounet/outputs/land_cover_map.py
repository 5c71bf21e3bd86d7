"""A finished map, for people who write Python: its polygons, its classes, what it says in a notebook."""

from base64 import b64encode
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from geounet.outputs.files import CLASSES, CONFIDENCE, POLYGON_FILES, PREVIEW, SUMMARY
from geounet.outputs.summary import Summary
from tiles.errors import OutputError
from tiles.legend import Legend
from tiles.rasters.write import read_legend
from tiles.vectors.write import LAYER

if TYPE_CHECKING:
    import geopandas
    import xarray


@dataclass(frozen=True)
class LandCoverMap:
    """A finished map: its folder and its `summary.json`; `fresh` is False where it was there already."""

    folder: Path
    summary: dict[str, Any]
    fresh: bool = True

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """The map that lies in a folder. Raises OutputError where none does."""
        place = Path(folder)
        try:
            summary = Summary.model_validate_json((place / SUMMARY).read_bytes()).to_record()
        except (OSError, ValueError) as error:
            raise OutputError(f"{place} holds no finished map: give the folder that map_scene wrote") from error
        return cls(place, summary, fresh=False)

    @property
    def legend(self) -> Legend:
        """The land classes in order: value, name, colour. Raises OutputError where `classes.tif` does not tell them."""
        import rasterio

        with rasterio.open(self.folder / CLASSES) as raster:
            found = read_legend(raster.tags())
        if found is None:
            raise OutputError(f"{self.folder / CLASSES} carries no legend: map the scene again")
        return found

    def polygons(self) -> "geopandas.GeoDataFrame":
        """One row a polygon, as in `docs/polygons.md`, in the scene's CRS; in WGS 84 where only web formats were made.

        Raises OutputError where the map was made without polygons.
        """
        import geopandas

        for name in POLYGON_FILES:
            path = self.folder / name
            if path.exists() and path.suffix == ".parquet":
                return geopandas.read_parquet(path)
            if path.exists():
                return geopandas.read_file(path, **({"layer": LAYER} if path.suffix == ".gpkg" else {}))
        raise OutputError(f"{self.folder} holds no polygons: map the scene again with formats=('gpkg',)")

    def classes(self) -> npt.NDArray[np.uint8]:
        """Class values of shape (rows, columns), the scene's own grid; 255 is nodata."""
        import rasterio

        with rasterio.open(self.folder / CLASSES) as raster:
            values: npt.NDArray[np.uint8] = raster.read(1)
            return values

    def to_xarray(self) -> "xarray.Dataset":
        """`classes` and `confidence` (0-100 %) with dimensions (y, x), read when they are used; 255 is nodata.

        CRS and transform are where rioxarray looks for them. Raises ImportError without the extra `xarray`.
        """
        try:
            import rioxarray
            import xarray
        except ImportError as error:
            raise ImportError("to_xarray needs xarray and rioxarray: pip install 'geounet[xarray]'") from error
        layers = {}
        for name in (CLASSES, CONFIDENCE):
            opened = rioxarray.open_rasterio(self.folder / name)
            assert isinstance(opened, xarray.DataArray)  # one raster, not several
            layers[Path(name).stem] = opened.squeeze("band", drop=True)
        return xarray.Dataset(layers)

    def _repr_html_(self) -> str:
        """For notebooks: the preview, and area and share a class."""
        colours = {c.value: "#{:02x}{:02x}{:02x}".format(*c.color) for c in self.legend.classes}
        rows = "".join(
            f'<tr><td style="background:{colours[c["value"]]};width:1.5em"></td><td>{escape(c["name"])}</td>'
            f"<td>{c['area_m2'] / 1e4:,.2f} ha</td><td>{100 * c['share']:.1f} %</td></tr>"
            for c in self.summary["classes"]
        )
        preview = self.folder / PREVIEW
        picture = f'<img alt="the scene beside its map" src="{_data_url(preview)}">' if preview.exists() else ""
        title = f"{escape(str(self.summary['scene']))}: {self.summary['mapped_area_m2'] / 1e4:,.2f} ha mapped"
        return f"<div><strong>{title}</strong><div>{picture}</div><table>{rows}</table></div>"


def _data_url(picture: Path) -> str:
    return f"data:image/png;base64,{b64encode(picture.read_bytes()).decode('ascii')}"
