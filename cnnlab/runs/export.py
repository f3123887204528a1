"""`cnnlab export`: a trained network as a file for other programs, with a model card and an example that uses it.

What is exported reads float32 images (N, C, H, W), normalised as the card says, and gives logits; it is loaded again
and held against the run's network before anything is left in the folder.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

import cnnlab
from cnnlab.data import Facts
from cnnlab.errors import ConfigError, StorageError, printable
from cnnlab.experiment.network import count_learning
from cnnlab.runs.directory import RunDirectory
from cnnlab.runs.trained import Trained, load_trained

Format = Literal["safetensors", "onnx", "torch_export"]
FILES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch_export": "model.pt2"}
TOLERANCE = 1e-4  # of a logit, beside the largest of them
NUM_CHECKED = 5  # images that the check looks at: another number than the export saw


def export(path: str, kind: Format, output: str | None = None) -> Path:
    """Write the network of a run in a folder of its own, RUN/export/FORMAT unless given; returns the folder.

    Raises ConfigError for a format whose packages are not installed, for a network that it cannot hold, and for a
    folder that is there and was not made by this.
    """
    run = RunDirectory.open(path)
    folder = Path(output) if output else run.path / "export" / kind
    if folder.exists() and not (folder / FILES[kind]).is_file():
        raise ConfigError(f"--output {folder}: is there already, and holds no {FILES[kind]}; expected a new folder")
    trained = load_trained(run, overrides=["engine.device=cpu"])
    model = trained.network.model.to(memory_format=torch.contiguous_format).eval()
    aside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(".partial", f".{folder.name}-", folder.parent))
        aside.chmod(0o755)
        size = trained.facts.image_size
        noise = torch.randn(NUM_CHECKED, trained.facts.channels, size, size, generator=torch.Generator().manual_seed(0))
        again = WRITERS[kind](model, noise[:2], aside / FILES[kind])
        require_same(model, again, noise, kind)
        (aside / "README.md").write_text(write_card(trained, kind), encoding="utf-8")
        (aside / "example.py").write_text(write_example(trained, kind), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error})") from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def require_same(model: nn.Module, again: Callable[[Tensor], Tensor], images: Tensor, kind: str) -> None:
    """Raises ConfigError if what was exported gives other logits than the network."""
    with torch.inference_mode():
        expected, found = model(images), again(images)
    error = (found - expected).abs().max().item()
    if not error <= TOLERANCE * max(1.0, expected.abs().max().item()):
        raise ConfigError(
            f"--format {kind}: what was written gives other logits than the run's network, by {error:.2g}; expected "
            "the same. Try another format"
        )


# --- Formats ------------------------------------------------------------------------------------------

# Each writes a file and returns the network that is read from it again.


def write_safetensors(model: nn.Module, images: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    try:
        from safetensors.torch import load_file, save_file
    except ImportError:
        raise explain_missing("safetensors", "safetensors") from None
    # What two layers share is written twice: the format has no sharing.
    weights = {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt", "made_by": f"cnnlab {cnnlab.__version__}"})
    again = load_file(path)
    return lambda some: torch.func.functional_call(model, again, (some,), tie_weights=False)


def write_onnx(model: nn.Module, images: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch's exporter needs it)
    except ImportError:
        raise explain_missing("onnx", "onnx, onnxscript and onnxruntime") from None
    try:
        torch.onnx.export(
            model, (images,), path, input_names=["images"], output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    except Exception as error:  # of many kinds
        raise explain_refusal("onnx", error) from error
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda some: torch.from_numpy(session.run(None, {"images": some.numpy()})[0])


def write_torch_export(model: nn.Module, images: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    try:
        program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # of many kinds
        raise explain_refusal("torch_export", error) from error
    torch.export.save(program, path)
    return torch.export.load(path).module()


WRITERS = {"safetensors": write_safetensors, "onnx": write_onnx, "torch_export": write_torch_export}


def explain_missing(kind: str, packages: str) -> ConfigError:
    return ConfigError(f'--format {kind}: needs {packages}; expected: pip install "cnnlab[export]"')


def explain_refusal(kind: str, error: Exception) -> ConfigError:
    (line, *_) = str(error).strip().splitlines() or [""]
    return ConfigError(f"--format {kind}: this network cannot be written so ({type(error).__name__}: {line})")


# --- What lies beside ---------------------------------------------------------------------------------


def write_card(trained: Trained, kind: str) -> str:
    """README.md: what the network is, what it reads, how well it does. Names stand in JSON, and so stay text."""
    run, facts, config = trained.run, trained.facts, trained.config
    summary = run.read_json(run.summary)
    best, test = summary.get("best") or {}, summary.get("test") or {}
    metrics = {name: value for name, value in best.items() if name.startswith("valid_")}
    metrics |= {f"test_{name}": value for name, value in test.items()}
    known = {name.replace("_", " "): value for name, value in metrics.items() if value is not None}
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in known.items())
    told = {
        "network": config.model.as_yaml(),
        "dataset": config.dataset.name,
        "task": facts.task.name,
        "classes": facts.classes,
        "trained_by": f"cnnlab {cnnlab.__version__}, run {'/'.join(run.path.resolve().parts[-2:])}",
    }
    listed = "\n".join(f"    {line}" for line in json.dumps(told, indent=2, default=str).splitlines())
    mean, std = list_normalisation(facts)
    return f"""\
---
license: other
library_name: {"onnxruntime" if kind == "onnx" else "pytorch"}
---

# {printable(config.model.name)}, trained on {printable(config.dataset.name)}

