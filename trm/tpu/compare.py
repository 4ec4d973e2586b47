"""One training on several backends, each in a process of its own, and how equal they are: what chapter 09 measures."""

import importlib.util
import os
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from trm.errors import UserError
from trm.run import checkout, read_history
from trm.text_files import read_json

# What the small training changes in params/04_smoke.yaml: halting, exploration and refilling are on there.
SMALL = {"log_interval": 1, "prefetch": 2, "compute_gradient_stats": False}
# On emulated devices programs are not optimised: that costs more than it brings.
EMULATED = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "TF_CPP_MIN_LOG_LEVEL": "2"}
KEPT = ["step", "train/total_loss", "train/grad_norm", "train/halted"]  # of the history
COUNTS = ("xla/devices", "xla/compiles", "xla/compiles_after_warmup")  # of the metrics


def torch_xla_is_here() -> bool:
    """Whether this environment can train on XLA."""
    return importlib.util.find_spec("torch_xla") is not None


def compare(steps: int, devices: int, pjrt_device: str = "CPU") -> pd.DataFrame:
    """Train the same small model, by chapter 04, for `steps` steps on the processor, on one XLA device, and on all `devices`:
    those that the processor emulates (pjrt_device CPU) or real ones (TPU).

    Returns one row per training and step: training, backend, KEPT, COUNTS, pjrt_device, torch_xla (its version) and date.
    Raises UserError where a training failed, with its last lines."""
    if not torch_xla_is_here():
        raise UserError("torch_xla is not installed; requirements-tpu.txt is for an environment that has it")
    trainings = {"processor": ("cpu", 0), "one device": ("xla", 1), "all devices": ("xla", devices)}
    if pjrt_device == "TPU":  # one chip alone would need another start of the runtime
        del trainings["one device"]
    tables = []
    for name, (backend, count) in trainings.items():
        with TemporaryDirectory() as folder:  # not in the run's own, which this process holds
            values = SMALL | {"backend": backend, "max_steps": steps, "eval_interval": steps, "output_dir": folder}
            chapter, smoke = checkout() / "book" / "04_trm_train.py", checkout() / "params" / "04_smoke.yaml"
            command = [sys.executable, str(chapter), "-f", str(smoke)]
            command += [text for key, value in values.items() for text in ("-p", key, str(value))]
            environment = os.environ | {"MPLBACKEND": "agg", "PJRT_DEVICE": pjrt_device}
            if pjrt_device == "CPU":
                environment |= EMULATED | {"CPU_NUM_DEVICES": str(count or 1)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"the training on {backend} failed:\n{(done.stderr or done.stdout)[-1500:]}")
            metrics, history = read_json(Path(folder) / "metrics.json"), read_history(Path(folder))
        table = pd.DataFrame([r for r in history if "train/total_loss" in r])[KEPT]
        table.insert(0, "training", name)
        table.insert(1, "backend", backend)
        tables.append(table.assign(**{key: metrics.get(key) for key in COUNTS}))
    about = {"pjrt_device": pjrt_device, "torch_xla": version("torch_xla"), "date": date.today().isoformat()}
    return pd.concat(tables, ignore_index=True).assign(**about)


def losses(measured: pd.DataFrame) -> pd.DataFrame:
    """The loss of each training (columns) at each step (index)."""
    table = measured.pivot(index="step", columns="training", values="train/total_loss")
    return table[measured["training"].unique()]


def parity(measured: pd.DataFrame) -> pd.Series:
    """How far the trainings in a table of `compare` differ: trainings, devices, steps, max_abs and max_relative (the largest
    difference of a loss between any two), compiles, compiles_after_warmup."""
    table = losses(measured)
    spread = table.max(axis=1) - table.min(axis=1)
    several = measured[measured["xla/devices"] == measured["xla/devices"].max()].iloc[0]
    found = {
        "trainings": tuple(table.columns), "devices": int(several["xla/devices"]), "steps": len(table),
        "max_abs": float(spread.max()), "max_relative": float((spread / table.abs().min(axis=1)).max()),
        "compiles": int(several["xla/compiles"]),
        "compiles_after_warmup": int(measured["xla/compiles_after_warmup"].max()),
    }  # fmt: skip
    return pd.Series(found)
