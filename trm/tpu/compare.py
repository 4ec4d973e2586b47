"""One training on several backends, each in a process of its own: what chapter 09 measures."""

import importlib.util
import json
import os
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from trm.errors import UserError
from trm.run import ROOT, Run

# What the small training changes in params/04_smoke.yaml: halting, exploration and refilling are on there.
SMALL = {"log_interval": 1, "prefetch": 2, "compute_gradient_stats": False}
# On devices that the processor plays, programs are taken as they are: optimising them costs more than it brings.
PLAYED = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "TF_CPP_MIN_LOG_LEVEL": "2"}
KEPT = ("xla/devices", "xla/compiles", "xla/compiles_after_warmup")


def torch_xla_is_here() -> bool:
    """Whether this environment can train on XLA."""
    return importlib.util.find_spec("torch_xla") is not None


def compare(run: Run, steps: int, devices: int, pjrt_device: str = "CPU") -> pd.DataFrame:
    """Train the same small model for `steps` steps on the processor, on one XLA device, and on all `devices` of them.

    pjrt_device: CPU (devices that the processor plays) or TPU (those that there are).

    Returns one row for each training and step: training, backend, xla/devices, step, train/total_loss, train/grad_norm,
    train/halted, xla/compiles, xla/compiles_after_warmup, pjrt_device, torch_xla (its version) and date.

    Raises:
        UserError: a training failed; the message has its last lines.
    """
    if not torch_xla_is_here():
        raise UserError("torch_xla is not installed; requirements-tpu.txt is for an environment that has it")
    wanted = {"processor": ("cpu", 0), "one device": ("xla", 1), "all devices": ("xla", devices)}
    if pjrt_device == "TPU":  # one chip alone would need another start of the runtime
        del wanted["one device"]
    tables = []
    for name, (backend, count) in wanted.items():
        folder = run.path(f"arms/{name.replace(' ', '_')}")
        _train(folder, backend, count, steps, pjrt_device)
        metrics = json.loads((folder / "metrics.json").read_text())
        records = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        table = pd.DataFrame([r for r in records if "train/total_loss" in r])
        table = table[["step", "train/total_loss", "train/grad_norm", "train/halted"]]
        table.insert(0, "training", name)
        table.insert(1, "backend", backend)
        tables.append(table.assign(**{key: metrics.get(key) for key in KEPT}))
    return pd.concat(tables, ignore_index=True).assign(
        pjrt_device=pjrt_device, torch_xla=version("torch_xla"), date=date.today().isoformat()
    )


def _train(folder: Path, backend: str, devices: int, steps: int, pjrt_device: str) -> None:
    """Chapter 04 as a script."""
    values = SMALL | {"backend": backend, "max_steps": steps, "eval_interval": steps, "output_dir": folder}
    command = [sys.executable, str(ROOT / "book" / "04_trm_train.py"), "-f", str(ROOT / "params" / "04_smoke.yaml")]
    command += [text for name, value in values.items() for text in ("-p", name, str(value))]
    environment = os.environ | {"MPLBACKEND": "agg", "PJRT_DEVICE": pjrt_device}
    if pjrt_device == "CPU":
        environment |= PLAYED | {"CPU_NUM_DEVICES": str(devices or 1)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the training on backend {backend} failed:\n{(done.stderr or done.stdout)[-1500:]}")
