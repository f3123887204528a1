"""Which configurations to try: all combinations, some drawn by chance, or some that the scores so far speak for."""

from __future__ import annotations

import itertools
import math
import sys
import warnings
from collections.abc import Sequence
from random import Random
from typing import Any

from cnnlab.errors import ConfigError
from cnnlab.metrics import is_higher_better
from cnnlab.sweeps.directory import SweepDirectory
from cnnlab.sweeps.settings import Settings
from cnnlab.sweeps.space import Axis


def list_combinations(axes: Sequence[Axis]) -> list[list[str]]:
    """Every combination, the last axis changing fastest. Raises ConfigError for an axis without steps."""
    open_ended = [axis.key for axis in axes if axis.is_continuous]
    if open_ended:
        raise ConfigError(
            [
                f"{key}: an interval was given, which has no end of values; expected choices, or sweep.trials=N"
                for key in open_ended
            ]
        )
    return [list(values) for values in itertools.product(*([f"{a.key}={c}" for c in a.choices] for a in axes))]


def list_ends(axes: Sequence[Axis]) -> list[list[str]]:
    """Every value that is chosen from, and both ends of an interval, each beside the first of the other axes."""
    ends = [axis.choices or (axis.write(axis.low), axis.write(axis.high)) for axis in axes]
    texts = [[f"{axis.key}={value}" for value in values] for axis, values in zip(axes, ends, strict=True)]
    first = [values[0] for values in texts]
    return [first] + [
        [*first[:index], value, *first[index + 1 :]] for index, values in enumerate(texts) for value in values[1:]
    ]


def count_combinations(axes: Sequence[Axis]) -> int | None:
    """None where there is no end of them."""
    numbers = [axis.num_values for axis in axes]
    return None if None in numbers else math.prod(number for number in numbers if number is not None)


def draw(axes: Sequence[Axis], seed: int, number: int, attempt: int = 0) -> list[str]:
    """The configuration of a number, whatever was drawn before it."""
    random = Random(f"cnnlab {seed} {number} {attempt}" if attempt else f"cnnlab {seed} {number}")
    return [f"{axis.key}={axis.draw(random.random())}" for axis in axes]


def draw_different(axes: Sequence[Axis], seed: int, total: int) -> list[list[str]]:
    """So many configurations, none twice while others are left; the first ones whatever the total."""
    most = count_combinations(axes)
    found: list[list[str]] = []
    for number in range(total):
        attempts = (draw(axes, seed, number, attempt) for attempt in itertools.count())
        found.append(next(values for values in attempts if values not in found or len(found) >= (most or math.inf)))
    return found


class Study:
    """A search by Optuna, in a journal beside the sweep, which its own tools read too."""

    def __init__(self, sweep: SweepDirectory, settings: Settings, axes: Sequence[Axis], metric: str):
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._settings, self._axes, self._optuna = settings, axes, optuna
        self._distributions = {axis.key: self._distribute(axis) for axis in axes}
        self._direction = "maximize" if is_higher_better(metric) else "minimize"
        try:
            self._study = self._open(sweep)
        except (ValueError, KeyError) as error:
            damaged = sweep.study.with_suffix(".damaged")
            sweep.study.replace(damaged)
            print(f"{damaged}: was damaged ({error}), and is made anew of the trials", file=sys.stderr)
            self._study = self._open(sweep)
        for known in self._study.trials:
            if known.distributions and known.distributions != self._distributions:
                raise ConfigError(f"{sweep.study}: holds a search of another space; expected that of {sweep.plan}")

    def _open(self, sweep: SweepDirectory) -> Any:
        storages = self._optuna.storages
        storage = storages.JournalStorage(storages.journal.JournalFileBackend(str(sweep.study)))
        return self._optuna.create_study(
            storage=storage, study_name="cnnlab", direction=self._direction, load_if_exists=True
        )

    def remember(self, configuration: int, values: Sequence[str]) -> None:
        """A configuration that the sweep has, if the journal has lost it; they are told in their order."""
        if configuration < len(self._study.get_trials(deepcopy=False)):
            return
        given = dict(text.split("=", 1) for text in values)
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=self._optuna.trial.TrialState.RUNNING,
                params={axis.key: axis.read(given[axis.key]) for axis in self._axes},
                distributions=self._distributions,
            )
        )

    def propose(self, configuration: int) -> list[str]:
        """The configuration of a number: the same again if a kill came between its being proposed and written down."""
        trials = self._study.get_trials(deepcopy=False)
        if configuration < len(trials):
            params = trials[configuration].params
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._study.sampler = self._build_sampler(configuration)
                params = self._study.ask(self._distributions).params
        return [
            f"{axis.key}={axis.write(params[axis.key]) if axis.is_continuous else params[axis.key]}"
            for axis in self._axes
        ]

    def learn(self, configuration: int, score: float | None) -> None:
        """The score of a configuration, or that it has none; told once."""
        state = self._optuna.trial.TrialState
        known = self._study.get_trials(deepcopy=False)
        if configuration < len(known) and not known[configuration].state.is_finished():
            if score is None:
                self._study.tell(configuration, state=state.FAIL)
            else:
                self._study.tell(configuration, score)

    def _build_sampler(self, number: int) -> Any:
        """With a seed of its own for each number, so that what is drawn depends on what is known alone."""
        samplers, seed = self._optuna.samplers, Random(f"{self._settings.seed} {number}").getrandbits(31)
        kinds = {
            "tpe": samplers.TPESampler,
            "cmaes": samplers.CmaEsSampler,
            "gp": samplers.GPSampler,
            "qmc": samplers.QMCSampler,
        }
        return kinds[self._settings.searches or "tpe"](
            seed=seed if self._settings.searches != "qmc" else self._settings.seed
        )

    def _distribute(self, axis: Axis) -> Any:
        kinds = self._optuna.distributions
        if axis.choices:
            return kinds.CategoricalDistribution(axis.choices)
        if axis.whole:
            return kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        return kinds.FloatDistribution(axis.low, axis.high, log=axis.log)


def import_optuna() -> Any:
    """Raises ConfigError where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "sweep.sampler: needs Optuna, which is not installed; expected pip install 'cnnlab[search]', or "
            "sweep.sampler=random"
        ) from error
    return optuna
