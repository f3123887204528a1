"""What each command takes and does, one after the other. Nothing heavy is imported until a command runs.

`add_NAME` tells the parser the arguments of a command, and `run_NAME` is handed them and returns the exit code.
`train` and `lesson` read their arguments themselves.
"""

from __future__ import annotations

import argparse

from cnnlab.distributed import share
from cnnlab.errors import ConfigError, DataError
from cnnlab.signature import suggest
from cnnlab.streams import lasting_output

LISTS = ("models", "datasets", "augments", "optimizers", "schedules", "losses", "averages", "inits", "experiments")

FORMATS = ("class", "number", "probability", "probabilities")  # of a submission

Commands = argparse._SubParsersAction


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config-dir", "-cd", action="append", default=[], metavar="FOLDER", help="your own conf, as for train"
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let the run import the modules that it names: code, whose contents are "
        "not compared with before, so read it first; remembered for this directory and these files",
    )


def add_run(
    parser: argparse.ArgumentParser, run: str = "run directory", overrides: str = "such as dataset.root=FOLDER"
) -> None:
    """A run, changes to it, and trust in its modules; what the help says of the first two."""
    parser.add_argument("run", help=run)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=overrides)
    add_trust(parser)


def trust(arguments: argparse.Namespace) -> None:
    """What --trust asks for, of the runs that a command is for."""
    if getattr(arguments, "trust", False):
        from cnnlab.runs.saved import grant_trust

        runs = arguments.what[:1] if "what" in arguments else arguments.run
        grant_trust([runs] if isinstance(runs, str) else runs)


# --- Data ---------------------------------------------------------------------------------------------


def add_prepare(commands: Commands) -> None:
    parser = commands.add_parser(
        "prepare",
        help="check every file of a dataset; exit 3 if something is wrong",
        description="Opens every file and lists those that are empty or broken, the same picture under two labels, in "
        "two parts or twice, beside the parts, classes and sizes that there are, and packs the pictures as training "
        "would. With --layout folders the split that training would use becomes a tree: train, valid and, of both, "
        "train_valid with a folder for each class, and test/unknown. Its files are links where that is possible, and "
        "dataset=image_folder reads it.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train")
    parser.add_argument("--layout", choices=("folders",), help="also write it as a tree with a folder for each class")
    parser.add_argument("--output", metavar="DIR", help="with --layout: the folder to write")
    parser.add_argument(
        "--strict", action="store_true", help="exit 3 also for pictures to predict that are there twice"
    )
    parser.add_argument("--verify", action="store_true", help="also verify the checksums of packed pictures")
    add_config_dir(parser)
    parser.set_defaults(execute=run_prepare)


def run_prepare(arguments: argparse.Namespace) -> int:
    from cnnlab.prepare import prepare

    if (arguments.layout is None) != (arguments.output is None):
        raise ConfigError("--layout, --output: expected both, such as --layout folders --output DIR, or neither")
    sound = prepare(
        arguments.overrides, arguments.config_dir, arguments.output, verify=arguments.verify, strict=arguments.strict
    )
    return 0 if sound else DataError.exit_code


# --- Runs ---------------------------------------------------------------------------------------------


def add_resume(commands: Commands) -> None:
    parser = commands.add_parser("resume", help="go on with a run that was stopped, or prolong one")
    add_run(parser, overrides="such as epochs=20 or engine.device=cpu")
    parser.set_defaults(execute=run_resume)


def run_resume(arguments: argparse.Namespace) -> int:
    from cnnlab.runs.start import resume

    with lasting_output():
        resume(*share((arguments.run, arguments.overrides)))
    return 0


def add_evaluate(commands: Commands) -> None:
    parser = commands.add_parser("evaluate", help="loss and accuracy of a trained run, or of weights from anywhere")
    parser.add_argument(
        "what",
        nargs="+",
        metavar="RUN|KEY=VALUE",
        help="run directory, and changes such as dataset.root=FOLDER; or as for train, with model.weights=FILE, whose "
        "outputs are taken in the order of the dataset's classes",
    )
    add_config_dir(parser)
    parser.add_argument("--part", choices=("train", "valid", "test"), help="default: test, or valid without one")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_trust(parser)
    parser.set_defaults(execute=run_evaluate)


def run_evaluate(arguments: argparse.Namespace) -> int:
    from cnnlab.composition import compose
    from cnnlab.runs.evaluation import evaluate_run, evaluate_weights, print_evaluation
    from cnnlab.runs.saved import split_run

    run, overrides = split_run(arguments.what)
    if run is not None:
        evaluation = evaluate_run(str(run), arguments.part, arguments.checkpoint, overrides)
    else:
        evaluation = evaluate_weights(compose(overrides, arguments.config_dir), arguments.part)
    print_evaluation(evaluation, as_json=arguments.json)
    return 0


