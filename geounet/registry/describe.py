"""From what an ONNX file says of itself and what the user adds to a model card; what neither says is asked for.

Keys of Deepness and GeoDeep are read as `docs/models.md` lists them. Nothing is guessed: where a number can mean two
things, the user is asked; where the graph itself shows the answer (its last operator), that is used and said.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from geounet.errors import BundleError

Values = Literal["0-255", "0-1", "reflectance", "reflectance*10000"]
VALUES: Mapping[str, tuple[float, float | None]] = {
    "0-255": (1.0, None),
    "0-1": (255.0, None),
    "reflectance": (1.0, 1.0),
    "reflectance*10000": (1.0, 10_000.0),
}
"""What the network's numbers are before mean and deviation: factor to the card's scale, `reflectance_one`."""
PALETTE = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75), (227, 119, 194),
    (127, 127, 127), (188, 189, 34), (23, 190, 207),
)  # fmt: skip
"""Colours for classes whose makers named none: Tableau's ten, then darker turns of them."""
_CLASS_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
_KINDS = ("float16", "float32", "float64", "uint8", "uint16", "int16", "int32")


@dataclass(frozen=True)
class Told:
    """What the user says of a model; None where the file is to say it.

    `classes` are names in channel order, each with its colour or None. `gsd_m` is (finest, coarsest) in metres.
    `mean` and `std` are on the scale that `values` names. `overlap` in pixels. `preset` is a published network whose
    other facts are known here.
    """

    name: str | None = None
    bands: tuple[str, ...] | None = None
    classes: tuple[tuple[str, tuple[int, int, int] | None], ...] | None = None
    gsd_m: tuple[float, float] | None = None
    values: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    activation: Literal["softmax", "sigmoid", "shares", "none"] | None = None
    output: str | None = None
    chip_size: int | None = None
    overlap: int | None = None
    licence: str | None = None
    description: str | None = None
    preset: Literal["dynamicworld"] | None = None


@dataclass
class Described:
    """The fields of a model card without `weights`, and what was decided on the way, for people."""

    card: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def describe(facts: Mapping[str, Any], told: Told, name: str) -> Described:
    """The card for an ONNX file with `facts` (see `geounet.registry.probe`).

    Raises BundleError for a model of another kind, for what contradicts itself, and, in one line, for all that is
    missing.
    """
    known = Deepness.read(facts["metadata"], name)
    known.refuse_other_kinds(facts, name)
    shape = _image_shape(facts, name)
    output = _chosen_output(facts, told.output, name)
    classes = told.classes or known.classes
    bands = told.bands or _three_bands(known, shape)
    missing = _missing(told, known, bands, classes)
    if missing:
        raise BundleError(f"{name} does not say everything; add {', '.join(missing)}")
    assert bands is not None
    assert classes is not None
    check_class_names([label for label, _ in classes])
    notes: list[str] = []
    layout = told.layout or _layout(shape, len(bands), name)
    channels = _channels(output, layout, len(classes), name)
    size, shrink = _sizes(shape, output["shape"], layout, name)
    chip_size = size or told.chip_size or _rounded(known.tile_size) or 512
    activation = told.activation or _activation(output["last"], channels, notes)
    values = told.values or "0-1"
    factor, one = VALUES[values]
    mean = told.mean or known.mean or (0.0,) * len(bands)
    std = told.std or known.std or (1.0,) * len(bands)
    if len(mean) != len(bands) or len(std) != len(bands):
        raise BundleError(f"{name}: mean and deviation need one number for each of the {len(bands)} bands")
    if known.threshold not in (None, 0.5, 0.0):
        notes.append(f"its threshold of {known.threshold:g} is not applied: the likeliest class counts")
    if told.classes is None or all(colour is None for _, colour in classes):
        notes.append("colours were chosen here: the file names none")
    if told.values is None:
        notes.append("image on 0-1, as Deepness and GeoDeep give it")
    card = {
        "name": told.name or _slug(name),
        "description": told.description or "",
        "licence": told.licence or "not stated",
        "bands": list(bands),
        "normalisation": {"mean": [m * factor for m in mean], "std": [s * factor for s in std]},
        "reflectance_one": one,
        "legend": class_cards(classes),
        "gsd_m": list(told.gsd_m or (known.gsd_m or 0.0,) * 2),
        "chip_size": chip_size,
        "overlap": _overlap(told.overlap, known.overlap_percent, chip_size),
        "onnx": {
            "layout": layout,
            "size": size,
            "output": output["name"],
            "channels": channels,
            "shrink": shrink,
            "activation": activation,
        },
    }
    return Described(card, notes)


