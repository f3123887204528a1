"""CIFAR-10 to an accuracy: cnnlab's recipe, the notes', and the published one written plainly; seconds and accuracy.

    python -m tests.benchmarks.cifar --root FOLDER [--seeds N] [--plain-epochs N] [--notes-epochs N]

FOLDER holds cifar-10-batches-py or -bin; JPEG copies cost some points. The plain recipe's 9.9 epochs and the notes' 20
can be extrapolated from `--plain-epochs` and `--notes-epochs` whole ones (0: left out); the accuracy is then that after
these. `--recipe cifar10_fast_cpu` is cnnlab's for a CPU. `--epochs` and `--widths` make both fast recipes shorter
and smaller. `--set KEY=VALUE` goes to cnnlab's recipe, such as augment.alternating_flip=null, for what an ingredient is
worth. Seconds are those of training and of the test images, cnnlab's with checkpoints and metrics. Each way is a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnnlab.data.cifar import cifar10
from cnnlab.device import choose_device, name_device
from tests.benchmarks.environment import leave_as_found

NOTES_EPOCHS, PLAIN_EPOCHS = 20, 9.9
BATCH_SIZE, LR, MOMENTUM, DECAY, BIAS_FACTOR, SMOOTHING = 1024, 1.5, 0.85, 0.0013, 64, 0.2
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Result:
    seconds: float
    accuracy: float
    images_per_second: float
    share_of_peak: float | None = None


# --- The published recipe, plainly --------------------------------------------------------------------


class Plain(nn.Module):
    """Convolution, pooling, normalisation and GELU as in section 3.1 of the paper."""

    def __init__(self, widths: list[int]):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 24, 2), nn.GELU()]
        for before, after in zip([24, *widths], widths, strict=False):
            for number, inner in enumerate((before, after)):
                conv = nn.Conv2d(inner, after, 3, padding=1, bias=False)
                nn.init.dirac_(conv.weight.data[:inner])
                norm = nn.BatchNorm2d(after, eps=1e-12, momentum=0.4)
                norm.weight.requires_grad_(False)
                pool = nn.MaxPool2d(2) if number == 0 else nn.Identity()
                layers += [conv, pool, norm, nn.GELU()]
        self.features = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.head = nn.Linear(widths[-1], 10, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images)) / 9


def read_images(root: str, part: str, device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised float32 (N, 3, 32, 32) in channels_last memory, and labels."""
    read = cifar10(root=root, download=False).read(part)
    images = (read.store.tensor.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return images.permute(0, 3, 1, 2).to(device), read.labels.to(device)


def whiten(conv: nn.Conv2d, images: Tensor) -> None:
    patches = F.unfold(images[:5000].contiguous(), 2).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances + 5e-4).sqrt()).T.reshape(-1, 3, 2, 2).flip(0)
    conv.weight.data.copy_(torch.cat([filters, -filters]))
    conv.bias.data.zero_()
    conv.weight.requires_grad_(False)


