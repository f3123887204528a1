"""A lesson's code as a script of torch alone: what `--code` prints, a page shows and a notebook runs.

`compute` is laid open: its keys become assignments, its body stands at the top level, and what it
returns is called `values`. What it uses of other lessons is copied in, and what only the page or the
command needs (types of the keys, checks, pictures) falls away:

    def compute(*, seed: Whole = 0) -> Values:      seed = 0
        with seeded(seed):                          torch.manual_seed(seed)
            x = torch.randn(3)                      x = torch.randn(3)
        return {"x": x}                             values = {"x": x}
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

FOLDER = Path(__file__).parent
LESSONS = "cnnlab.lessons."
PRINT = 'for name, value in values.items():\n    print(f"{name}:", value, sep="\\n")'


@dataclass
class Script:
    """The parts of a script, in the order in which they stand."""

    imports: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    body: str = ""

    def __str__(self) -> str:
        blocks = ["\n".join(self.imports), *self.definitions, "\n".join(self.keys), self.body, PRINT]
        text = blocks[0]
        for before, block in zip(blocks, blocks[1:], strict=False):
            short = not any(part.startswith(("def ", "class ", "@")) for part in (before, block))
            text += ("\n\n" if short else "\n\n\n") + block if block else ""
        return text.strip() + "\n"


def write_script(name: str) -> Script:
    """The script of the lesson of that name."""
    source = Source(name)
    compute = source.defined["compute"]
    assert isinstance(compute, ast.FunctionDef)
    script = Script(keys=source.keys(compute), body=source.body(compute))
    copied: dict[str, str] = {}  # name → text, dependencies first
    imports: set[str] = set()
    for used in sorted(names_in("\n".join([*script.keys, script.body]))):
        source.collect(used, copied, imports)
    script.definitions = list(dict.fromkeys(copied.values()))
    script.imports = write_imports(imports)
    return script


class Source:
    """The source of one module of this package, taken apart by the names that it defines."""

    def __init__(self, name: str):
        self.lines = (FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()
        self.tree = ast.parse("\n".join(self.lines))
        self.defined: dict[str, ast.stmt] = {}
        self.imported: dict[str, tuple[str, str]] = {}  # name → module, name there; of `import x`: x, ""
        for node in self.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.defined[node.name] = node
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self.defined |= {n.id: node for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            elif isinstance(node, ast.ImportFrom):
                self.imported |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                self.imported |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}

    def collect(self, name: str, copied: dict[str, str], imports: set[str]) -> None:
        """Add what `name` stands for, and before it all that this needs; names of Python itself need nothing."""
        if name in copied:
            return
        if name in self.defined:
            text = self.text(self.defined[name])
            copied[name] = ""  # a function that calls itself must not be collected for ever
            for used in sorted(names_in(text) - {name}):
                self.collect(used, copied, imports)
            del copied[name]
            copied[name] = text
        elif name in self.imported:
            module, original = self.imported[name]
            if module.startswith(LESSONS):
                assert original == name, "a lesson's names keep their names"
                Source(module.removeprefix(LESSONS)).collect(name, copied, imports)
            else:
                if original:
                    line = f"from {module} import {original}" + ("" if original == name else f" as {name}")
                else:
                    line = f"import {module}" + ("" if module == name else f" as {name}")
                imports.add(line)

    def keys(self, compute: ast.FunctionDef) -> list[str]:
        """`key = default` of each keyword."""
        pairs = zip(compute.args.kwonlyargs, compute.args.kw_defaults, strict=True)
        return [f"{argument.arg} = {ast.unparse(default)}" for argument, default in pairs if default]

    def body(self, compute: ast.FunctionDef) -> str:
        """The statements of `compute` as they stand at the top level, without checks of what a user typed."""
        checks = [node for node in compute.body if raises_config_error(node)]
        dropped = {line for node in checks for line in range(node.lineno, (node.end_lineno or 0) + 1)}
        (end,) = [node for node in ast.walk(compute) if isinstance(node, ast.Return) and self.is_own(compute, node)]
        lines = self.plain(compute, dropped)
        start = next(i for i, (_, line) in enumerate(lines) if line.endswith(":")) + 1
        opened = [line.replace("return ", "values = ", 1) if number == end.lineno else line for number, line in lines]
        return dedent("\n".join(opened[start:])).strip("\n")

    def is_own(self, compute: ast.FunctionDef, node: ast.Return) -> bool:
        """Whether a `return` is that of `compute`, and not of a function inside."""
        inner = [n for n in ast.walk(compute) if isinstance(n, ast.FunctionDef) and n is not compute]
        return not any(node in ast.walk(function) for function in inner)

    def text(self, node: ast.stmt) -> str:
        return "\n".join(line for _, line in self.plain(node))

    def plain(self, node: ast.stmt, dropped: set[int] | None = None) -> list[tuple[int, str]]:
        """A statement's lines with their numbers; `with seeded(s):` is `torch.manual_seed(s)`, its block opened."""
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        while first > 1 and self.lines[first - 2].startswith("#"):
            first -= 1  # a comment right above belongs to what it stands above
        kept = [i for i in range(first, (node.end_lineno or 0) + 1) if i not in (dropped or ())]
        lines = {i: self.lines[i - 1].removesuffix("  # fmt: skip") for i in kept}
        for block in [n for n in ast.walk(node) if isinstance(n, ast.With) and is_seeded(n)]:
            call = block.items[0].context_expr
            lines[block.lineno] = lines[block.lineno].replace(
                f"with {ast.unparse(call)}:", f"torch.manual_seed({ast.unparse(call.args[0])})"
            )
            for i in range(block.lineno + 1, (block.end_lineno or 0) + 1):
                lines[i] = lines[i].removeprefix("    ")
        return sorted(lines.items())


def is_seeded(block: ast.With) -> bool:
    call = block.items[0].context_expr
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "seeded"


def raises_config_error(node: ast.stmt) -> bool:
    """Whether a statement is `if ...: raise ConfigError(...)`: a check of keys, of no interest on a page."""
    return (
        isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise) and "ConfigError" in ast.unparse(node.body[0])
    )


def names_in(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def write_imports(imports: set[str]) -> list[str]:
    """Python's own modules, an empty line, then torch's and numpy's; what comes from one module in one line."""
    modules: dict[str, list[str]] = {}
    for line in sorted(imports):
        if line.startswith("from "):
            module, _, names = line.removeprefix("from ").partition(" import ")
            modules.setdefault(module, []).append(names)
    lines = [line for line in sorted(imports) if line.startswith("import ")]
    lines += [f"from {module} import {', '.join(names)}" for module, names in sorted(modules.items())]
    installed = [line for line in lines if line.split()[1].partition(".")[0] in ("torch", "numpy")]
    own = [line for line in lines if line not in installed]
    return [*own, *([""] if own and installed else []), *installed]
