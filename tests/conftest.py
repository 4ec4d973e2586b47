"""Shared by all tests."""

import os
from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("agg")
# Two cores, shared by the workers of pytest-xdist; the processes that tests start learn of it by the environment.
THREADS = max(1, 2 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1)))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
torch.set_num_threads(THREADS)
ROOT = Path(__file__).resolve().parent.parent
TWO_PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]  # of python; then the script


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets, named by TRM_DATA_DIR; the test is skipped without it."""
    folder = os.environ.get("TRM_DATA_DIR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real data: set TRM_DATA_DIR to a folder that holds sudoku/")
    return Path(folder)