def augmented_batches(images: Tensor, labels: Tensor, mirrored: Tensor, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    padded = F.pad(images, (2, 2, 2, 2), "reflect")
    for chosen in torch.randperm(len(images), device=images.device).split(BATCH_SIZE):
        batch = torch.empty_like(images[: len(chosen)])
        moves = torch.randint(0, 25, (len(chosen),), device=images.device)
        for move in range(25):
            here, (top, left) = moves == move, divmod(move, 5)
            batch[here] = padded[chosen[here], :, top : top + 32, left : left + 32]
        flips = mirrored[chosen] ^ bool(epoch % 2)
        yield torch.where(flips.view(-1, 1, 1, 1), batch.flip(3), batch), labels[chosen]


def train_plainly(root: str, epochs: float, widths: list[int], seed: int, precision: str) -> Result:
    torch.manual_seed(seed)
    device = choose_device("auto")
    images, labels = read_images(root, "train", device)
    begin = time.perf_counter()
    model = Plain(widths)
    whiten(model.features[0], images.cpu())
    model = model.to(device, memory_format=torch.channels_last)
    steps_per_epoch = -(-len(images) // BATCH_SIZE)
    num_steps = max(1, round(epochs * steps_per_epoch))
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in learning if p.dim() == 1], "lr": BIAS_FACTOR * LR},
    ]
    optimizer = torch.optim.SGD(groups, lr=LR, momentum=MOMENTUM, nesterov=True)
    peak = 0.23 * num_steps

    def triangle(step: int) -> float:
        return 0.2 + 0.8 * step / peak if step < peak else 1 - 0.93 * (step - peak) / (num_steps - peak)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, triangle)
    slow = {name: value.clone() for name, value in model.state_dict().items()}
    mirrored = torch.rand(len(images), device=device) < 0.5
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    step = 0
    while step < num_steps:
        for batch, targets in augmented_batches(images, labels, mirrored, step // steps_per_epoch):
            with autocast:
                outputs = model(batch)
            loss = F.cross_entropy(outputs.float(), targets, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if step % 5 == 0:
                keep = 0.95**5 * (step / num_steps) ** 3
                for name, value in model.state_dict().items():
                    slow[name] = value.lerp(slow[name], keep) if value.is_floating_point() else value.clone()
                model.load_state_dict(slow)
            if step == num_steps:
                break
    model.load_state_dict(slow)
    images_per_second = num_steps * BATCH_SIZE / (time.perf_counter() - begin)
    model.eval()
    images, labels = read_images(root, "test", device)
    num_right = 0
    with torch.inference_mode(), autocast:
        for some, targets in zip(images.split(500), labels.split(500), strict=True):
            padded = F.pad(some, (1, 1, 1, 1), "reflect")
            views = [some, padded[:, :, :32, :32], padded[:, :, 2:, 2:]]
            outputs = sum(model(view).float() + model(view.flip(3)).float() for view in views)
            num_right += (outputs.argmax(1) == targets).sum().item()
    return Result(time.perf_counter() - begin, num_right / len(labels), images_per_second)


# --- cnnlab ---------------------------------------------------------------------------------------------


def train_by_cnnlab(overrides: list[str]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cnnlab.cli", "train", *overrides, f"output_dir={folder}", "plots=off"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (path,) = Path(folder).glob("*/*/summary.json")
        summary = json.loads(path.read_text())
        (metrics,) = Path(folder).glob("*/*/metrics.csv")
        header, *rows = (line.split(",") for line in metrics.read_text().splitlines())
    speeds = [float(row[header.index("images_per_second")]) for row in rows]
    share = (summary.get("speed") or {}).get("share_of_peak")
    seconds = summary["totals"]["seconds"] + summary["test_seconds"]
    return Result(seconds, summary["test"]["accuracy"], statistics.mean(speeds), share)


def print_row(name: str, command: str, results: list[Result]) -> None:
    accuracies = [100 * result.accuracy for result in results]
    deviation = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    seconds = statistics.mean(result.seconds for result in results)
    speed = statistics.mean(result.images_per_second for result in results)
    shares = [result.share_of_peak for result in results if result.share_of_peak is not None]
    share = f"{100 * statistics.mean(shares):.0f} % of the peak" if shares else ""
    accuracy = f"{statistics.mean(accuracies):.2f}{deviation} %"
    print(f"{name:12} {accuracy:>16} {seconds:9.1f} s {speed:9,.0f} images/s {share}\n    {command}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of cifar-10-batches-py or -bin")
    parser.add_argument("--recipe", choices=("cifar10_fast", "cifar10_fast_cpu"), default="cifar10_fast")
    parser.add_argument("--epochs", type=float, help="of both fast recipes; default: their own")
    parser.add_argument("--widths", type=int, nargs=3, default=[64, 256, 256])
    parser.add_argument("--plain-epochs", type=float, default=PLAIN_EPOCHS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--notes-epochs", type=int, default=1)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32", help="of both fast recipes")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="more for cnnlab's recipe")
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)  # the seed that a process of its own is asked for
    arguments = parser.parse_args()
    root, widths = str(Path(arguments.root).absolute()), ",".join(map(str, arguments.widths))
    plain_epochs = arguments.epochs or arguments.plain_epochs
    if arguments.plain is not None:
        found = train_plainly(root, plain_epochs, arguments.widths, arguments.plain, arguments.precision)
        print(json.dumps(vars(found)))
        return
    print(f"{name_device(choose_device('auto'))}, {torch.get_num_threads()} threads, seeds 0 … {arguments.seeds - 1}")
    given = [f"experiment={arguments.recipe}", f"model.widths=[{widths}]", *arguments.set]
    given += [f"epochs={arguments.epochs}"] if arguments.epochs else []
    given.append(f"engine.precision={arguments.precision}")
    ours = [train_by_cnnlab([*given, f"dataset.root={root}", f"seed={seed}"]) for seed in range(arguments.seeds)]
    print_row("cnnlab", f"cnnlab train {' '.join(given)}", ours)
    if plain_epochs:
        plain = []
        for seed in range(arguments.seeds):
            command = [sys.executable, "-m", "tests.benchmarks.cifar", *sys.argv[1:], "--plain", str(seed)]
            done = subprocess.run(command, env=leave_as_found(), check=True, stdout=subprocess.PIPE, text=True)
            plain.append(Result(**json.loads(done.stdout.splitlines()[-1])))
        print_row("plain recipe", "the published recipe, written plainly in this file", plain)
        if plain_epochs < (arguments.epochs or PLAIN_EPOCHS):
            print_extrapolated(plain, plain_epochs, PLAIN_EPOCHS)
    if arguments.notes_epochs:
        notes = ["experiment=cifar10_resnet18", "dataset=cifar10", f"epochs={arguments.notes_epochs}"]
        found = train_by_cnnlab([*notes, f"dataset.root={root}"])
        print_row("the notes'", f"cnnlab train {' '.join(notes)}", [found])
        print_extrapolated([found], arguments.notes_epochs, NOTES_EPOCHS)


def print_extrapolated(results: list[Result], num_epochs: float, all_epochs: float) -> None:
    seconds = statistics.mean(result.seconds for result in results) * all_epochs / num_epochs
    print(f"    all {all_epochs} epochs, extrapolated from {num_epochs:g}: {seconds:.1f} s")


if __name__ == "__main__":
    main()
