"""`cnnlab find-lr`: a learning rate for a configuration, from one sweep. No run, no directory, only a picture."""

from __future__ import annotations

from cnnlab.composition import compose
from cnnlab.engine.rate_sweep import MARGIN, Sweep, sweep_rates
from cnnlab.errors import ConfigError, DivergenceError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.training import build_experiment
from cnnlab.runs.output import announce, check_output
from cnnlab.runs.plots import draw_sweep

MIN_STEPS = 10
MAX_STEPS = 200
LEAST_FALL = 0.05  # of the loss; batches differ by as much


def find_lr(overrides: list[str], config_dirs: list[str], output: str, lowest: float, highest: float) -> float:
    """Sweep from `lowest` to `highest` over at most an epoch, draw it to `output`, print and return a suggestion.

    Raises ConfigError for a configuration that cannot be trained or has too few steps to sweep over, and
    DivergenceError if the loss is no number from the start.
    """
    if not 0 < lowest < highest:
        raise ConfigError(f"--from {lowest:g}, --to {highest:g}: expected two rates above 0, the smaller one first")
    target = check_output(output)
    config = compose(overrides, config_dirs)
    training = build_experiment(config, assemble(config)).training
    num_steps = min(MAX_STEPS, len(training.train))
    if num_steps < MIN_STEPS:
        raise ConfigError(
            f"batch_size: an epoch of {training.train.num_examples:,} images has {num_steps} steps of "
            f"{config.batch_size}; expected at least {MIN_STEPS} to sweep over: make batch_size smaller"
        )
    rate = config.optimizer.arguments.get("lr")
    if not rate:
        raise ConfigError(
            f"optimizer: {config.optimizer.name} has no argument lr; expected one whose rate can be swept"
        )
    # What `optimizer.scale_to_batch` or `optimizer.rates` makes of a rate as it is typed.
    factor = training.optimizer.param_groups[0]["lr"] / rate
    sweep = sweep_rates(training, num_steps, lowest, highest, config.engine.micro_batch_size)
    if not sweep.rates:
        raise DivergenceError("the loss is no finite number before the first step: check the data and the network")
    announce(target)
    draw_sweep(sweep, target)
    print(explain(sweep, highest))
    print(f"suggested: optimizer.lr={sweep.suggestion / factor:.2g} (see {output})")
    return sweep.suggestion / factor


def explain(sweep: Sweep, highest: float) -> str:
    """How the suggestion was found, and what speaks against it."""
    start, best, lowest = sweep.smooth[0], sweep.rates[sweep.lowest], sweep.smooth[sweep.lowest]
    text = (
        f"{len(sweep.rates)} steps from lr {sweep.rates[0]:.2g} to {sweep.rates[-1]:.2g}: the smoothed loss began at "
        f"{start:.4f} and was lowest at lr {best:.2g}, {lowest:.4f}; a {MARGIN}th of that rate is suggested"
    )
    if lowest > (1 - LEAST_FALL) * start:
        advice = "a smaller batch_size gives more steps"
        return f"{text}\nbut it fell by less than {LEAST_FALL:.0%}, perhaps by chance: {advice}"
    if best == highest:
        return f"{text}\nbut the loss was still falling there: sweep to a larger rate (--to)"
    return text