def add_predict(commands: Commands) -> None:
    parser = commands.add_parser(
        "predict",
        help="what trained runs say of images: a table, and a submission",
        description="predictions.csv has the class and the probability of each class for every image, submission.csv "
        "the columns, ids and order that the competition wants; all that does not fit is reported at once, and "
        "nothing is written. Of each image no more than its name and its scores stays in memory, and a prediction that "
        "was stopped, however it was stopped, goes on where it was when the same command is given again.",
    )
    parser.add_argument("run", nargs="+", help="run directory, or one with folds; several predict together")
    parser.add_argument(
        "--tta",
        choices=("none", "flip", "flip_translate", "multicrop"),
        default="none",
        help="average over mirror images, over moves by a pixel too, or over the corners and the centre, each mirrored",
    )
    parser.add_argument(
        "--average", choices=("probabilities", "logits"), default="probabilities", help="logits: before the softmax"
    )
    parser.add_argument("--images", metavar="FOLDER_OR_FILE", help="your own (default: those a competition asks about)")
    parser.add_argument("--part", choices=("train", "valid", "test"), help="labelled images of the dataset instead")
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="of the submission, or of the table where there is none; nothing else is written",
    )
    parser.add_argument(
        "--on-bad-image",
        choices=("error", "skip"),
        help="what cannot be decoded (default: the run's dataset.on_bad_image)",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="of the submission (default: the dataset's)",
    )
    parser.add_argument(
        "--calibrated", action="store_true", help="with the temperature that `cnnlab calibrate` found for each run"
    )
    parser.add_argument(
        "--weights", metavar="W,W…|fit", help="of the runs, or fitted to images that were held out (default: equal)"
    )
    parser.add_argument(
        "--clip", type=float, default=0.0, metavar="P", help="keep a submission's probabilities so far from 0 and 1"
    )
    parser.add_argument(
        "--threshold",
        metavar="P|fit",
        help="of the second class's probability, or of each label's (P,P…), or fitted (default: the likeliest, a half)",
    )
    add_trust(parser)
    parser.set_defaults(execute=run_predict)


def run_predict(arguments: argparse.Namespace) -> int:
    from cnnlab.runs.predict import predict

    files = predict(
        arguments.run,
        views=arguments.tta,
        average=arguments.average,
        images=arguments.images,
        part=arguments.part,
        output=arguments.output,
        value=arguments.format,
        calibrated=arguments.calibrated,
        on_bad_image=arguments.on_bad_image,
        weights=arguments.weights,
        clip=arguments.clip,
        threshold=arguments.threshold,
    )
    print("\n".join(str(path) for path in files))
    return 0


def add_submit_check(commands: Commands) -> None:
    parser = commands.add_parser("submit-check", help="any submission by the competition's rules; exit 3 if it is none")
    parser.add_argument("file", help="CSV file")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train, such as dataset=dog_breeds")
    parser.add_argument("--format", choices=FORMATS, help="default: the dataset's")
    add_config_dir(parser)
    parser.set_defaults(execute=run_submit_check)


def run_submit_check(arguments: argparse.Namespace) -> int:
    from cnnlab.submit_check import check_submission

    sound = check_submission(arguments.file, arguments.overrides, arguments.config_dir, arguments.format)
    return 0 if sound else DataError.exit_code


def add_calibrate(commands: Commands) -> None:
    parser = commands.add_parser("calibrate", help="fit a temperature to a run's probabilities, on validation images")
    add_run(parser)
    parser.set_defaults(execute=run_calibrate)


def run_calibrate(arguments: argparse.Namespace) -> int:
    from cnnlab.runs.calibration import calibrate, print_calibration

    print_calibration(calibrate(arguments.run, arguments.overrides))
    return 0


def add_report(commands: Commands) -> None:
    parser = commands.add_parser("report", help="one HTML page: the whole story of a run, a sweep, or a folder")
    add_run(
        parser, "run directory, sweep, or a folder of them such as outputs", "of a run: such as dataset.root=FOLDER"
    )
    parser.add_argument("--output", metavar="FILE", help="default: report.html there")
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="of a folder: only runs that have it")
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    parser.set_defaults(execute=run_report)


def run_report(arguments: argparse.Namespace) -> int:
    from cnnlab.reports.command import report

    print(report(arguments.run, arguments.overrides, arguments.output, arguments.open, arguments.tag))
    return 0


def add_audit(commands: Commands) -> None:
    parser = commands.add_parser("audit", help="labels that look wrong, near-twins within and across parts")
    add_run(parser, "run directory, or one with folds")
    parser.set_defaults(execute=run_audit)


