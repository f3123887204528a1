"""What can be mistyped on a command line: keys, choices, types, ranges, brackets, options, commands, folders.

Each mistake is a list of arguments, by a name that says what is wrong, with what its message has to name. They are
made of the composed configuration, so that a key that is new is mistyped as well; a seed chooses where. The suite takes
a sample of them, `make test-all` all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cnnlab.composition import CONF
from tests.conftest import compose_tree

# A run of one step, where a mistake is not noticed.
QUICK = ("dataset.image_size=12", "steps=1", "engine.device=cpu")
FREE = ("name", "output_dir", "engine.device", "note")  # any text might be one
FRACTIONS = ("schedule.every",)  # a whole number by chance
EVERYTHING = ("augment=[shift,mixup]", "optimizer=sgd", "schedule=step", "average=ema")

WRONG_VALUES = {
    "a list of lists": "[[[1]]]",
    "a mapping of mappings": "{qqq: {qqq: 1}}",
    "an infinity": "inf",
    "no number": "nan",
    "below all": "-1e30",
}
BROKEN_VALUES = {
    "an open bracket": "[1",
    "an open brace": "{a: 1",
    "an open quote": "'a",
    "a key that is not there": "${nowhere}",
    "a variable that is not there": "${oc.env:CNNLAB_NOWHERE}",
    "an unknown resolver": "${qqq:1}",
    "a missing value": "???",
}
PAIRS = (  # of overrides that do not go together, or that this machine or dataset cannot do
    ("steps=1", "examples=9"),
    ("split.valid=0.6", "split.test=0.6"),
    ("split.valid=0", "engine.select_by=valid_loss"),
    ("split.valid=0", "engine.stop_by=valid_loss"),
    ("folds=3", "fold=3"),
    ("folds=3", "fit_on=train_valid"),
    ("folds=3", "engine.overfit=2"),
    ("folds=5000", "epochs=1"),
    ("split.test=0.9999", "epochs=1"),
    ("schedule.warmup=9 epochs", "epochs=2"),
    ("model.freeze=[nowhere]", "epochs=1"),
    ("model.init=xavier", "model.weights=nowhere.pt"),
    ("loss=nll", "epochs=1"),
    ("engine.device=cuda:99", "epochs=1"),
    ("engine.max_time=0s", "epochs=1"),
    ("engine.threads=100000", "epochs=1"),
    ("dataset=mnist", "dataset.root=/nowhere"),
    ("dataset.image_size=1", "epochs=1"),
)
COMMANDS = ("train", "prepare", "resume", "evaluate", "predict", "reproduce", "inspect", "find-lr", "bench", "lesson")
COMMANDS += ("calibrate", "report", "audit", "export", "watch")
OF_RUNS = ("resume", "evaluate", "predict", "reproduce", "inspect", "calibrate", "report", "audit")
TAKING_CHANGES = (
    "resume",
    "evaluate",
    "reproduce",
    "inspect",
    "calibrate",
    "report",
    "audit",
)  # to the configuration of a run
CHANGES = (  # that are none
    *("=1", "epochs", "epochs=[1", "epochs={a: 1", "epochs='a", "epochs=${nowhere}", "epochs=${oc.env:CNNLAB_NOWHERE}"),
    *("epochs=${qqq:1}", "epochs=???", "epochs=a: b", "epochs=*a", "epochs=!!python/object:os.system", "epochs.x=1"),
    *(
        "epochs[0]=1",
        "[=1",
        ".=1",
        "epochs=qqq",
        "epoch=1",
        "model.widht=1",
        "model=lenet",
        "model=null",
        "optimizer.lr=nan",
    ),
)


class Mistake(NamedTuple):
    arguments: list[str]
    named: str = ""  # what the message has to name


def find_leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a tree that have a value, with dots, and their defaults."""
    for key, value in tree.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping) and value:
            yield from find_leaves(value, path)
        else:
            yield path, value


def misspell(word: str, rng: random.Random) -> str:
    """A letter less, a letter twice, or two letters exchanged."""
    at = rng.randrange(len(word) - 1)
    less, twice = word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]
    exchanged = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return rng.choice([wrong for wrong in (less, twice, exchanged) if wrong != word])


