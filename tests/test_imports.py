"""Who may import whom, read from the import statements of the sources: systems over a flat core."""

import ast
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

SYSTEMS = {path.name for path in (ROOT / "trm").iterdir() if (path / "__init__.py").exists()}
ALLOWED = {
    "parsing": {"language"},
    "compressor": {"language"},
    "recursive_lm": {"language"},
    "latent": {"language", "compressor"},
    "grpo": {"language", "latent"},
    "tpu": {"puzzles", "sweep"},
    "report": {"sweep"},  # the names of the chapters
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in (ROOT / "trm").rglob("*.py")}


def imports(path: Path, at_load_only: bool = False) -> set[str]:
    """The modules of `trm` that a file imports, anywhere or as it is loaded."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    nodes = tree.body if at_load_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found & set(MODULES) - {"trm"}


def system_of(module: str) -> str:
    """The system that a module belongs to; "" for the core."""
    name = module.split(".")[1]
    return name if name in SYSTEMS else ""


def test_the_core_imports_no_system_and_systems_only_what_they_may():
    wrong = []
    for module, path in MODULES.items():
        for other in imports(path) if module != "trm" else ():
            own, theirs = system_of(module), system_of(other)
            if theirs and theirs not in {own, *ALLOWED.get(own, ())}:
                wrong.append(f"{module} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_the_allowed_imports_are_no_circle():
    def reached(system):
        return set().union(*({other} | reached(other) for other in ALLOWED.get(system, ())))

    assert not [system for system in ALLOWED if system in reached(system)]


def test_no_circle_among_modules():
    graph = {module: imports(path, at_load_only=True) - {module} for module, path in MODULES.items()}
    while leaves := {module for module, others in graph.items() if not others}:
        graph = {module: others - leaves for module, others in graph.items() if module not in leaves}
    assert not graph, f"circle among {sorted(graph)}"


def test_importing_sudoku_loads_no_other_system():
    command = [sys.executable, "-X", "importtime", "-c", "import trm.puzzles.train"]
    loaded = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stderr
    names = {line.rpartition("|")[2].strip() for line in loaded.splitlines()}
    assert "trm.puzzles.train" in names
    roots = {name.partition(".")[0] for name in names}
    assert not roots & {"conllu", "transformers", "dask", "distributed", "datasets"}
    assert not {system_of(name) for name in names if name.startswith("trm.")} - {"", "puzzles"}
