"""What was decided before a map was begun: kept in the spool's journal, told in `summary.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from geounet.model.stretch import Stretch
from geounet.outputs.check import Check


@dataclass(frozen=True)
class Decisions:
    """Everything that `auto` came to stand for; an interrupted run goes on with the same.

    `request` is what the map was asked to be (`geounet.mapping.request`), `plan` the record of
    `geounet.mapping.plan.Plan`, `checks` are the lines of the pre-flight.
    """

    request: Mapping[str, Any]
    plan: Mapping[str, Any]
    stretch: Stretch
    checks: tuple[Check, ...]

    def to_record(self) -> dict[str, Any]:
        """For the journal: plain JSON."""
        return {
            "request": dict(self.request),
            "plan": dict(self.plan),
            "stretch": self.stretch.as_record(),
            "preflight": [check.as_record() for check in self.checks],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Inverse of `to_record`."""
        return cls(
            record["request"],
            record["plan"],
            Stretch.from_record(record["stretch"]),
            tuple(Check(**check) for check in record["preflight"]),
        )
