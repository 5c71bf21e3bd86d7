"""`preview.png`: the scene beside its map, with a legend."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tiles.legend import NODATA, Legend

_GAP, _LINE, _TEXT = 12, 26, 16
_PAPER, _INK, _EMPTY = (255, 255, 255), (30, 30, 30), (236, 236, 236)


def write_preview(
    path: Path,
    scene: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.bool_],
    classes: npt.NDArray[np.uint8],
    legend: Legend,
    shares: dict[str, float],
) -> None:
    """Draw the picture: `scene` (rows, columns, 3), `valid` and `classes` (rows, columns), shares of the valid area."""
    left = np.where(valid[:, :, None], scene, np.uint8(_EMPTY[0])).astype(np.uint8)
    right = colourise(classes, legend)
    rows, cols = classes.shape
    scale = max(1, 400 // max(rows, cols))
    size = (cols * scale, rows * scale)
    panels = [Image.fromarray(p).resize(size, Image.Resampling.NEAREST) for p in (left, right)]
    side_by_side = cols <= 1.6 * rows
    across, down = (2, 1) if side_by_side else (1, 2)
    width = max(across * size[0] + (across + 1) * _GAP, 460)
    entries = _legend_rows(legend, shares, width)
    height = down * (size[1] + _GAP) + _GAP + _LINE * len(entries) + _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    sheet.paste(panels[0], (_GAP, _GAP))
    second = (2 * _GAP + size[0], _GAP) if side_by_side else (_GAP, 2 * _GAP + size[1])
    sheet.paste(panels[1], second)
    _draw_legend(ImageDraw.Draw(sheet), entries, height - _GAP - _LINE * len(entries))
    sheet.save(path)


def colourise(classes: npt.NDArray[np.uint8], legend: Legend) -> npt.NDArray[np.uint8]:
    """Class values (rows, columns) to their colours (rows, columns, 3)."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[NODATA] = _EMPTY
    for land_class in legend.classes:
        table[land_class.value] = land_class.color
    return table[classes]


_Entry = tuple[tuple[int, int, int], str]


def _legend_rows(legend: Legend, shares: dict[str, float], width: int) -> list[list[_Entry]]:
    entries: list[_Entry] = [(c.color, f"{c.name} {100 * shares.get(c.name, 0.0):.1f} %") for c in legend.classes]
    columns = max(1, (width - _GAP) // 210)
    return [entries[i : i + columns] for i in range(0, len(entries), columns)]


def _draw_legend(draw: ImageDraw.ImageDraw, rows: list[list[_Entry]], top: int) -> None:
    font: Any = ImageFont.load_default(size=_TEXT)
    for index, row in enumerate(rows):
        y = top + index * _LINE
        for column, (color, text) in enumerate(row):
            x = _GAP + column * 210
            draw.rectangle((x, y + 4, x + 18, y + 20), fill=color, outline=_INK)
            draw.text((x + 26, y + 2), text, fill=_INK, font=font)
