"""`cnnlab <command>`: from the command line to a command, and to its exit code. `commands.py` has the commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from cnnlab import __version__
from cnnlab.commands import add_commands, trust
from cnnlab.distributed import run_together, share, started_first
from cnnlab.errors import CnnlabError, ConfigError, Interrupted
from cnnlab.signature import suggest
from cnnlab.streams import open_closed_streams

EXAMPLES = """\
examples:
  cnnlab train                                        a CNN on the embedded digits
  cnnlab train experiment=mnist_cnn                   a whole recipe
  cnnlab train model=lenet optimizer.lr=0.01          another network, at another rate
  cnnlab train -m optimizer.lr=0.003,0.01             a sweep: one run for each value
  cnnlab compare outputs/sweeps/DATE_TIME             its runs in a table
  cnnlab train --help                                 every key that can be set
  cnnlab inspect model=resnet18 dataset=cifar10       its layers, shapes, parameters, multiply-adds, memory
  cnnlab prepare dataset=dog_breeds dataset.root=DIR  every file checked, before training
  cnnlab resume outputs/NAME/DATE_TIME epochs=20

exit codes:
  0 success                    5 checkpoint
  1 reproduce: differences     6 disk or permissions
  2 configuration              7 another process of the run ended
  3 data                       8 memory
  4 the loss is not finite     9 trials of a sweep failed
  130 Ctrl-C, 143 SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, or that of the error (see `errors.py`)."""
    open_closed_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--"]:
        del arguments[0]
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
    """Run any command but `train`; a mistake is reported, and its exit code returned. Without one the help is shown."""
    try:
        parser = build_parser()
        if not arguments:
            parser.print_help()
            return 0
        require_command(arguments[0], parser)
        if arguments[:1] == ["lesson"]:
            from cnnlab.lessons.command import run as run_lesson

            return run_lesson(arguments[1:])
        parsed = parser.parse_args(arguments)
        trust(parsed)
        return parsed.execute(parsed)
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
    add_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
