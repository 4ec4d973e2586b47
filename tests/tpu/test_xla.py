"""Training on XLA, on eight devices that the processor emulates, in the environment of requirements-tpu.txt."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.conftest import ROOT

pytest.importorskip("torch_xla", reason="requires torch_xla: see requirements-tpu.txt")
os.environ |= {"PJRT_DEVICE": "CPU", "CPU_NUM_DEVICES": "8", "TF_CPP_MIN_LOG_LEVEL": "2"}
# Programs as they are, not optimised: eight devices on one processor gain nothing from it, and wait long for it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import torch
import torch_xla
import torch_xla.runtime as xr

import trm.tpu.xla
from trm.checkpoint import checkpoints
from trm.errors import UserError
from trm.params import read_yaml
from trm.puzzles.dataset import load
from trm.puzzles.params import TrmTrain
from trm.puzzles.train import make_model, make_trainer
from trm.run import Run
from trm.tpu.xla import CompileWatch, XLATrainer, main

SMOKE = read_yaml(ROOT / "params" / "04_smoke.yaml") | {"compute_gradient_stats": False}
STEPS, HALF = 50, 30
FIFTY = {"max_steps": STEPS, "log_interval": 5, "xla_metrics_every": 10, "checkpoint_interval": HALF, "eval_interval": HALF,
         "prefetch": 2, "resume": True}  # fmt: skip
NOT_WATCHED = {"log_per_step_losses": False, "eval_interval": 100}


@pytest.fixture(scope="module", autouse=True)
def xla_first():
    """torch counts the devices that gradients may need when the first is computed."""
    xr.use_spmd()
    assert xr.global_runtime_device_count() == 8
    torch.ones(1, device=torch_xla.device(), requires_grad=True).sum().backward()


@pytest.fixture(scope="module")
def data():
    return load("6x6", valid_size=16, test_size=32)


def trainer_for(folder, data, **values):
    params = TrmTrain.create({**SMOKE, "output_dir": str(folder), **values})
    run = Run(params, "04_trm_train")
    trainer = make_trainer(make_model(params, data), params, run, data)
    if params.eval_interval > params.max_steps:
        trainer.evaluate = None
    return trainer


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    """Folder and metrics of fifty steps on eight XLA devices, on the processor, and on one XLA device (in its own process)."""
    folder = tmp_path_factory.mktemp("runs")
    done = {}
    for name, backend in (("eight", "xla"), ("processor", "cpu")):
        done[name] = folder / name, trainer_for(folder / name, data, backend=backend, **FIFTY).fit()
    values = SMOKE | FIFTY | {"backend": "xla", "output_dir": folder / "one"}
    arguments = [text for name, value in values.items() for text in ("-p", name, str(value))]
    env = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "CPU_NUM_DEVICES": "1"}
    subprocess.run([sys.executable, str(ROOT / "book" / "04_trm_train.py"), *arguments], env=env, check=True)
    done["one"] = folder / "one", json.loads((folder / "one" / "metrics.json").read_text(encoding="utf-8"))
    return done


def records(folder):
    return [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]


def losses(folder):
    """Every number of training that has to do with the loss."""
    names = ("loss", "exact_accuracy", "halted", "train/step", "grad")
    trained = [r for r in records(folder) if "train/total_loss" in r]
    return [{k: v for k, v in r.items() if any(n in k for n in names)} for r in trained]


def total_losses(folder):
    return [r["train/total_loss"] for r in records(folder) if "train/total_loss" in r]


def same_weights(one, two, part="ema", **tolerance):
    first, second = (load_file(checkpoints(f / "checkpoints")[-1] / f"{part}.safetensors") for f in (one, two))
    torch.testing.assert_close(first, second, **tolerance)


@pytest.mark.parametrize("one, two", [("processor", "one"), ("processor", "eight"), ("one", "eight")])
def test_every_backend_trains_the_same(runs, one, two):
    """Losses of 50 steps, halting, exploration and refilling among them, and the gradients' norms; then the weights."""
    one, two = runs[one][0], runs[two][0]
    assert len(losses(one)) == STEPS // 5
    assert sum(r["train/halted"] for r in losses(one)) > 0, "nothing was refilled"
    for a, b in zip(losses(one), losses(two), strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-7)
    for part in ("ema", "model"):
        same_weights(one, two, part, atol=2e-5, rtol=1e-4)
    name = "valid/cell_accuracy"
    first, second = ([r[name] for r in records(folder) if name in r] for folder in (one, two))
    assert first == pytest.approx(second, abs=0.02) and len(first) == 2


