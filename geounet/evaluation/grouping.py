"""How the classes of labels and network are brought together for a score."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geounet.datasets.labels import LabelCodes

Float32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grouping:
    """How label codes and classes become scored classes: either-or labels join theirs."""

    names: tuple[str, ...]
    of_class: Index
    of_code: Index

    @classmethod
    def of(cls, codes: LabelCodes, present: Iterable[int]) -> "Grouping":
        """From the codes that occur."""
        groups = codes.scored_groups(sorted(present))
        of_class = np.zeros(len(codes.names), dtype=np.int64)
        for index, (_, members) in enumerate(groups):
            of_class[list(members)] = index
        of_code = np.full(len(codes.sets), -1, dtype=np.int64)
        for code, members_of in enumerate(codes.sets):
            found = {int(of_class[i]) for i in members_of}
            of_code[code] = found.pop() if len(found) == 1 else -1
        return cls(tuple(n for n, _ in groups), of_class, of_code)

    def joined(self, probabilities: Float32) -> Float32:
        """Probabilities (classes, ...) summed to (scored classes, ...)."""
        out = np.zeros((len(self.names), *probabilities.shape[1:]), dtype=np.float32)
        for index, group in enumerate(self.of_class.tolist()):
            out[group] += probabilities[index]
        return out