def all_mistakes() -> dict[str, Mistake]:
    rng = random.Random(0)
    tree = compose_tree(*EVERYTHING)
    leaves = dict(find_leaves(tree))
    mistakes: dict[str, Mistake] = {}

    def train(name: str, *overrides: str, named: str = "", base: tuple[str, ...] = EVERYTHING) -> None:
        mistakes[name] = Mistake(["train", *base, *QUICK, *overrides], named)

    for key, value in leaves.items():
        above, _, last = key.rpartition(".")
        wrong = ".".join(part for part in (above, misspell(last, rng) if len(last) > 2 else "qqq") if part)
        train(f"{key} misspelt", f"{wrong}=1", named=wrong)
        train(f"{key} with a key below", f"{key}.qqq=1", named=key)
        for what, text in WRONG_VALUES.items():
            if key not in FREE or "of" in what:
                train(f"{key}: {what}", f"{key}={text}", named=key)
        if key not in FREE and key.rpartition(".")[2] not in ("name",):
            train(f"{key}: a word", f"{key}=qqq", named=key.split(".")[0])
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            for text in (
                "null",
                "true",
                "''",
                "1e400",
                "1 epoch",
                *["9" * 23] * (type(value) is int and key not in FRACTIONS),
            ):
                train(f"{key}: {text}", f"{key}={text}", named=key.split(".")[0])
    for what, text in BROKEN_VALUES.items():
        for key in ("epochs", "optimizer.lr", "model.name", "augment.translate.pixels", "engine.log_every"):
            train(f"{key}: {what}", f"{key}={text}")

    groups = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "experiment")
    for group in groups:
        choices = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
        choice = rng.choice([name for name in choices if len(name) > 3])
        train(f"{group}={choice} misspelt", f"{group}={misspell(choice, rng)}", named=group, base=())
        for text in ("null", "''", "1.5", "[1,[2]]", "{a: 1}", "~"):
            train(f"{group}={text}", f"{group}={text}", base=())
        train(f"{group} twice", f"+{group}=default", base=())
        train(f"{group} misspelt", f"{misspell(group, rng)}={choice}", base=())
        train(f"{group} in a sweep with null", "-m", f"{group}={choice},null", base=())
        train(f"{group}.name taken away", f"~{group}.name", base=())
    for text in (
        "=1",
        "@=1",
        "a=@",
        "epochs",
        "model@x=lenet",
        "+model/x=lenet",
        "@model=lenet",
        ".epochs=1",
        "epochs.=1",
    ):
        train(f"train {text}", text)
    for text in ("[.x]", '[""]', "[nowhere_at_all]", "x", "[1]", "[os.nowhere]", "[../x]", "null", "{a: 1}", "[a b]"):
        train(f"imports={text}", f"imports={text}", named="imports", base=())
    for text in ("..", "../..", "/abs", "''", "a/../../b", ".hidden", "'a\nb'", "x" * 300):
        train(f"name={text[:20]}", f"name={text}", named="name")
    for one, other in PAIRS:
        mistakes[f"{one} beside {other}"] = Mistake(["train", one, other])
    for flag in ("--resolve", "--nonsense", "--multirn", "-q", "--experimental-rerun", "--config-nam"):
        mistakes[f"train {flag}"] = Mistake(["train", flag])
    mistakes |= {f"{command} misspelt": Mistake([misspell(command, rng)], "no command") for command in COMMANDS}
    for command in OF_RUNS:
        mistakes[f"{command} of nothing"] = Mistake([command, "nowhere"], "nowhere")
        mistakes[f"{command} of a name that ends"] = Mistake([command, "a\0b"])
        mistakes[f"{command} of ''"] = Mistake([command, ""])
        mistakes[f"{command} of a file"] = Mistake([command, __file__], "mistakes.py")
        mistakes[f"{command} with --nonsense"] = Mistake([command, "nowhere", "--nonsense"], "--nonsense")
        mistakes[f"{command} with an open bracket"] = Mistake([command, "nowhere", "epochs=[1"], "nowhere")
    for command in ("prepare", "find-lr", "inspect", "evaluate"):
        for text in ("=1", "epochs=[1", "modle=lenet", "model=lenett", "epochs=qqq", "dataset=null", "nowhere=1"):
            mistakes[f"{command} {text}"] = Mistake([command, text])
    mistakes |= {
        "find-lr down": Mistake(["find-lr", "--from", "1", "--to", "0.1"], "--from"),
        "find-lr from a word": Mistake(["find-lr", "--from", "qqq"], "--from"),
        "bench of nothing": Mistake(["bench", "--device", "qqq"], "qqq"),
        "prepare into nothing": Mistake(["prepare", "--layout", "folders"], "--output"),
        "list of nothing": Mistake(["list", "qqq"], "qqq"),
        "list with nothing": Mistake(["list", "--import", "nowhere_at_all"], "nowhere_at_all"),
        "lesson of nothing": Mistake(["lesson", "qqq"], "qqq"),
        "evaluate without weights": Mistake(["evaluate", "model=lenet"], "model.weights"),
        "evaluate of weights that are not there": Mistake(["evaluate", "model.weights=nowhere.pt"], "nowhere.pt"),
        "inspect of a negative number of images": Mistake(["inspect", "schedule=step", "--plot", "--examples", "-3"]),
    }
    return mistakes