{listed}

**Licence:** not stated. Whoever publishes these weights says under which licence, and checks that of the data.

**Input:** float32 images (N, {facts.channels}, {facts.image_size}, {facts.image_size}), {name_colours(facts)}; the \
shorter side scaled to {facts.shorter_side} pixels, the centre cut out, values in 0…1, then (x - mean) / std with mean \
{mean} and std {std}.

**Output:** (N, {facts.num_outputs}), {OUTPUTS[facts.task.name]}.

**Size:** {count_learning(trained.network.model):,} parameters that learn.

| metric | value |
| --- | --- |
{rows}

{tell_uses(trained, kind)}
"""


def tell_uses(trained: Trained, kind: str) -> str:
    example = f"`example.py` uses `{FILES[kind]}` without cnnlab."
    if kind != "safetensors":
        return f"{example} In cnnlab: the run itself."
    if find_torchvision_name(trained) is None:
        example = f"`example.py` shows how to use `{FILES[kind]}` without cnnlab, once the network is put in."
    return f"{example} In cnnlab: `cnnlab train model.weights={FILES[kind]} …`, or the run itself."


def name_colours(facts: Facts) -> str:
    return {1: "grey", 3: "RGB"}.get(facts.channels, f"{facts.channels} channels")


def list_normalisation(facts: Facts) -> tuple[list[float], list[float]]:
    """Mean and deviation of values in 0…1, a number a channel."""
    if facts.mean is None or facts.std is None:  # pixels as they are
        return [0.0] * facts.channels, [1 / 255] * facts.channels
    return [*facts.mean] * (facts.channels // len(facts.mean)), [*facts.std] * (facts.channels // len(facts.std))


LOADING = {
    "onnx": (
        "onnxruntime",
        "session = onnxruntime.InferenceSession(HERE / {file!r})",
        'logits = session.run(None, {{"images": images}})[0][0]',
    ),
    "torch_export": (
        "torch",
        "network = torch.export.load(HERE / {file!r}).module()",
        "logits = network(torch.from_numpy(images))[0].detach().numpy()",
    ),
    "safetensors": (
        "torch",
        "network = {network}\nnetwork.load_state_dict(load_file(HERE / {file!r}))",
        "logits = network.eval()(torch.from_numpy(images))[0].detach().numpy()",
    ),
}
PROBABILITIES = {
    "multiclass": "scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()",
    "binary": "scores = 1 / (1 + np.exp(np.concatenate([logits, -logits])))",
    "multilabel": "scores = 1 / (1 + np.exp(-logits))",
    "regression": "scores = logits",
}


OUTPUTS = {
    "multiclass": "logits, a softmax of which are the probabilities of the classes",
    "binary": "the logit of the second class, a sigmoid of which is its probability",
    "multilabel": "a logit for each label, a sigmoid of which is its probability",
    "regression": "the numbers that are predicted",
}


def write_example(trained: Trained, kind: str) -> str:
    """example.py: some thirty lines that predict a picture with the file and without cnnlab."""
    facts = trained.facts
    mean, std = list_normalisation(facts)
    package, load, compute = LOADING[kind]
    imports = [f"import {package}", "from PIL import Image, ImageOps"]
    network = "None"
    if kind == "safetensors":
        imports.append("from safetensors.torch import load_file")
        name = find_torchvision_name(trained)
        network = f"torchvision.models.get_model({name!r}, num_classes={facts.num_outputs})"
        if name is None:
            network = "YOUR_NETWORK  # torchvision has none with these weights; their names and shapes are in the file"
        else:
            imports.insert(1, "import torchvision")
    lines = [
        f'"""Predict a picture with {FILES[kind]}: python example.py PICTURE"""',
        "import sys",
        "from pathlib import Path",
        "import numpy as np",
        *imports,
        "",
        "HERE = Path(__file__).parent",
        f"CLASSES = {json.dumps(facts.classes)}",
        f"SIZE, SHORTER = {facts.image_size}, {facts.shorter_side}",
        f"MEAN, STD = np.array({mean}), np.array({std})",
        load.format(file=FILES[kind], network=network),
        "picture = ImageOps.exif_transpose(Image.open(sys.argv[1]))",
        'if picture.mode.startswith("I"):  # 16 bits, of which the upper ones count',
        "    picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))",
        'if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:  # on white',
        '    picture = picture.convert("RGBA")',
        '    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)',
        f'picture = picture.convert("{"L" if facts.channels == 1 else "RGB"}")',
        "scale = SHORTER / min(picture.size)",
        "picture = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.BILINEAR)",
        "left, top = ((side - SIZE) // 2 for side in picture.size)",
        "pixels = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE))).reshape(SIZE, SIZE, -1)",
        "images = ((pixels / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)",
        compute.format(),
        PROBABILITIES[facts.task.name],
        "for index in scores.argsort()[::-1]:",
        '    print(f"{CLASSES[index]}\\t{scores[index]:.6f}")',
    ]
    return "\n".join(lines) + "\n"


def find_torchvision_name(trained: Trained) -> str | None:
    """The network of torchvision that these weights fit, if there is one."""
    from torchvision import models

    name = trained.config.model.arguments.get("arch", trained.config.model.name)
    if name not in models.list_models(models):
        return None
    with torch.device("meta"):
        theirs = models.get_model(name, num_classes=trained.facts.num_outputs).state_dict()
    own = trained.network.model.state_dict()
    fits = {key: value.shape for key, value in theirs.items()} == {key: value.shape for key, value in own.items()}
    return name if fits else None
