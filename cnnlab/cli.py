"""`cnnlab <command>`: the commands and their arguments. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cnnlab import __version__
from cnnlab.distributed import run_together, share, started_first
from cnnlab.errors import CnnlabError, ConfigError, DataError, Interrupted
from cnnlab.signature import suggest

LISTS = ("models", "datasets", "augments", "optimizers", "schedules", "losses", "averages", "inits", "experiments")

EXAMPLES = """\
examples:
  cnnlab train                                        a CNN on the embedded digits
  cnnlab train experiment=mnist_cnn                   a whole recipe
  cnnlab train model=lenet optimizer.lr=0.01          another network, at another rate
  cnnlab train -m optimizer.lr=0.003,0.01             a sweep: one run for each value
  cnnlab compare outputs/sweeps/DATE_TIME             its runs in a table
  cnnlab train --help                                 every key that can be set
  cnnlab inspect model=resnet18 dataset=cifar10       its layers, shapes, parameters, work and memory
  cnnlab prepare dataset=dog_breeds dataset.root=DIR  every file checked, before training
  cnnlab resume outputs/NAME/DATE_TIME epochs=20

exit codes:
  0 success                    5 checkpoint
  1 reproduce: differences     6 disk or permissions
  2 configuration              7 another process of the run ended
  3 data                       8 memory
  4 the loss is no number      9 trials of a sweep failed
  130 Ctrl-C, 143 SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or that of the error (see `errors.py`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        from cnnlab.train import main as train

        return train(arguments[1:])
    if arguments[:1] == ["resume"]:
        return run_together(lambda: run(arguments), follow)
    return run(arguments) if started_first() else 0


def follow() -> None:
    """What processes beside the main one do: resume what it has been given."""
    from cnnlab.runs.start import resume

    resume(*share(("", [])))


def run(arguments: list[str]) -> int:
    """Run any command but `train`; a mistake is told, and its exit code returned. Without one the help is shown."""
    try:
        parser = build_parser()
        if not arguments:
            parser.print_help()
            return 0
        require_command(arguments[0], parser)
        if arguments[:1] == ["lesson"]:
            from cnnlab.lessons.command import run as run_lesson

            return run_lesson(arguments[1:])
        return run_command(parser.parse_args(arguments))
    except (CnnlabError, Interrupted) as error:
        print(f"cnnlab: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `cnnlab list | head`
        sys.stderr.close()
        return 0


def require_command(name: str, parser: argparse.ArgumentParser) -> None:
    """Raises ConfigError with the nearest names for a command that there is not."""
    (commands,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not name.startswith("-") and name not in commands.choices:
        raise ConfigError(f"no command '{name}'; {suggest(name, commands.choices)}")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cnnlab",
        description="Convolutional-network experiments from configuration.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cnnlab {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("train", help="train a network: cnnlab train [KEY=VALUE ...]", add_help=False)

    prepare = commands.add_parser(
        "prepare",
        help="check every file of a dataset; exit 3 if something is wrong",
        description="Opens every file and lists those that are empty or broken, the same picture under two labels, in "
        "two parts or twice, beside the parts, classes and sizes that there are, and packs the pictures as training "
        "would. With --layout folders the split that training would use becomes a tree: train, valid and, of both, "
        "train_valid with a folder for each class, and test/unknown. Its files are links where that is possible, and "
        "dataset=image_folder reads it.",
    )
    prepare.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train")
    prepare.add_argument("--layout", choices=("folders",), help="also write it as a tree with a folder for each class")
    prepare.add_argument("--output", metavar="DIR", help="with --layout: the folder to write")
    prepare.add_argument(
        "--strict", action="store_true", help="exit 3 also for pictures to predict that are there twice"
    )
    prepare.add_argument("--verify", action="store_true", help="also hold packed pictures against their checksums")
    prepare.add_argument("--config-dir", action="append", default=[], metavar="FOLDER", help="your own conf")

    resume = commands.add_parser("resume", help="go on with a run that was stopped, or prolong one")
    resume.add_argument("run", help="run directory")
    resume.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as epochs=20 or engine.device=cpu")

    evaluate = commands.add_parser("evaluate", help="loss and accuracy of a trained run, or of weights from anywhere")
    evaluate.add_argument(
        "what",
        nargs="+",
        metavar="RUN|KEY=VALUE",
        help="run directory, and changes such as dataset.root=FOLDER; or as for train, with model.weights=FILE, whose "
        "outputs are taken in the order of the dataset's classes",
    )
    evaluate.add_argument("--config-dir", "-cd", action="append", default=[], metavar="FOLDER", help="as for train")
    evaluate.add_argument("--part", choices=("train", "valid", "test"), help="default: test, or valid without one")
    evaluate.add_argument("--checkpoint", choices=("best", "last"), default="best", help="default: best")
    evaluate.add_argument("--json", action="store_true", help="for programs")

    predict = commands.add_parser(
        "predict",
        help="what trained runs say of images: a table, and a submission",
        description="predictions.csv has the class and the probability of each class for every image, submission.csv "
        "the columns, ids and order that the competition wants; whatever does not fit is told, all of it at once, and "
        "nothing is written. Of each image no more than its name and its scores stays in memory, and a prediction that "
        "was stopped, however it was stopped, goes on where it was when the same command is given again.",
    )
    predict.add_argument("run", nargs="+", help="run directory, or one with folds; several predict together")
    predict.add_argument(
        "--tta",
        choices=("none", "flip", "flip_translate", "multicrop"),
        default="none",
        help="average over mirror images, over moves by a pixel too, or over the corners and the centre, each mirrored",
    )
    predict.add_argument(
        "--average", choices=("probabilities", "logits"), default="probabilities", help="logits: before the softmax"
    )
    predict.add_argument(
        "--images", metavar="FOLDER_OR_FILE", help="your own (default: those a competition asks about)"
    )
    predict.add_argument("--part", choices=("train", "valid", "test"), help="labelled images of the dataset instead")
    predict.add_argument(
        "--output",
        metavar="FILE",
        help="of the submission, or of the table where there is none; nothing else is written",
    )
    predict.add_argument(
        "--on-bad-image",
        choices=("error", "skip"),
        help="what cannot be decoded (default: the run's dataset.on_bad_image)",
    )
    predict.add_argument(
        "--format",
        choices=("class", "number", "probability", "probabilities"),
        help="of the submission (default: the dataset's)",
    )

    predict.add_argument(
        "--calibrated", action="store_true", help="with the temperature that `cnnlab calibrate` found for each run"
    )

    predict.add_argument(
        "--weights", metavar="W,W…|fit", help="of the runs, or fitted to images that were held out (default: equal)"
    )
    predict.add_argument(
        "--clip", type=float, default=0.0, metavar="P", help="keep a submission's probabilities so far from 0 and 1"
    )
    predict.add_argument(
        "--threshold",
        metavar="P|fit",
        help="of the second class's probability, or of each label's (P,P…), or fitted (default: the likeliest, a half)",
    )

    check = commands.add_parser("submit-check", help="any submission by the competition's rules; exit 3 if it is none")
    check.add_argument("file", help="CSV file")
    check.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train, such as dataset=dog_breeds")
    check.add_argument(
        "--format", choices=("class", "number", "probability", "probabilities"), help="default: the dataset's"
    )
    check.add_argument("--config-dir", action="append", default=[], metavar="FOLDER", help="your own conf")

    calibrate = commands.add_parser(
        "calibrate", help="fit a temperature to a run's probabilities, on validation images"
    )
    calibrate.add_argument("run", help="run directory")
    calibrate.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as dataset.root=FOLDER")

    report = commands.add_parser("report", help="one HTML page: the whole story of a run, a sweep, or a folder")
    report.add_argument("run", help="run directory, sweep, or a folder of them such as outputs")
    report.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of a run: such as dataset.root=FOLDER")
    report.add_argument("--output", metavar="FILE", help="default: report.html there")
    report.add_argument("--tag", action="append", default=[], metavar="TAG", help="of a folder: only runs that have it")
    report.add_argument("--open", action="store_true", help="show it in the browser")

    audit = commands.add_parser("audit", help="labels that look wrong, near-twins within and across parts")
    audit.add_argument("run", help="run directory, or one with folds")
    audit.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as dataset.root=FOLDER")

    watch = commands.add_parser("watch", help="the running curves as text")
    watch.add_argument("run", help="run directory, or a folder of them such as outputs")
    watch.add_argument("--every", type=float, default=2.0, metavar="SECONDS", help="default: 2")
    watch.add_argument("--once", action="store_true", help="draw once and end")

    export = commands.add_parser("export", help="a run's network as a file for other programs, with a model card")
    export.add_argument("run", help="run directory")
    export.add_argument("--format", choices=("safetensors", "onnx", "torch_export"), required=True)
    export.add_argument("--output", metavar="FOLDER", help="default: export/FORMAT in the run directory")

    reproduce = commands.add_parser(
        "reproduce", help="run a saved configuration again and compare; exit 1 if it differs"
    )
    reproduce.add_argument("run", help="run directory")
    reproduce.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as dataset.root=FOLDER")

    inspect = commands.add_parser(
        "inspect", help="a network's layers, shapes, parameters, work and memory; its pictures; a schedule's curve"
    )
    inspect.add_argument(
        "what", nargs="*", metavar="KEY=VALUE", help="as for train; or a run directory, and changes to it"
    )
    inspect.add_argument("--config-dir", "-cd", action="append", default=[], metavar="FOLDER", help="as for train")
    shown = inspect.add_mutually_exclusive_group()
    shown.add_argument("--json", action="store_true", help="for programs")
    shown.add_argument(
        "--plot",
        action="store_true",
        help="draw instead: of a run its kernels and feature maps; with schedule=NAME[,NAME ...] the learning rate; "
        "else training images as the network would see them",
    )
    inspect.add_argument("--image", metavar="FILE", help="of a run: the picture to show it (default: a test image)")
    inspect.add_argument(
        "--examples", type=int, metavar="N", help="of a schedule: N images to train on, instead of reading the dataset"
    )
    inspect.add_argument(
        "--output", metavar="FILE", help="of a schedule or of images: picture; default: schedule.png, augmented.png"
    )

    find_lr = commands.add_parser("find-lr", help="suggest a learning rate: some sweeps, drawn; leaves no run")
    find_lr.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train")
    find_lr.add_argument("--output", default="find_lr.png", metavar="FILE", help="picture; default: find_lr.png")
    find_lr.add_argument("--from", dest="lowest", type=float, default=1e-5, metavar="LR", help="default: 1e-5")
    find_lr.add_argument("--to", dest="highest", type=float, default=10.0, metavar="LR", help="default: 10")
    find_lr.add_argument("--config-dir", action="append", default=[], metavar="FOLDER", help="your own conf")

    for command in (resume, evaluate, predict, calibrate, report, audit, export, reproduce, inspect):
        command.add_argument(
            "--trust",
            action="store_true",
            help="let the run import the modules that it names: code, whose contents are "
            "not compared with before, so read it first; remembered for this directory and these files",
        )

    sweep = commands.add_parser(
        "sweep",
        help="a sweep that cnnlab train -m began: how it stands, go on, stop",
        description="resume finishes what is unfinished, from checkpoints: the results of a grid or of a random search "
        "are the same bit for bit. A YAML that has changed since changes nothing. "
        "sweep.trials=40 makes a search longer.",
    )
    sweep.add_argument("deed", choices=("status", "resume", "stop"))
    sweep.add_argument("sweep", metavar="SWEEP", help="directory such as outputs/sweeps/DATE_TIME")
    sweep.add_argument("overrides", nargs="*", metavar="sweep.KEY=VALUE", help="of resume, such as sweep.trials=80")

    compare = commands.add_parser("compare", help="sweeps and runs in one table; whether a difference is chance")
    compare.add_argument("paths", nargs="+", metavar="SWEEP|RUN")
    compare.add_argument("--by", metavar="KEY", help="a row for each value of a key, such as optimizer.lr")
    compare.add_argument("--metric", metavar="COLUMN", help="default: what the runs select by")
    shown = compare.add_mutually_exclusive_group()
    compare.add_argument("--tag", action="append", default=[], metavar="TAG", help="only runs that have it")
    shown.add_argument("--csv", dest="form", action="store_const", const="csv", default="text", help="for tables")
    shown.add_argument("--json", dest="form", action="store_const", const="json", help="for programs")
    shown.add_argument(
        "--test", action="store_true", help="two runs on the same test images: McNemar's test, paired bootstrap"
    )

    bench = commands.add_parser("bench", help="the machine's peak: matrix products and copies, in some seconds")
    bench.add_argument("--device", default="auto", metavar="NAME", help="as engine.device; default: auto")
    bench.add_argument("--json", action="store_true", help="for programs")

    commands.add_parser("lesson", help="the course notes' computations: cnnlab lesson [NAME]", add_help=False)

    listing = commands.add_parser("list", help="what can be chosen")
    listing.add_argument("what", nargs="?", metavar="WHAT", help=f"one of {', '.join(LISTS)}; default: all")
    listing.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE", help="your own package"
    )
    return parser


def run_command(arguments: argparse.Namespace) -> int:
    if getattr(arguments, "trust", False):
        from cnnlab.runs.saved import give_leave

        runs = arguments.what[:1] if "what" in arguments else arguments.run
        give_leave([runs] if isinstance(runs, str) else runs)
    if arguments.command == "prepare":
        from cnnlab.prepare import prepare

        if (arguments.layout is None) != (arguments.output is None):
            raise ConfigError("--layout, --output: expected both, such as --layout folders --output DIR, or neither")
        sound = prepare(
            arguments.overrides,
            arguments.config_dir,
            arguments.output,
            verify=arguments.verify,
            strict=arguments.strict,
        )
        return 0 if sound else DataError.exit_code
    if arguments.command == "resume":
        from cnnlab.runs.start import resume

        resume(*share((arguments.run, arguments.overrides)))
    elif arguments.command == "evaluate":
        from cnnlab.composition import compose
        from cnnlab.runs.evaluation import evaluate_run, evaluate_weights, print_evaluation
        from cnnlab.runs.saved import split_run

        run, overrides = split_run(arguments.what)
        if run is not None:
            evaluation = evaluate_run(str(run), arguments.part, arguments.checkpoint, overrides)
        else:
            evaluation = evaluate_weights(compose(overrides, arguments.config_dir), arguments.part)
        print_evaluation(evaluation, as_json=arguments.json)
    elif arguments.command == "predict":
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
    elif arguments.command == "submit-check":
        from cnnlab.submit_check import check_submission

        sound = check_submission(arguments.file, arguments.overrides, arguments.config_dir, arguments.format)
        return 0 if sound else DataError.exit_code
    elif arguments.command == "calibrate":
        from cnnlab.runs.calibration import calibrate, print_calibration

        print_calibration(calibrate(arguments.run, arguments.overrides))
    elif arguments.command == "report":
        from cnnlab.reports.command import report

        print(report(arguments.run, arguments.overrides, arguments.output, arguments.open, arguments.tag))
    elif arguments.command == "audit":
        from cnnlab.reports.audit_page import audit

        print("\n".join(str(path) for path in audit(arguments.run, arguments.overrides)))
    elif arguments.command == "watch":
        from cnnlab.runs.watch import watch

        if not arguments.every > 0:
            raise ConfigError(f"--every {arguments.every:g}: expected more than 0 seconds")
        watch(arguments.run, arguments.every, arguments.once)
    elif arguments.command == "export":
        from cnnlab.runs.export import export

        print(export(arguments.run, arguments.format, arguments.output))
    elif arguments.command == "reproduce":
        from cnnlab.runs.reproduction import reproduce

        return 0 if reproduce(arguments.run, arguments.overrides) else 1
    elif arguments.command == "inspect":
        inspect(arguments)
    elif arguments.command == "find-lr":
        from cnnlab.find_lr import find_lr

        find_lr(arguments.overrides, arguments.config_dir, arguments.output, arguments.lowest, arguments.highest)
    elif arguments.command == "sweep":
        return steer_sweep(arguments.deed, arguments.sweep, arguments.overrides)
    elif arguments.command == "compare":
        from cnnlab.sweeps.compare import compare, compare_pair

        if arguments.test:
            if len(arguments.paths) != 2:
                raise ConfigError(f"--test: {len(arguments.paths)} runs were given; expected two")
            print(compare_pair(*arguments.paths))
        else:
            compare(arguments.paths, arguments.by, arguments.metric, arguments.form, arguments.tag)
    elif arguments.command == "bench":
        from cnnlab.bench import bench

        bench(arguments.device, as_json=arguments.json)
    elif arguments.command == "list":
        from cnnlab.listing import print_lists

        if arguments.what not in (None, *LISTS):
            raise ConfigError(f"list: no '{arguments.what}'; {suggest(arguments.what, LISTS)}")
        print_lists([arguments.what] if arguments.what else LISTS, arguments.imports)
    return 0


def steer_sweep(deed: str, path: str, overrides: Sequence[str]) -> int:
    """What `cnnlab sweep` does; returns the exit code."""
    if deed == "resume":
        from cnnlab.sweeps.conductor import resume_sweep

        return resume_sweep(path, overrides)
    if overrides:
        raise ConfigError(f"{' '.join(overrides)}: is for cnnlab sweep resume; expected nothing")
    if deed == "status":
        from cnnlab.sweeps.answers import describe_status

        print(describe_status(path))
    else:
        from cnnlab.sweeps.directory import SweepDirectory

        SweepDirectory.open(path).stop.touch()
        print(f"asked to stop; go on with: cnnlab sweep resume {path}")
    return 0


def inspect(arguments: argparse.Namespace) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