def run_audit(arguments: argparse.Namespace) -> int:
    from cnnlab.reports.audit_page import audit

    print("\n".join(str(path) for path in audit(arguments.run, arguments.overrides)))
    return 0


def add_watch(commands: Commands) -> None:
    parser = commands.add_parser("watch", help="the running curves as text")
    parser.add_argument("run", help="run directory, or a folder of them such as outputs")
    parser.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="default: 2")
    parser.add_argument("--once", action="store_true", help="draw once and end")
    parser.set_defaults(execute=run_watch)


def run_watch(arguments: argparse.Namespace) -> int:
    from cnnlab.runs.watch import watch

    if not arguments.every > 0:
        raise ConfigError(f"--every {arguments.every:g}: expected more than 0 seconds")
    watch(arguments.run, arguments.every, arguments.once)
    return 0


def add_export(commands: Commands) -> None:
    parser = commands.add_parser("export", help="a run's network as a file for other programs, with a model card")
    parser.add_argument("run", help="run directory")
    parser.add_argument("--format", choices=("safetensors", "onnx", "torch_export"), required=True)
    parser.add_argument("--output", metavar="FOLDER", help="default: export/FORMAT in the run directory")
    add_trust(parser)
    parser.set_defaults(execute=run_export)


def run_export(arguments: argparse.Namespace) -> int:
    from cnnlab.runs.export import export

    print(export(arguments.run, arguments.format, arguments.output))
    return 0


def add_reproduce(commands: Commands) -> None:
    parser = commands.add_parser("reproduce", help="run a saved configuration again and compare; exit 1 if it differs")
    add_run(parser)
    parser.set_defaults(execute=run_reproduce)


def run_reproduce(arguments: argparse.Namespace) -> int:
    from cnnlab.runs.reproduction import reproduce

    return 0 if reproduce(arguments.run, arguments.overrides) else 1


# --- Networks and rates -------------------------------------------------------------------------------


def add_inspect(commands: Commands) -> None:
    parser = commands.add_parser(
        "inspect", help="a network's layers, shapes, parameters, work and memory; its pictures; a schedule's curve"
    )
    parser.add_argument(
        "what", nargs="*", metavar="KEY=VALUE", help="as for train; or a run directory, and changes to it"
    )
    add_config_dir(parser)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="for programs")
    shown.add_argument(
        "--plot",
        action="store_true",
        help="draw instead: of a run its kernels and feature maps; with schedule=NAME[,NAME ...] the learning rate; "
        "else training images as the network would see them",
    )
    parser.add_argument("--image", metavar="FILE", help="of a run: the picture to show it (default: a test image)")
    parser.add_argument(
        "--examples", type=int, metavar="N", help="of a schedule: N images to train on, instead of reading the dataset"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="of a schedule or of images: picture; default: schedule.png, augmented.png"
    )
    add_trust(parser)
    parser.set_defaults(execute=run_inspect)


def run_inspect(arguments: argparse.Namespace) -> int:
    keys = [text.partition("=")[0] for text in arguments.what if "=" in text]
    if arguments.plot and any(key.partition(".")[0] == "schedule" for key in keys):
        from cnnlab.inspection import draw_schedules

        draw_schedules(arguments.what, arguments.config_dir, arguments.examples, arguments.output or "schedule.png")
    elif arguments.plot and arguments.what and "=" in arguments.what[0]:
        from cnnlab.inspection import draw_training_images

        draw_training_images(arguments.what, arguments.config_dir, arguments.output or "augmented.png")
    elif arguments.plot:
        from cnnlab.runs.features import draw_features

        for path in draw_features(arguments.what, arguments.image):
            print(path)
    else:
        from cnnlab.inspection import inspect

        if arguments.image:
            raise ConfigError("--image: is for --plot, which draws what a run's network makes of it")
        inspect(arguments.what, arguments.config_dir, as_json=arguments.json)
    return 0


def add_find_lr(commands: Commands) -> None:
    parser = commands.add_parser("find-lr", help="suggest a learning rate: some sweeps, drawn; leaves no run")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train")
    parser.add_argument("--output", default="find_lr.png", metavar="FILE", help="picture; default: find_lr.png")
    parser.add_argument("--from", dest="lowest", type=float, default=1e-5, metavar="LR", help="default: 1e-5")
    parser.add_argument("--to", dest="highest", type=float, default=10.0, metavar="LR", help="default: 10")
    add_config_dir(parser)
    parser.set_defaults(execute=run_find_lr)


def run_find_lr(arguments: argparse.Namespace) -> int:
    from cnnlab.find_lr import find_lr

    find_lr(arguments.overrides, arguments.config_dir, arguments.output, arguments.lowest, arguments.highest)
    return 0


# --- Sweeps -------------------------------------------------------------------------------------------


