"""One line of a pre-flight: what was looked at, and how it stands."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["ok", "adjusted", "warning", "refused"]


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it stands, and, unless it is well, what to do."""

    topic: str
    status: Status
    text: str
    remedy: str = ""

    def as_record(self) -> dict[str, Any]:
        """For `summary.json`."""
        return asdict(self)
