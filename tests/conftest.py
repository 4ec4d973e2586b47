"""Shared by all tests."""

import json
import os
from pathlib import Path

import matplotlib
import pytest
import torch

from trm import lock

matplotlib.use("agg")
# One thread: two that spin are twenty times slower beside another busy process (`trm.threads`). The processes that tests
# start learn of it by the environment.
os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parent.parent
TWO_PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]  # of python; then the script


@pytest.fixture(autouse=True)
def give_folders_back():
    """A run that a test leaves unfinished holds its folder no longer."""
    yield
    for marker in list(lock.HELD):
        lock.release(marker.parent, marker.name)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, named by TRM_DATA_DIR; the test is skipped without it."""
    folder = os.environ.get("TRM_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set TRM_DATA_DIR to a folder that holds sudoku/")
    return Path(folder)


@pytest.fixture
def broken_kernel(tmp_path_factory, monkeypatch) -> None:
    """A user's kernelspec "python3" that points at a Python which is gone."""
    spec = tmp_path_factory.mktemp("jupyter") / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = ["/gone/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(spec.parents[2]))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
