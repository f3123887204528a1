"""Where a run stands: what, beside the weights and the optimizer, the next step needs to know."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

Row = dict[str, Any]


@dataclass
class State:
    """Plain numbers only, so that a checkpoint can hold them and a person can read them."""

    step: int = 0  # steps taken
    rows: list[Row] = field(default_factory=list)  # of metrics.csv: one an epoch
    best: Row | None = None  # the row of the best checkpoint so far
    micro_batch_size: int | None = None  # images worked through at once; None: the whole batch
    # Of the epoch under way, since its first step:
    loss_sum: float = 0.0
    score_sum: float = 0.0  # right answers, or absolute errors
    num_seen: int = 0
    train_seconds: float = 0.0
    seconds: float = 0.0  # of the whole run, interruptions left out

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> State:
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in stored.items() if key in known})
