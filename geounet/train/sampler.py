"""Drawing training crops: which source, which image, which place, how large on the ground.

Every draw depends on the seed and the step alone, so a resumed run sees the crops it would have seen.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from geounet.datasets.labels import IGNORE
from geounet.datasets.load import DataSet, Sample, Source
from geounet.train.config import AugmentConfig, SamplingConfig

SPOTS_KEPT = 64
"""Places a class and image that crops can be put on."""


@dataclass(frozen=True)
class Batch:
    """`images` float32 (n, bands, size, size) on 0-255, `codes` uint8 (n, size, size), `weights` (n,)."""

    images: torch.Tensor
    codes: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class Spot:
    """A pixel of a class: where crops are put for class balance."""

    group: int
    member: int
    row: int
    col: int


@dataclass(frozen=True)
class Spots:
    """Spots of one class in one source; `ends` is the running sum of their odds, None where all are alike."""

    spots: tuple[Spot, ...]
    ends: npt.NDArray[np.float64] | None

    def draw(self, rng: np.random.Generator) -> Spot:
        """One of them."""
        if self.ends is None:
            return self.spots[int(rng.integers(len(self.spots)))]
        return self.spots[int(np.searchsorted(self.ends, rng.uniform(0, self.ends[-1]), side="right"))]


class CropSampler:
    """Draws batches of crops from the training part of a data set."""

    def __init__(self, data: DataSet, sampling: SamplingConfig, augment: AugmentConfig, seed: int) -> None:
        self.sources = tuple(s for s in data.sources if s.train and s.config.weight > 0)
        self.names = data.codes.names
        self.allowed = data.codes.allowed
        self.sampling, self.augment, self.seed = sampling, augment, seed
        shares = np.array([s.config.weight for s in self.sources])
        self.shares = shares / shares.sum()

    @cached_property
    def spots(self) -> tuple[tuple["Spots", ...], ...]:
        """`spots[source][class]`; classes that a source does not label have none."""
        power = self.sampling.place_power
        return tuple(
            tuple(_weighted(source, spots, power) for spots in _spots(source, self.allowed, self.seed))
            for source in self.sources
        )

    @cached_property
    def areas(self) -> tuple[npt.NDArray[np.float64], ...]:
        """Share of each group in its source: by pixels, or by place and then by pixels where places are told."""
        return tuple(_group_shares(source, self.sampling.place_power) for source in self.sources)

    def batch(self, step: int) -> Batch:
        """The crops of one step, geometry varied, colours as they are."""
        rng = np.random.default_rng((self.seed, step))
        size = self.sampling.crop
        images, codes, weights = [], [], []
        for _ in range(self.sampling.batch):
            which = int(rng.choice(len(self.sources), p=self.shares))
            image, code = self._crop(which, size, rng)
            if self.augment.turn:
                image, code = _turned(image, code, rng)
            images.append(image)
            codes.append(code)
            weights.append(self.sources[which].config.label_weight)
        return Batch(torch.stack(images), torch.stack(codes), torch.tensor(weights))

    def any_image(self, rng: np.random.Generator) -> torch.Tensor:
        """A whole training image (bands, rows, columns) of any source, for its colours."""
        source = self.sources[int(rng.integers(len(self.sources)))]
        return source.train[int(rng.integers(len(source.train)))].image

    def _crop(self, which: int, size: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        drawn = float(rng.uniform())
        sample, row, col = self._place(which, rng)
        scale = scale_of(sample, drawn, self.augment)
        wanted = round(size * scale)
        if wanted > min(sample.codes.shape) and scale > 1.05:
            return self._mosaic(which, size, drawn, rng)
        return _cut(sample, row, col, wanted, size)

    def _mosaic(
        self, which: int, size: int, drawn: float, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Four coarse crops side by side, where no image is large enough for one."""
        half = size // 2
        parts = []
        for _ in range(4):
            sample, row, col = self._place(which, rng)
            parts.append(_cut(sample, row, col, round(half * scale_of(sample, drawn, self.augment)), half))
        images = [torch.cat([parts[i][0], parts[i + 1][0]], dim=2) for i in (0, 2)]
        codes = [torch.cat([parts[i][1], parts[i + 1][1]], dim=1) for i in (0, 2)]
        return torch.cat(images, dim=1), torch.cat(codes, dim=0)

    def _place(self, which: int, rng: np.random.Generator) -> tuple[Sample, int, int]:
        source = self.sources[which]
        spots = [s for s in self.spots[which] if s.spots]
        if spots and rng.random() < self.sampling.balanced:
            of_class = spots[int(rng.integers(len(spots)))]
            spot = of_class.draw(rng)
            return source.groups[spot.group][spot.member], spot.row, spot.col
        members = source.groups[int(rng.choice(len(source.groups), p=self.areas[which]))]
        sample = members[int(rng.integers(len(members)))]
        rows, cols = sample.codes.shape
        return sample, int(rng.integers(rows)), int(rng.integers(cols))


