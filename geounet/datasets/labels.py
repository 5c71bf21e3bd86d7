"""What a labelled pixel says: which land classes it may be.

A label is a set of classes. One class is an ordinary label, two are an either-or ("tree or low vegetation"), all but
one is a not-this ("anything but a building"), all of them say nothing and are ignored. Label images hold small
integer codes; a `LabelCodes` table says what each code allows. Loss and scores work on the table alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from geounet.errors import TrainingError

IGNORE = 0
"""Code of a pixel that says nothing: every class is allowed."""


@dataclass(frozen=True)
class LabelCodes:
    """`allowed[code, class]`; code 0 allows all classes, codes 1..classes are the single classes in legend order."""

    names: tuple[str, ...]
    sets: tuple[frozenset[int], ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> "LabelCodes":
        """The codes that every legend has: ignore, and one code a class."""
        everything = frozenset(range(len(names)))
        return cls(tuple(names), (everything, *(frozenset({i}) for i in range(len(names)))))

    @cached_property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """Shape (codes, classes)."""
        table = np.zeros((len(self.sets), len(self.names)), dtype=bool)
        for code, members in enumerate(self.sets):
            table[code, sorted(members)] = True
        return table

    def parse(self, text: str) -> frozenset[int]:
        """`"tree"`, `"tree|low_vegetation"`, `"!building"` or `"ignore"` as a set of class indices.

        Raises TrainingError for a name that the legend does not have.
        """
        if text == "ignore":
            return self.sets[IGNORE]
        if text.startswith("!"):
            return self.sets[IGNORE] - self.parse(text[1:])
        members = [part.strip() for part in text.split("|")]
        for member in members:
            if member not in self.names:
                raise TrainingError(f"'{member}' is no class of the legend: {', '.join(self.names)}")
        return frozenset(self.names.index(member) for member in members)

    def with_sets(self, texts: Sequence[str]) -> "LabelCodes":
        """The same codes and, after them, one for each new set that `texts` name."""
        sets = list(self.sets)
        for text in texts:
            members = self.parse(text)
            if members not in sets:
                sets.append(members)
        if len(sets) > 255:
            raise TrainingError(f"{len(sets)} different label meanings are more than the 255 that are possible")
        return LabelCodes(self.names, tuple(sets))

    def code(self, text: str) -> int:
        """The code of a set that `with_sets` was told of."""
        return self.sets.index(self.parse(text))

    def describe(self, code: int) -> str:
        """A set in the words of `parse`."""
        members = self.sets[code]
        if code == IGNORE or len(members) == len(self.names):
            return "ignore"
        if len(members) > len(self.names) / 2 and len(members) == len(self.names) - 1:
            return "!" + self.names[next(iter(self.sets[IGNORE] - members))]
        return "|".join(self.names[i] for i in sorted(members))

    def scored_groups(self, codes: Sequence[int]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Classes as they can be told apart by labels with these codes: (name, class indices) a group.

        An either-or label joins its classes into one scored class, unless other labels name one of them alone: then
        the classes are told apart, and the either-or pixels are scored as no class. A not-this label joins nothing and
        is scored as no class. With Dubai's masks, tree and low vegetation are one.
        """
        group = {i: {i} for i in range(len(self.names))}
        alone = frozenset[int]().union(*(self.sets[code] for code in codes if len(self.sets[code]) == 1))
        for code in codes:
            members = self.sets[code]
            if 1 < len(members) <= len(self.names) / 2 and not members & alone:
                joined = set().union(*(group[i] for i in members))
                for i in joined:
                    group[i] = joined
        seen: list[set[int]] = []
        for i in range(len(self.names)):
            if group[i] not in seen:
                seen.append(group[i])
        return tuple(("|".join(self.names[i] for i in sorted(g)), tuple(sorted(g))) for g in seen)
