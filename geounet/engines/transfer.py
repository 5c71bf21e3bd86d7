"""To the device and back: raw counts go over and are stretched there, finished bytes return.

On CUDA, counts pass through a few pinned buffers on a stream of their own, and strips come back on another, beside the
work. A buffer is filled again when the chips it held have been blended; that wait keeps the host from running ahead
without bound. Other devices go the same way without pinning; on `cpu`, which tests use, host and device are one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from geounet.model.stretch import Stretch
from tiles.chips.blend import Strip
from tiles.chips.cut import Chip

_BUFFERS = 3
"""One is filled, one is copied, one is worked on."""
_FLOATS = {"float32": np.float32, "float64": np.float64, "int32": np.int32}


class DeviceStretch:
    """A `Stretch` whose arithmetic runs on the device; counts of up to 16 bits become the very same floats.

    `packed` is the type in which counts travel: their own bits where the device can work on them. Counts of rarer
    types, and on devices without double precision all but 8 and 16 bits, are stretched before they leave.
    """

    def __init__(self, stretch: Stretch, dtype: npt.DTypeLike, device: torch.device) -> None:
        self.stretch, dtype = stretch, np.dtype(dtype)
        self.table: torch.Tensor | None = None
        self.identity = dtype == np.uint8 and not stretch.bands
        self.early = False
        if dtype.kind in "iu" and dtype.itemsize <= 2:
            self.packed: np.dtype[Any] = np.dtype(np.uint8 if dtype.itemsize == 1 else np.int16)
            if not self.identity:
                self.table = torch.from_numpy(stretch.tables(dtype)).to(device)
        elif dtype.name in _FLOATS and device.type != "mps":
            self.packed = dtype
        else:
            self.packed, self.early = np.dtype(np.float32), True

    def pack(self, chip: Chip, out: npt.NDArray[Any]) -> None:
        """Write a chip's counts (bands, rows, columns) into `out`, of type `packed`, ready to travel."""
        out[:] = self.stretch.apply(chip.counts, chip.valid) if self.early else chip.counts.view(self.packed)

    def __call__(self, counts: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Travelled counts (n, bands, rows, columns) and validity (n, rows, columns) to float32 on 0-255."""
        if self.early:
            return counts
        if self.identity:
            out = counts.to(torch.float32)
        elif self.table is not None:
            out = self._looked_up(counts, self.table)
        else:
            out = self._computed(counts)
        fills = torch.tensor(self.stretch.fills(out.shape[1]), device=out.device).view(1, -1, 1, 1)
        return torch.where(valid[:, None], out, fills)

    def _looked_up(self, counts: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        index = counts.to(torch.int32) & (table.shape[1] - 1)  # the bit pattern as a number, whatever its sign
        out = torch.empty(counts.shape, dtype=torch.float32, device=counts.device)
        for band in range(counts.shape[1]):
            out[:, band] = table[min(band, len(table) - 1)][index[:, band]]
        return out

    def _computed(self, counts: torch.Tensor) -> torch.Tensor:
        """The formula of `geounet.model.stretch`, in double precision as far as there."""
        if not self.stretch.bands:
            return counts.clamp(0, 255).to(torch.float32)
        out = torch.empty(counts.shape, dtype=torch.float32, device=counts.device)
        for index, band in enumerate(self.stretch.bands):
            share = ((counts[:, index].double() - band.low) / (band.high - band.low)).clamp(0.0, 1.0).float()
            out[:, index] = share**band.gamma * (band.out_high - band.out_low) + band.out_low
        return out


class Feed:
    """Brings groups of up to `batch` chips to the device, always as tensors of the same shape."""

    def __init__(self, device: torch.device, batch: int, chip: Chip, stretch: DeviceStretch) -> None:
        lane = _lane(device)
        self._buffers = [_Buffer(device, lane, batch, chip, stretch) for _ in range(_BUFFERS)]
        self._turn = 0
        if lane is not None:  # the buffers' memory may still serve work that was queued before they were made
            lane.wait_stream(torch.cuda.current_stream(device))

    def send(self, chips: Sequence[Chip]) -> "_Buffer":
        """The next buffer, with `chips` on their way in it; `release` it when all work on them has been queued."""
        buffer = self._buffers[self._turn]
        self._turn = (self._turn + 1) % len(self._buffers)
        buffer.fill(chips)
        return buffer


class _Buffer:
    """Counts (batch, bands, chip, chip) and validity (batch, chip, chip), here and on the device."""

    def __init__(
        self, device: torch.device, lane: "torch.cuda.Stream | None", batch: int, chip: Chip, stretch: DeviceStretch
    ) -> None:
        self._device, self._lane, self._stretch = device, lane, stretch
        self._free = torch.cuda.Event() if lane is not None else None  # type: ignore[no-untyped-call]
        kind = torch.from_numpy(np.empty(0, stretch.packed)).dtype
        self._here = (
            _on_host((batch, *chip.counts.shape), kind, pinned=lane is not None).zero_(),
            _on_host((batch, *chip.valid.shape), torch.bool, pinned=lane is not None).zero_(),
        )
        same = device.type == "cpu" and lane is None
        self.counts, self.valid = (part if same else torch.zeros_like(part, device=device) for part in self._here)

    def fill(self, chips: Sequence[Chip]) -> None:
        if self._free is not None:
            self._free.synchronize()  # returns at once for a buffer that was never used
        counts, valid = (part.numpy() for part in self._here)
        for index, chip in enumerate(chips):
            self._stretch.pack(chip, counts[index])
            valid[index] = chip.valid
        if self._lane is None:
            self._copy()
            return
        with torch.cuda.stream(self._lane):
            self._copy()
        torch.cuda.current_stream(self._device).wait_stream(self._lane)

    def _copy(self) -> None:
        for there, here in zip((self.counts, self.valid), self._here, strict=True):
            if there is not here:
                _copy(there, here, self._lane)

    def release(self) -> None:
        """Everything that reads the chips has been queued."""
        if self._free is not None:
            self._free.record(torch.cuda.current_stream(self._device))


@dataclass(frozen=True)
class Returning:
    """A strip on its way to the host: read it after `wait`. `kept` holds what the copy still reads."""

    strip: Strip
    wait: Callable[[], None]
    kept: Strip


def returning(strips: Iterator[Strip], device: torch.device) -> Iterator[Returning]:
    """Start every strip's copy to NumPy arrays as soon as it has been queued, without waiting for it."""
    lane = _lane(device)
    for strip in strips:
        if lane is None:
            yield Returning(_moved(strip, lambda t: t.cpu()), lambda: None, strip)
            continue
        lane.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(lane):
            here = _moved(strip, lambda t: _brought(t, lane))
        yield Returning(here, lane.record_event().synchronize, strip)


def _on_host(shape: Sequence[int], kind: torch.dtype, *, pinned: bool) -> torch.Tensor:
    return torch.empty(tuple(shape), dtype=kind, pin_memory=pinned)


def _copy(there: torch.Tensor, here: torch.Tensor, lane: "torch.cuda.Stream | None") -> None:
    there.copy_(here, non_blocking=lane is not None)


def _lane(device: torch.device) -> "torch.cuda.Stream | None":
    """A stream for copies beside the work, where the device has such."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def _brought(tensor: torch.Tensor, lane: "torch.cuda.Stream") -> torch.Tensor:
    here = _on_host(tensor.shape, tensor.dtype, pinned=True)
    _copy(here, tensor, lane)
    return here


def _moved(strip: Any, move: Callable[[torch.Tensor], torch.Tensor]) -> Strip:
    probabilities = None if strip.probabilities is None else move(strip.probabilities).numpy()
    return Strip(
        strip.top,
        move(strip.classes).numpy(),
        move(strip.confidence).numpy(),
        probabilities,
        move(strip.pairs).numpy(),
    )
