"""`trm`: the commands of the book. Each is loaded only when it is called, so that none needs the packages of another."""

import os
import sys
from importlib import import_module

from trm.errors import UserError, print_in_any_encoding

USAGE = """usage: trm COMMAND ...

  trm solve ...      a trained model on your own Sudoku puzzles (trm solve --help)
  trm parse ...      sentences to dependency trees (trm parse --help)
  trm convert ...    weights of the original TRM code in this book's format (trm convert --help)
  trm sweep ...      run sweeps of chapters, see their state, collect their tables (trm sweep --help)
  trm diff A B       parameters and metrics of two runs side by side (trm diff --help)
  trm report ...     build the HTML book from executed chapters (trm report --help)
  trm params NN      list the parameters of chapter NN: type, range, default, description
  trm info           versions, device, threads, and the models and data that ship
"""


def params(words: list[str]) -> int:
    """The parameters of a chapter as a table."""
    if len(words) != 1 or words[0].startswith("-"):
        print("usage: trm params NN, such as trm params 04", file=sys.stderr)
        return 2
    print(import_module("trm.sweep.chapters").schema_of(words[0]).describe())
    return 0


def info(words: list[str]) -> int:
    """Versions, device, threads, and what ships."""
    if words:
        print("usage: trm info", file=sys.stderr)
        return 2
    import platform
    from importlib.metadata import version
    from importlib.util import find_spec

    import torch

    from trm.checkpoint import PRETRAINED
    from trm.run import ROOT, SOURCES, commit

    print(f"python {platform.python_version()} on {platform.platform()}")
    for name in ("torch", "numpy", "pandas", "transformers", "accelerate", "dask", "papermill", "torch_xla"):
        print(f"{name} {version(name) if find_spec(name) else 'is not installed'}")
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    devices += ["an Apple GPU, with backend mps"] * torch.backends.mps.is_available()
    print(f"device: {', '.join(devices) or 'cpu'}; {torch.get_num_threads()} threads")
    print(f"repository: {ROOT} {commit()}".rstrip())
    print("models: " + ", ".join(sorted(path.name for path in PRETRAINED.iterdir() if path.is_dir())))
    print("puzzles: " + ", ".join(sorted(path.name for path in (SOURCES / "trm" / "puzzles" / "packs").glob("*"))))
    return 0


# Command -> module and function that take the words after it and return the exit code.
COMMANDS = {
    "sweep": "trm.sweep.cli:main", "report": "trm.report.html:main", "solve": "trm.puzzles.command:main",
    "parse": "trm.parsing.command:main", "convert": "trm.puzzles.official:main",
    "diff": "trm.diff:main", "params": "trm.cli:params", "info": "trm.cli:info",
}  # fmt: skip


def main(words: list[str] | None = None) -> int:
    """Run a command; the exit code: that of the command, 1 for an error, 2 for wrong usage."""
    print_in_any_encoding()
    name, *rest = (sys.argv[1:] if words is None else words) or [""]
    if name in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if name not in COMMANDS:
        print(f"trm: no command {name!r}; there are {', '.join(COMMANDS)}" if name else USAGE, file=sys.stderr)
        return 2
    module, function = COMMANDS[name].split(":")
    try:
        code = getattr(import_module(module), function)(rest)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head`: whoever read the output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