def test_nothing_is_compiled_after_the_warm_up(runs):
    for name, devices in (("one", 1), ("eight", 8)):
        folder, measured = runs[name]
        assert measured["xla/compiles_after_warmup"] == 0 and measured["xla/devices"] == devices
        assert 2 <= measured["xla/compiles"] < 40
        logged = [r for r in records(folder) if "xla/compiles" in r]
        assert [r["step"] for r in logged] == [10, 20, 30, 40, 50]
        assert logged[-1]["xla/executes"] >= STEPS and logged[-1]["xla/transfer_to_devices"] >= STEPS


@pytest.mark.parametrize("begun, backend", [("eight", "xla"), ("processor", "xla"), ("eight", "cpu")])
def test_a_run_goes_on_where_another_backend_left_it(runs, data, tmp_path, capsys, begun, backend):
    """From the checkpoint at step 30, written by one backend and read by another; by the same one to the bit. The programs of
    training are known by then; new ones are at most the three that put the checkpoint in place."""
    before = runs[begun][0]
    shutil.copytree(before / "checkpoints" / f"step_{HALF:08d}", tmp_path / "checkpoints" / f"step_{HALF:08d}")
    for name in ("params.json", "history.jsonl"):
        shutil.copy(before / name, tmp_path / name)
    measured = trainer_for(tmp_path, data, backend=backend, **FIFTY).fit()
    said = capsys.readouterr().out
    same = (begun, backend) == ("eight", "xla")
    assert f"resumed at step {HALF}" in said and ("another backend" in said) != same
    assert measured.get("xla/compiles", 0) <= 3
    for a, b in zip(losses(before), losses(tmp_path), strict=True):
        assert b == (a if same else pytest.approx(a, rel=1e-4, abs=1e-7))
    same_weights(tmp_path, before, atol=0 if same else 2e-5, rtol=0 if same else 1e-4)


def test_adam_atan2_goes_on_to_the_bit_without_another_program(tmp_path, data):
    values = {"backend": "xla", "optimizer": "adam_atan2", "max_steps": 8, "log_interval": 2, "checkpoint_interval": 4}
    trainer_for(tmp_path / "whole", data, **values, **NOT_WATCHED).fit()
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "step_00000008")
    again = trainer_for(tmp_path / "again", data, **values, **NOT_WATCHED, resume=True)
    assert again.fit()["xla/compiles"] == 0
    assert losses(tmp_path / "again") == losses(tmp_path / "whole")
    same_weights(tmp_path / "again", tmp_path / "whole", atol=0, rtol=0)


# The paper's recipe in small: attention, puzzle tokens, stablemax without float64, AdamATan2, parts.
PAPER = {"mixer": "attention", "num_heads": 2, "puzzle_tokens": 2, "loss_type": "stablemax", "grad_clip": 0.0,
         "optimizer": "adam_atan2", "grad_accumulation": 2, "backprop": "last", "schedule": "none", "H_cycles": 2}  # fmt: skip
