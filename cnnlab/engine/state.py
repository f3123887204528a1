"""Where a run stands: what, beside the weights and the optimizer, the next step needs to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

Row = dict[str, Any]  # of metrics.csv


@dataclass
class State:
    """Plain numbers only, so that a checkpoint can hold them and a person can read them.

    Of its rows a checkpoint holds no more than their number and the last, so that it takes as long after many epochs as
    after one.
    """

    step: int = 0  # steps taken
    rows: list[Row] = field(default_factory=list)  # of metrics.csv: one an epoch
    best: Row | None = None  # the row of the best whole epoch so far, whose weights are in best.pt
    # Classes, by their numbers, that were never predicted of validation images: by the newest epoch, by the best.
    never_predicted: list[int] = field(default_factory=list)
    best_never_predicted: list[int] = field(default_factory=list)
    micro_batch_size: int | None = None  # images worked through at once; None: the whole batch
    # Of the epoch under way, since its first step:
    loss_sum: float = 0.0
    score_sum: float = 0.0  # right predictions, or absolute errors
    num_seen: int = 0
    weight_sum: float = 0.0  # of what the losses count: the images, or the weights of their classes
    train_seconds: float = 0.0
    seconds: float = 0.0  # of the whole run, interruptions left out

    @property
    def totals(self) -> tuple[float, float, int, float]:
        """Of the epoch under way, as sums of an evaluation are."""
        return self.loss_sum, self.score_sum, self.num_seen, self.weight_sum

    def as_dict(self) -> dict[str, Any]:
        stored = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "rows"}
        return {**stored, "num_rows": len(self.rows), "last_row": self.rows[-1] if self.rows else None}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], rows: list[Row]) -> State:
        """What was stored, with those of `rows` that there were then."""
        known = {item.name for item in fields(cls)}
        stored = {"weight_sum": float(stored["num_seen"]), **stored}  # earlier versions counted images
        return cls(**{key: value for key, value in stored.items() if key in known}, rows=rows[: stored["num_rows"]])
