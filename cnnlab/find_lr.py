"""`cnnlab find-lr`: a learning rate for a configuration, from some sweeps. No run, no directory, only a picture."""

from __future__ import annotations

from cnnlab.composition import compose
from cnnlab.engine.rate_sweep import LEARNED, MARGIN, Sweep, sweep_rates
from cnnlab.errors import ConfigError, DivergenceError
from cnnlab.experiment.assembly import assemble
from cnnlab.experiment.training import build_experiment
from cnnlab.runs.output import announce, check_output
from cnnlab.runs.plots import draw_sweep

NUM_SWEEPS = 3
NUM_STEPS = 200  # of each
ADVICE = """What may help:
  - a batch_size that is smaller, or a wider range: --from, --to
  - another optimizer, such as adam; model.init=xavier or kaiming; ReLU where there are sigmoids
  - engine.overfit=2, which shows whether the network can learn two batches by heart"""


def find_lr(overrides: list[str], config_dirs: list[str], output: str, lowest: float, highest: float) -> float | None:
    """Sweep from `lowest` to `highest`, draw it to `output`, print and return a suggestion; None where there is none.

    Raises ConfigError for a configuration that cannot be trained, and DivergenceError if the loss is no number from
    the start.
    """
    if not 0 < lowest < highest:
        raise ConfigError(f"--from {lowest:g}, --to {highest:g}: expected two rates above 0, the smaller one first")
    target = check_output(output)
    config = compose(overrides, config_dirs)
    rate = config.optimizer.arguments.get("lr")
    if not rate:
        raise ConfigError(
            f"optimizer: {config.optimizer.name} has no argument lr; expected one whose rate can be swept"
        )
    if config.batch_size < 2:
        raise ConfigError("batch_size: 1 was given; expected at least 2 images, whose outputs can be exchanged")
    training = build_experiment(config, assemble(config)).training
    # What `optimizer.scale_to_batch` or `optimizer.rates` makes of a rate as it is typed.
    factor = training.optimizer.param_groups[0]["lr"] / rate
    sweep = sweep_rates(training, NUM_SWEEPS, NUM_STEPS, lowest, highest, config.engine.micro_batch_size)
    if not sweep.rates:
        raise DivergenceError("the loss is no finite number before the first step: check the data and the network")
    announce(target)
    draw_sweep(sweep, target)
    print(describe(sweep, highest))
    if sweep.suggestion is None:
        print(f"no suggestion (see {output}). {ADVICE}")
        return None
    print(f"suggested: optimizer.lr={sweep.suggestion / factor:.2g} (see {output})")
    return sweep.suggestion / factor


def describe(sweep: Sweep, highest: float) -> str:
    """How the suggestion was found, or why there is none, and what speaks against it."""
    start, best, lowest = sweep.smooth[0], sweep.rates[sweep.lowest], sweep.smooth[sweep.lowest]
    fell = "was lowest" if sweep.learned is None else f"had fallen below {LEARNED:g} of that"
    text = (
        f"{NUM_SWEEPS} sweeps of {len(sweep.rates)} steps from lr {sweep.rates[0]:.2g} to {sweep.rates[-1]:.2g}: the "
        f"smoothed loss began at {start:.4f} and {fell} at lr {best:.2g}, {lowest:.4f}"
    )
    if sweep.suggestion is None:
        chance = sweep.chance[sweep.lowest]
        return f"{text}: not clearly below the start, and below the {chance:.4f} of outputs given to the wrong images"
    if sweep.lowest == len(sweep.rates) - 1 and best == highest:
        text += ", still falling: sweep to a larger rate (--to)"
    return f"{text}; a {MARGIN}th of that rate is suggested"
