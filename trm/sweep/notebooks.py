"""How a chapter's notebook is executed: by papermill in a process of its own, with the Python that runs this one."""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ipykernel.kernelspec import get_kernel_dict

FULL = 2**20  # bytes left on a disk that is full


def papermill(notebook: Path, target: Path, parameters: Path, cwd: Path) -> list[str]:
    """The command that executes `notebook` as `target`."""
    paths = [
        str(path).replace("{", "{{").replace("}", "}}") for path in (notebook, target)
    ]  # papermill fills in braces
    return [sys.executable, "-m", "papermill", *paths, "--no-progress-bar", "-f", str(parameters),
            "--cwd", str(cwd), "--start-timeout", "600"]  # fmt: skip


@contextmanager
def own_kernel() -> Iterator[dict[str, str]]:
    """Variables by which the kernel "python3", named in the notebooks, is this Python, whatever kernels the user has."""
    with tempfile.TemporaryDirectory(prefix="trm-kernel-", ignore_cleanup_errors=True) as folder:
        spec = Path(folder, "kernels", "python3", "kernel.json")
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps(get_kernel_dict()), encoding="utf-8")
        others = os.environ.get("JUPYTER_PATH", "")
        yield {"JUPYTER_PATH": f"{folder}{os.pathsep}{others}" if others else folder}


def reason(target: Path, text: str, code: int) -> str:
    """Why papermill failed, in one line: a full disk, the error of the failing cell, else the last line that was printed."""
    if "Errno 28" in text or shutil.disk_usage(target.parent).free < FULL:
        return f"the disk of {target.parent} is full; free some space and run the same command again"
    try:
        cells = json.loads(target.read_bytes())["cells"]
    except (OSError, ValueError, KeyError):
        cells = []
    for cell in cells:
        for output in cell.get("outputs", []):
            if output.get("output_type") == "error":
                return f"{output['ename']}: {output['evalue']}".splitlines()[0]
    lines = [line for line in re.sub(r"\x1b\[[\d;]*m", "", text).splitlines() if line.strip()]
    return lines[-1] if lines else f"papermill ended with code {code} and printed nothing"