def scale_of(sample: Sample, drawn: float, augment: AugmentConfig) -> float:
    """How much coarser a crop comes out than its image: log-uniform in `augment.scale` by `drawn`, a number in 0-1.

    With `augment.gsd_m` only as far as the crop's ground resolution stays in that range; an image that no allowed
    scale brings there comes as near as it can.
    """
    low, high = augment.scale
    if augment.gsd_m is not None:
        finest, coarsest = (limit / sample.gsd_m for limit in augment.gsd_m)
        low, high = (float(np.clip(v, low, high)) for v in (max(low, finest), min(high, coarsest)))
    return float(np.exp(np.log(low) + drawn * (np.log(high) - np.log(low))))


def _place_odds(places: list[str], power: float) -> npt.NDArray[np.float64]:
    """Odds of the members of a list by the place of each: a place of n members has n ** `power` in all."""
    _, which, counts = np.unique(places, return_inverse=True, return_counts=True)
    return np.asarray(counts[which] ** (power - 1.0), dtype=np.float64)


def _group_shares(source: Source, power: float) -> npt.NDArray[np.float64]:
    shares = np.array([g[0].pixels for g in source.groups], dtype=np.float64)
    if source.config.places is not None:
        shares = shares * _place_odds([g[0].place_name for g in source.groups], power)
    return np.asarray(shares / shares.sum())


def _weighted(source: Source, spots: tuple[Spot, ...], power: float) -> Spots:
    """A place counts by its images that show the class, not by the pixels that they have of it."""
    if source.config.places is None or not spots:
        return Spots(spots, None)
    images = sorted({(s.group, s.member) for s in spots})
    odds = dict(zip(images, _place_odds([source.groups[g][m].place_name for g, m in images], power), strict=True))
    alike = dict.fromkeys(images, 0)
    for spot in spots:
        alike[spot.group, spot.member] += 1
    each = [odds[s.group, s.member] / alike[s.group, s.member] ** 0.5 for s in spots]
    return Spots(spots, np.cumsum(each))


def _spots(source: Source, allowed: npt.NDArray[np.bool_], seed: int) -> tuple[tuple[Spot, ...], ...]:
    rng = np.random.default_rng((seed, 1 << 40))
    out: list[list[Spot]] = [[] for _ in range(allowed.shape[1])]
    for group, members in enumerate(source.groups):
        for member, sample in enumerate(members):
            codes = sample.codes.numpy()
            for code in np.unique(codes).tolist():
                classes = np.flatnonzero(allowed[code])
                if code == IGNORE or len(classes) > max(1, allowed.shape[1] // 2):
                    continue
                found = np.flatnonzero(codes == code)
                share = max(1, round(SPOTS_KEPT * min(1.0, len(found) / 4096)))
                for index, at in enumerate(rng.choice(found, share).tolist()):
                    owner = int(classes[index % len(classes)])
                    out[owner].append(Spot(group, member, at // codes.shape[1], at % codes.shape[1]))
    return tuple(tuple(spots) for spots in out)


def _cut(sample: Sample, row: int, col: int, wanted: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The square of `wanted` px around (row, col), slid inside the image, on a grid of `size` px."""
    rows, cols = sample.codes.shape
    top, left = (int(np.clip(at - wanted // 2, 0, max(0, n - wanted))) for at, n in ((row, rows), (col, cols)))
    image = sample.image[:, top : top + wanted, left : left + wanted].float()
    codes = sample.codes[top : top + wanted, left : left + wanted]
    short = (wanted - codes.shape[0], wanted - codes.shape[1])
    if max(short) > 0:
        image, codes = _padded(image, codes, short)
    if wanted != size:
        image = F.interpolate(image[None], (size, size), mode="bilinear", antialias=wanted > size, align_corners=False)[
            0
        ]
        codes = F.interpolate(codes[None, None], (size, size), mode="nearest-exact")[0, 0]
    return image, codes


def _padded(image: torch.Tensor, codes: torch.Tensor, short: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mirrored at the far edges as often as it takes, as prediction pads small scenes; labels as the pixels."""
    rows, cols = (_mirror(n, n + more) for n, more in zip(codes.shape, short, strict=True))
    return image[:, rows][:, :, cols], codes[rows][:, cols]


def _mirror(length: int, wanted: int) -> torch.Tensor:
    position = torch.arange(wanted) % max(1, 2 * (length - 1))
    return torch.where(position < length, position, 2 * (length - 1) - position)


def _turned(image: torch.Tensor, codes: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """One of the eight turns and flips."""
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    image, codes = torch.rot90(image, turns, (1, 2)), torch.rot90(codes, turns, (0, 1))
    return (image.flip(2), codes.flip(1)) if flip else (image, codes)
