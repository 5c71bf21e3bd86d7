"""The torch engine for GPUs: from raw counts to one byte of class and one of confidence without leaving the device.

Scores stay on the device, `tiles.chips.blend` blends them there, and `fetch` brings finished strips back. Chips are
decoded on one thread, queued on a second, and strips are written on the caller's; nothing waits for the device but a
strip that is fetched and a buffer that is filled again.
"""

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from typing import Any, cast

import torch

from geounet.engines.engine import EngineSpec
from geounet.engines.machine import batch_size
from geounet.engines.torch_cpu import DTYPES, checked, ready_scorer
from geounet.engines.transfer import DeviceStretch, Feed, Returning, returning
from geounet.errors import EngineError
from geounet.model.bundle import ModelBundle
from geounet.model.stretch import Stretch
from tiles.chips.blend import Scores, Strip
from tiles.chips.cut import Chip
from tiles.chips.prefetch import ahead

log = logging.getLogger("geounet.engines")


class DeviceEngine:
    """Channels-last, automatic mixed precision, batches of small chips; compiled where `compiled` asks for it."""

    def __init__(
        self, bundle: ModelBundle, spec: EngineSpec, chip_size: int, upsample: float = 1.0, compiled: bool = False
    ) -> None:
        self.spec = spec
        self.device = torch.device(checked(spec.device))
        scorer = ready_scorer(bundle, chip_size, upsample)
        self.scorer = scorer.to(self.device).to(memory_format=torch.channels_last)
        self.batch_size = batch_size(spec.device, scorer.inner_size)
        self._at_once = self.batch_size
        self._forward: Any = torch.compile(self.scorer, dynamic=False) if compiled else self.scorer

    def predict(self, chips: Iterable[Chip], stretch: Stretch) -> Iterator[Scores]:
        """See `Engine.predict`; probabilities and validity are tensors on the device."""
        chips, feed = iter(chips), None
        nothing: Any = None
        while group := list(islice(chips, self.batch_size)):
            scored = [chip for chip in group if not chip.empty]
            if feed is None:
                on_device = DeviceStretch(stretch, group[0].counts.dtype, self.device)
                feed = Feed(self.device, self.batch_size, group[0], on_device)
                nothing = torch.zeros(group[0].valid.shape, dtype=torch.bool, device=self.device)
            buffer = feed.send(scored) if scored else None
            probabilities: Any = None if buffer is None else self.score(on_device(buffer.counts, buffer.valid))
            index = iter(range(len(scored)))
            for chip in group:
                if chip.empty or buffer is None:
                    yield Scores(chip.row, chip.col, chip.window, None, nothing)
                else:
                    number = next(index)
                    valid: Any = buffer.valid[number]
                    yield Scores(chip.row, chip.col, chip.window, probabilities[number], valid)
            if buffer is not None:
                buffer.release()

    def score(self, counts: torch.Tensor) -> torch.Tensor:
        """Probabilities float32 (n, classes, chip, chip) of counts on 0-255, float32 (n, bands, chip, chip)."""
        dtype = DTYPES.get(self.spec.precision)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None),
            _reproducible(self.device),
        ):
            counts = counts.contiguous(memory_format=torch.channels_last)
            # Planes of one class are read one after another from here on.
            return self._scored(counts).float().contiguous(memory_format=torch.contiguous_format)

    def _scored(self, counts: torch.Tensor) -> torch.Tensor:
        """As many chips at once as the device's memory takes: half as many, for good, each time it does not."""
        while True:
            parts = torch.split(counts, max(1, self._at_once))
            try:
                scored = [self._run(part) for part in parts]
            except torch.OutOfMemoryError:
                if len(parts[0]) == 1:
                    raise
            else:
                return scored[0] if len(scored) == 1 else torch.cat(scored)
            # Outside of the handler: the error holds the frames, and they the memory.
            self._at_once = len(parts[0]) // 2
            log.warning(
                "%s: not enough memory for %d chips at once, going on with %d", self.spec, len(parts[0]), self._at_once
            )
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _run(self, counts: torch.Tensor) -> torch.Tensor:
        try:
            return cast("torch.Tensor", self._forward(counts))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # compilers fail in many ways, and for want of many things
            if self._forward is self.scorer:
                raise
            reason = str(error).strip().partition("\n")[0]
            log.warning("torch.compile does not work here (%s); the network runs uncompiled, which is slower", reason)
            self._forward = self.scorer
            return cast("torch.Tensor", self.scorer(counts))

    def fetch(self, strips: Iterator[Strip]) -> Generator[Strip, None, None]:
        """See `Engine.fetch`. All work on the device is queued on a thread, which stays one strip ahead.

        Raises EngineError where the device's memory does not suffice.
        """
        with closing(ahead(self._returning(strips), "geounet-device")) as coming:
            for item in coming:
                item.wait()
                yield item.strip

    def _returning(self, strips: Iterator[Strip]) -> Iterator[Returning]:
        try:
            yield from returning(strips, self.device)
        except torch.OutOfMemoryError as error:
            raise EngineError(
                f"{self.spec}: not enough device memory for chips of {self.scorer.chip_size} px; "
                "start over (--restart) with a smaller --chip-size, or choose --device cpu"
            ) from error


def _reproducible(device: torch.device) -> AbstractContextManager[Any]:
    """cuDNN without algorithms that are chosen by a race or round as they please: the same chip, the same bytes."""
    if device.type != "cuda":
        return nullcontext()
    return cast(
        "AbstractContextManager[Any]",
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
    )