def add_sweep(commands: Commands) -> None:
    parser = commands.add_parser(
        "sweep",
        help="a sweep that cnnlab train -m began: how it stands, go on, stop",
        description="resume finishes what is unfinished, from checkpoints: the results of a grid or of a random search "
        "are the same bit for bit. A YAML that has changed since changes nothing. "
        "sweep.trials=40 makes a search longer.",
    )
    parser.add_argument("action", choices=("status", "resume", "stop"))
    parser.add_argument("sweep", metavar="SWEEP", help="directory such as outputs/sweeps/DATE_TIME")
    parser.add_argument("overrides", nargs="*", metavar="sweep.KEY=VALUE", help="of resume, such as sweep.trials=80")
    parser.set_defaults(execute=run_sweep)


def run_sweep(arguments: argparse.Namespace) -> int:
    path, overrides = arguments.sweep, arguments.overrides
    if arguments.action == "resume":
        from cnnlab.sweeps.conductor import resume_sweep

        with lasting_output():
            return resume_sweep(path, overrides)
    if overrides:
        raise ConfigError(f"{' '.join(overrides)}: is for cnnlab sweep resume; expected nothing")
    if arguments.action == "status":
        from cnnlab.sweeps.answers import describe_status

        print(describe_status(path))
    else:
        from cnnlab.sweeps.directory import SweepDirectory

        SweepDirectory.open(path).stop.touch()
        print(f"asked to stop; go on with: cnnlab sweep resume {path}")
    return 0


def add_compare(commands: Commands) -> None:
    parser = commands.add_parser("compare", help="sweeps and runs in one table; whether a difference is chance")
    parser.add_argument("paths", nargs="+", metavar="SWEEP|RUN")
    parser.add_argument("--by", metavar="KEY", help="a row for each value of a key, such as optimizer.lr")
    parser.add_argument("--metric", metavar="COLUMN", help="default: what the runs select by")
    shown = parser.add_mutually_exclusive_group()
    parser.add_argument("--tag", action="append", default=[], metavar="TAG", help="only runs that have it")
    shown.add_argument("--csv", dest="form", action="store_const", const="csv", default="text", help="for tables")
    shown.add_argument("--json", dest="form", action="store_const", const="json", help="for programs")
    shown.add_argument(
        "--test", action="store_true", help="two runs on the same test images: McNemar's test, paired bootstrap"
    )
    parser.set_defaults(execute=run_compare)


def run_compare(arguments: argparse.Namespace) -> int:
    from cnnlab.sweeps.compare import compare, compare_pair

    if not arguments.test:
        compare(arguments.paths, arguments.by, arguments.metric, arguments.form, arguments.tag)
    elif len(arguments.paths) == 2:
        print(compare_pair(*arguments.paths))
    else:
        raise ConfigError(f"--test: {len(arguments.paths)} runs were given; expected two")
    return 0


# --- The machine, and what there is -------------------------------------------------------------------


def add_bench(commands: Commands) -> None:
    parser = commands.add_parser("bench", help="the machine's peak: matrix products and copies, in some seconds")
    parser.add_argument("--device", default="auto", metavar="NAME", help="as engine.device; default: auto")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(execute=run_bench)


def run_bench(arguments: argparse.Namespace) -> int:
    from cnnlab.bench import bench

    bench(arguments.device, as_json=arguments.json)
    return 0


def add_list(commands: Commands) -> None:
    parser = commands.add_parser("list", help="what can be chosen")
    parser.add_argument("what", nargs="?", metavar="WHAT", help=f"one of {', '.join(LISTS)}; default: all")
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE", help="your own package"
    )
    parser.set_defaults(execute=run_list)


def run_list(arguments: argparse.Namespace) -> int:
    from cnnlab.listing import print_lists

    if arguments.what not in (None, *LISTS):
        raise ConfigError(f"list: no '{arguments.what}'; {suggest(arguments.what, LISTS)}")
    print_lists([arguments.what] if arguments.what else LISTS, arguments.imports)
    return 0


# --- All ----------------------------------------------------------------------------------------------


def add_commands(commands: Commands) -> None:
    """In the order in which the help lists them."""
    commands.add_parser("train", help="train a network: cnnlab train [KEY=VALUE ...]", add_help=False)
    for add in (
        add_prepare,
        add_resume,
        add_evaluate,
        add_predict,
        add_submit_check,
        add_calibrate,
        add_report,
        add_audit,
        add_watch,
        add_export,
        add_reproduce,
        add_inspect,
        add_find_lr,
        add_sweep,
        add_compare,
        add_bench,
    ):
        add(commands)
    commands.add_parser("lesson", help="the course notes' computations: cnnlab lesson [NAME]", add_help=False)
    add_list(commands)