WAYS = {
    "paper": PAPER,
    "paper, bfloat16": PAPER | {"precision": "bfloat16"},
    "curricula": {"H_cycles": 2, "schedule": "linear", "curriculum_enabled": True, "curriculum_start_step": 2,
                  "curriculum_end_step": 7, "depth_curriculum": "1x1@0, 2x1@0.3", "initial_noise": 0.1},
    "expected loss": {"halting": "act", "schedule": "adaptive", "H_cycles": 2, "backprop": "full"},
    "one step ahead": {"halting": "q_continue", "backprop": "per_cycle", "H_cycles": 2, "schedule": "uniform"},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_to_train_are_the_same_too(tmp_path, data, way):
    found = []
    for backend in ("xla", "cpu"):
        values = WAYS[way] | NOT_WATCHED | {"backend": backend, "max_steps": 10, "log_interval": 5, "L_cycles": 1}
        trainer = trainer_for(tmp_path / backend, data, **values, compile=backend == "xla")
        assert isinstance(trainer, XLATrainer) == (backend == "xla")
        assert trainer.fit().get("xla/compiles_after_warmup", 0) == 0
        assert trainer.plain_model.lm_head.weight.dtype == torch.float32
        found.append(total_losses(tmp_path / backend))
    assert found[0] == pytest.approx(found[1], rel=2e-2 if "bfloat16" in way else 1e-4)


def test_a_compile_after_the_warm_up_names_the_shape_that_changed(capsys):
    watch = CompileWatch()
    for step, rows in enumerate((16, 16, 8)):
        with watch.during(("step", False), step) as shapes:
            shapes["inputs"] = (rows, 37)
            kept = torch.zeros(rows, 37).to(torch_xla.device()) * 3
            torch_xla.sync()
        assert kept.shape == (rows, 37)
    assert watch.late == 1
    assert "at step 2 (step): inputs was (16, 37), is (8, 37)" in capsys.readouterr().out


@pytest.mark.parametrize("values, says", [
    ({"batch_size": 12}, "multiple of 8"), ({"activation_checkpointing": True}, "grad_accumulation saves memory too")
])  # fmt: skip
def test_what_the_devices_cannot_do_is_said(tmp_path, data, values, says):
    with pytest.raises(UserError, match=says):
        trainer_for(tmp_path, data, backend="xla", **values)


@pytest.mark.parametrize("host, values, says", [
    (1, {}, "this is host 1 of 2, but it was not started as such"),
    (0, {"time_limit": 5}, "several hosts cannot pause by the clock"),
])  # fmt: skip
def test_several_hosts_are_told_apart(tmp_path, data, monkeypatch, host, values, says):
    monkeypatch.setattr(xr, "process_count", lambda: 2)
    monkeypatch.setattr(xr, "process_index", lambda: host)
    with pytest.raises(UserError, match=says):
        trainer_for(tmp_path, data, backend="xla", **values)
    if host:  # started by the launcher, it knows; but its folder must be the first host's
        monkeypatch.setenv("RANK", str(host))
        monkeypatch.setattr(trm.tpu.xla, "PATIENCE", 0)
        with pytest.raises(UserError, match="put output_dir on storage that all hosts share"):
            trainer_for(tmp_path / "elsewhere", data, backend="xla")


def test_the_launcher_runs_a_script(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trm.tpu.xla"])
    with pytest.raises(SystemExit, match="usage: python -m trm.tpu.xla"):
        main()
    script = tmp_path / "which.py"
    script.write_text("import os, sys; print(os.environ['RANK'], sys.argv[1:], __name__)", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["trm.tpu.xla", str(script), "-p", "x"])
    monkeypatch.setenv("RANK", "7")
    main()
    assert capsys.readouterr().out.strip() == "0 ['-p', 'x'] __main__"


def test_a_plain_run_does_not_touch_torch_xla(tmp_path):
    chapter, smoke = (str(ROOT / name) for name in ("book/04_trm_train.py", "params/04_smoke.yaml"))
    arguments = [chapter, "-f", smoke, "-p", "max_steps", "5", "-p", "output_dir", str(tmp_path)]
    code = f"import runpy, sys; sys.argv = {arguments!r}; runpy.run_path({chapter!r}); assert 'torch_xla' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"MPLBACKEND": "agg"}, check=True)