@dataclass(frozen=True)
class Deepness:
    """What the metadata keys of Deepness and GeoDeep say; None where they are absent."""

    model_type: str | None = None
    classes: tuple[tuple[str, tuple[int, int, int] | None], ...] | None = None
    gsd_m: float | None = None
    tile_size: int | None = None
    overlap_percent: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    threshold: float | None = None
    any_key: bool = False

    @classmethod
    def read(cls, metadata: Mapping[str, str], name: str) -> "Deepness":
        """Read the keys. Raises BundleError for one that cannot be understood."""
        given = {k: _value(k, v, name) for k, v in metadata.items() if k in _KEYS}
        names = given.get("class_names", given.get("names"))
        gsd = _number(given, "resolution", name)
        size = _number(given, "tile_size", name) or _number(given, "tiles_size", name)
        return cls(
            model_type=str(given["model_type"]) if "model_type" in given else None,
            classes=None if names is None else _with_colours(_class_names(names, name), metadata),
            gsd_m=None if gsd is None else gsd / 100,
            tile_size=None if size is None else int(size),
            overlap_percent=_number(given, "tiles_overlap", name),
            mean=_numbers(given, "standardization_mean", name),
            std=_numbers(given, "standardization_std", name),
            threshold=_number(given, "seg_thresh", name),
            any_key=bool(given),
        )

    def refuse_other_kinds(self, facts: Mapping[str, Any], name: str) -> None:
        """Raise BundleError for a model that gives no class a pixel."""
        kind = (self.model_type or "").strip().lower()
        if kind not in ("", "segmentor", "segmentation"):
            raise BundleError(f"{name} is a {_plain(kind)} model; only segmentation, a class a pixel, makes a map")
        if not any(o["shape"] is not None and len(o["shape"]) == 4 for o in facts["outputs"]):
            shapes = [o["shape"] for o in facts["outputs"]][:4]
            raise BundleError(f"{name} answers {shapes}, not an image of scores: a detection or regression model?")


_KEYS = (
    "model_type", "class_names", "names", "resolution", "tile_size", "tiles_size", "tiles_overlap",
    "standardization_mean", "standardization_std", "seg_thresh",
)  # fmt: skip


