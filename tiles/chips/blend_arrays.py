"""Blending of one chip with whole-array operations: the same as the compiled loop of `tiles.chips.blend`, on any array.

For scores that lie on a GPU: nothing here copies to the host or waits for the device, so chips can be queued as fast as
Python runs. The float operations and their order are those of the compiled loop, so the bytes are the same too.
"""

from typing import Any

from tiles.chips.arrays import namespace
from tiles.legend import NODATA


def blend_chip(
    scored: Any,
    valid: Any,
    wy: Any,
    wx: Any,
    values: Any,
    tails: Any,
    tail_classes: Any,
    opens: Any,
    open_classes: Any,
    classes: Any,
    confidence: Any,
    probabilities: Any,
    pairs: Any,
) -> None:
    """Weigh one chip in; writes into the new tail, what is open below, the settled bytes and the audit.

    Shapes: `scored` float32 (classes, height, width), or (classes, 0, 0) for a chip that nobody scored; `valid`
    (height, width); `tails` (old, new) float32 (classes, height, columns); `opens` (above, below) float32 (classes,
    rows, settled columns); `classes`, `confidence` uint8 (settled rows, settled columns); `pairs` int64 (classes,
    classes).
    """
    xp = namespace(valid)
    (old_tail, new_tail), (old_tail_class, new_tail_class) = tails, tail_classes
    (above, below), (above_class, below_class) = opens, open_classes
    rows, settled = classes.shape
    overlap, reach, n = old_tail.shape[2], above.shape[1], len(values)
    channels = xp.arange(n, dtype=xp.uint8, device=valid.device)
    if scored.shape[1]:
        own = xp.where(valid, _largest(xp, scored, channels)[1], NODATA)
        total = scored * (wy[:, None] * wx)
    else:
        own = xp.full(valid.shape, NODATA, dtype=xp.uint8, device=valid.device)
        total = xp.zeros((n, *valid.shape), dtype=xp.float32, device=valid.device)
    total[:, :, :overlap] += old_tail
    _meet(xp, old_tail_class, own[:, :overlap], channels, pairs)
    new_tail[:] = total[:, :, settled:]
    new_tail_class[:] = own[:, settled:]
    total[:, :reach, :settled] += above
    _meet(xp, above_class, own[:reach, :settled], channels, pairs)
    below[:] = total[:, rows:, :settled]
    below_class[:] = own[rows:, :settled]
    done, there = total[:, :rows, :settled], valid[:rows, :settled]
    best, chosen = _largest(xp, done, values)
    classes[:] = xp.where(there, chosen, NODATA)
    confidence[:] = xp.where(there, _percent(xp, best), NODATA)
    if len(probabilities):
        probabilities[:] = xp.where(there, _percent(xp, done), NODATA)


def _largest(xp: Any, scores: Any, names: Any) -> tuple[Any, Any]:
    """Largest of scores[:, y, x] and its name, the first where several are equal: not every argmax promises that."""
    best, chosen = scores[0], xp.zeros_like(scores[0], dtype=xp.uint8) + names[0]
    for channel in range(1, len(scores)):
        better = scores[channel] > best
        best, chosen = xp.where(better, scores[channel], best), xp.where(better, names[channel], chosen)
    return best, chosen


def _percent(xp: Any, shares: Any) -> Any:
    """Rounded per cent as floats; assignment to bytes cuts what is behind the point."""
    return xp.clip(shares * 100.0 + 0.5, 0.0, 100.0)


def _meet(xp: Any, earlier: Any, own: Any, channels: Any, pairs: Any) -> None:
    """Count who says what where two chips meet; where the later one has nothing to say, the earlier speaks for it."""
    later = own[None] == channels[:, None, None]
    for channel in range(len(channels)):
        pairs[channel] += ((earlier == channels[channel]) & later).sum((1, 2))
    own[:] = xp.where(own == NODATA, earlier, own)