def _value(key: str, text: str, name: str) -> Any:
    """JSON, or a Python literal as early Deepness models have it, or the bare text."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text[:20_000])
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    if key in ("class_names", "names"):
        raise BundleError(f"{name}: its metadata '{key}' cannot be read: {_plain(text)}; give --classes")
    return text


def _class_names(found: Any, name: str) -> tuple[str, ...]:
    if isinstance(found, dict):
        try:
            numbered = sorted((int(k), v) for k, v in found.items())
        except (TypeError, ValueError):
            numbered = []
        if [k for k, _ in numbered] != list(range(len(found))):
            raise BundleError(f"{name}: its class numbers are not 0, 1, 2, ...; give --classes")
        found = [v for _, v in numbered]
    if not isinstance(found, list):
        raise BundleError(f"{name}: its metadata 'class_names' is no list of names; give --classes")
    return tuple(str(v) for v in found)


def _with_colours(
    names: Sequence[str], metadata: Mapping[str, str]
) -> tuple[tuple[str, tuple[int, int, int] | None], ...]:
    """Colours from the classification of a STAC MLM output, where the file has one for just these names."""
    try:
        listed = json.loads(metadata["mlm:output"])[0]["classification:classes"]
        colours = {c["name"]: c["color_hint"] for c in listed}
        return tuple((n, _hex(colours[n])) for n in names)
    except (KeyError, ValueError, TypeError, IndexError, RecursionError):
        return tuple((n, None) for n in names)


def _hex(text: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(text.lstrip("#"))
    return red, green, blue


def parse_classes(text: str) -> tuple[tuple[str, tuple[int, int, int] | None], ...]:
    """`background,cloud=#ff0000` to names and colours. Raises BundleError."""
    classes: list[tuple[str, tuple[int, int, int] | None]] = []
    for part in text.split(","):
        label, _, colour = part.partition("=")
        try:
            classes.append((label.strip(), _hex(colour) if colour else None))
        except ValueError:
            raise BundleError(f"--classes: '{_plain(colour)}' is no colour; write name=#rrggbb") from None
    return tuple(classes)


def _number(given: Mapping[str, Any], key: str, name: str) -> float | None:
    if key not in given:
        return None
    try:
        number = float(given[key])
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < 1e9:
        raise BundleError(f"{name}: its metadata '{key}' is no number: {_plain(str(given[key]))}")
    return number


def _numbers(given: Mapping[str, Any], key: str, name: str) -> tuple[float, ...] | None:
    if key not in given:
        return None
    try:
        return tuple(float(v) for v in given[key])
    except (TypeError, ValueError):
        raise BundleError(f"{name}: its metadata '{key}' are no numbers: {_plain(str(given[key]))}") from None


def _missing(told: Told, known: Deepness, bands: Any, classes: Any) -> list[str]:
    missing = []
    if bands is None:
        missing.append("--bands red,green,blue (in the network's order)")
    if classes is None:
        missing.append("--classes background,thing")
    if told.gsd_m is None and not known.gsd_m:
        missing.append("--gsd 0.5 (metres a pixel)")
    if told.values is None and not known.any_key:
        missing.append(f"--values (one of {', '.join(VALUES)}: the image's numbers before --mean and --std)")
    if told.values is not None and told.mean is None and known.mean is None:
        missing.append("--mean and --std (0 and 1 where the network wants none)")
    return missing


def _image_shape(facts: Mapping[str, Any], name: str) -> list[int | None]:
    image = facts["input"]
    if image["shape"] is None or len(image["shape"]) != 4:
        raise BundleError(f"{name} takes {image['shape']}, not a batch of images (4 dimensions): refused")
    if image["shape"][0] not in (None, 1):
        raise BundleError(f"{name} takes {image['shape'][0]} images at a time only: export it for one, or any number")
    if image["kind"] not in _KINDS:
        raise BundleError(f"{name} takes numbers of type {image['kind']}: refused")
    return list(image["shape"])


def _three_bands(known: Deepness, shape: Sequence[int | None]) -> tuple[str, ...] | None:
    """Deepness and GeoDeep give three-band models red, green, blue; other numbers of bands have no order there."""
    return ("red", "green", "blue") if known.any_key and 3 in (shape[1], shape[3]) else None


def _layout(shape: Sequence[int | None], bands: int, name: str) -> Literal["nchw", "nhwc"]:
    first, last = shape[1] == bands, shape[3] == bands
    if first == last:
        if first or (shape[1], shape[3]) == (None, None):
            raise BundleError(f"{name}: whether bands come first or last does not show; add --layout nchw or nhwc")
        raise BundleError(f"{name} takes {list(shape)}, which has no place for {bands} bands: check --bands")
    return "nchw" if first else "nhwc"


def _chosen_output(facts: Mapping[str, Any], asked: str | None, name: str) -> Mapping[str, Any]:
    images = [o for o in facts["outputs"] if o["shape"] is not None and len(o["shape"]) == 4]
    if asked is not None:
        images = [o for o in facts["outputs"] if o["name"] == asked]
    if len(images) == 1:
        return dict(images[0])
    listed = ", ".join(_plain(o["name"]) for o in facts["outputs"][:8])
    raise BundleError(f"{name} has the outputs {listed}: choose one with --output")


def _channels(output: Mapping[str, Any], layout: str, classes: int, name: str) -> int:
    if classes > 255:
        raise BundleError(f"{name} has {classes:,} classes; a map holds up to 255")
    shape = output["shape"]
    if shape is None or len(shape) != 4:
        raise BundleError(f"{name}: the output '{_plain(output['name'])}' is no image of scores")
    found = shape[1] if layout == "nchw" else shape[3]
    if found is None:
        raise BundleError(f"{name} does not fix how many classes it scores: export it with a fixed number")
    if found != classes and (found, classes) != (1, 2):
        hint = "two, what is not it and what is" if found == 1 else f"{found}"
        raise BundleError(f"{name} scores {found:,} classes, {classes} are named: --classes needs {hint}")
    return int(found)


def _sizes(image: Sequence[int | None], scores: Sequence[int | None], layout: str, name: str) -> tuple[int | None, int]:
    """The one size it takes, or None; how many times fewer pixels a side it answers."""
    rows, cols = (image[2], image[3]) if layout == "nchw" else (image[1], image[2])
    if (rows is None) != (cols is None) or rows != cols:
        raise BundleError(f"{name} takes images of {rows} x {cols} pixels: only squares, or any size, can be used")
    if rows is not None and not 32 <= rows <= 4096:
        raise BundleError(f"{name} takes images of {rows} pixels; 32 to 4,096 are used")
    out = scores[2] if layout == "nchw" else scores[1]
    if rows is None or out is None:
        return rows, 1
    if out == 0 or rows % out or rows // out > 32:
        raise BundleError(f"{name} answers {out} pixels to an image of {rows}: that is no map of it")
    return rows, rows // out


def _activation(last: str, channels: int, notes: list[str]) -> str:
    if last == "Softmax" and channels > 1:
        notes.append("softmax is inside the network")
        return "none"
    if last in ("Sigmoid", "HardSigmoid"):
        notes.append("a sigmoid is inside the network")
        return "none" if channels == 1 else "shares"
    notes.append("the network ends without softmax or sigmoid: its scores are taken as logits")
    return "sigmoid" if channels == 1 else "softmax"


def _overlap(pixels: int | None, percent: float | None, chip_size: int) -> int:
    if pixels is not None:
        return pixels
    return min(int(chip_size * (25.0 if percent is None else percent) / 100), chip_size // 2)


def _rounded(size: int | None) -> int | None:
    return None if size is None else max(32, 32 * round(size / 32))


def _colour(index: int) -> tuple[int, int, int]:
    red, green, blue = PALETTE[index % len(PALETTE)]
    dark = 0.7 ** (index // len(PALETTE) % 4)
    return int(red * dark), int(green * dark), int(blue * dark)


def class_cards(classes: Sequence[tuple[str, tuple[int, int, int] | None]]) -> list[dict[str, Any]]:
    """The legend of a card: values from 0 in channel order, colours from the palette where there are none."""
    return [{"value": i, "name": label, "color": colour or _colour(i)} for i, (label, colour) in enumerate(classes)]


def check_class_names(names: Sequence[str]) -> None:
    """Raise BundleError for names that are empty, too long, repeated or cannot be printed."""
    for name in names:
        if not _CLASS_NAME.fullmatch(name) or not name.isprintable() or not name.strip():
            raise BundleError(
                f"the class name '{_plain(name)}' is empty, too long or cannot be printed: give --classes"
            )
    if len(set(names)) != len(names):
        raise BundleError("two classes have the same name: give --classes")


def _slug(path: str) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".onnx"))
    return stem.lstrip("._-")[:64] or "model"


def _plain(text: str) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in text[:60])
    return plain if len(text) <= 60 else f"{plain}..."
