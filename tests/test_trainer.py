"""The trainer: resuming to the bit, several processes, bad losses, stops."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from jupyter_client.manager import start_new_kernel
from safetensors.torch import load_file

import trm.trainer
from tests.conftest import ROOT, TWO_PROCESSES
from trm import lock
from trm.checkpoint import checkpoints
from trm.errors import Interrupted
from trm.params import ParameterError, read_yaml
from trm.puzzles.dataset import load
from trm.puzzles.params import TrmTrain
from trm.puzzles.train import make_model, make_trainer
from trm.run import Run
from trm.trainer import Trainer, TrainingError

SMOKE = read_yaml(ROOT / "params" / "04_smoke.yaml")
TIMES = ("train/seconds", "train/seconds_per_step")


@pytest.fixture(scope="module")
def data():
    return load("6x6", valid_size=16, test_size=32)


def trainer_for(folder, data, **values):
    params = TrmTrain.create({**SMOKE, "output_dir": str(folder), **values})
    run = Run(params, "04_trm_train")
    return make_trainer(make_model(params, data), params, run, data)


def numbers(folder):
    """History without times, and the averaged weights at the end."""
    records = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    history = [{k: v for k, v in record.items() if k not in TIMES} for record in records]
    return history, load_file(checkpoints(folder / "checkpoints")[-1] / "ema.safetensors")


def assert_same(one, two, **tolerance):
    assert one[0] == two[0]
    for name in one[1]:
        torch.testing.assert_close(one[1][name], two[1][name], rtol=0, atol=0)


def test_the_loss_falls_and_every_promised_metric_is_there(tmp_path, data):
    trainer = trainer_for(tmp_path, data, max_steps=40, lr=0.01)
    measured = trainer.fit()
    records = trainer.run.history()
    logged = [r for r in records if "train/total_loss" in r]
    assert logged[-1]["train/total_loss"] < logged[0]["train/total_loss"]
    promised = {
        "train/total_loss", "train/act_loss", "train/supervised_loss", "train/deep_supervision/step_0_loss",
        "train/deep_supervision/step_1_loss", "train/gradients/step_0_grad_norm_mean",
        "train/gradients/step_1_grad_norm_mean", "train/curriculum_weight", "train/lr", "train/seconds_per_step",
    }  # fmt: skip
    assert promised <= set(logged[0])
    for r in logged:
        assert r["train/total_loss"] == pytest.approx(r["train/act_loss"] + r["train/supervised_loss"], rel=1e-5)
    assert measured["train/steps"] == 40 and measured["train/examples_per_second"] > 0
    assert (tmp_path / "best" / "model.safetensors").exists()


def test_same_seed_same_numbers_other_seed_other_numbers(tmp_path, data):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        trainer_for(tmp_path / name, data, seed=seed).fit()
    assert_same(numbers(tmp_path / "a"), numbers(tmp_path / "b"))
    assert numbers(tmp_path / "a")[0] != numbers(tmp_path / "c")[0]


def test_gradient_stats_are_gradients(tmp_path, data):
    """step_1's norm against a finite difference of the loss along its own direction is dear; its scale is checked by
    hand: with one H-cycle supervised alone the gradient at the last answer does not depend on the batch size."""
    norms = []
    for batch_size, accumulation in ((16, 1), (16, 4)):
        trainer = trainer_for(
            tmp_path / str(accumulation), data, batch_size=batch_size, grad_accumulation=accumulation, max_steps=1,
            log_interval=1, eval_interval=1,
        )  # fmt: skip
        trainer.fit()
        norms.append(trainer.run.history()[0]["train/gradients/step_1_grad_norm_mean"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_the_mean_number_of_steps_never_exceeds_the_cap(tmp_path, data):
    """All examples begin together: in windows of five steps one in five halts, though each after three."""
    trainer = trainer_for(tmp_path, data, halt_max_steps=3, log_interval=5, max_steps=20, lr=1e-9)
    trainer.fit()
    found = [record["train/mean_steps"] for record in trainer.run.history() if "train/halted" in record]
    assert found == pytest.approx([3.0] * 4)


@pytest.mark.slow
def test_kill_9_at_any_moment_then_resume_ends_with_the_same_numbers(tmp_path, data):
    """The script is killed twice, at moments that depend on the machine, and resumed."""
    options = {"max_steps": 400, "checkpoint_interval": 20, "log_interval": 7, "eval_interval": 30}
    common = [a for k, v in options.items() for a in ("-p", k, str(v))]
    command = [
        sys.executable,
        str(ROOT / "book" / "04_trm_train.py"),
        "-f",
        str(ROOT / "params" / "04_smoke.yaml"),
        *common,
    ]
    env = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, "-p", "output_dir", str(whole)], check=True, env=env, capture_output=True)
    resumed = [*command, "-p", "output_dir", str(broken), "-p", "resume", "True"]
    for kill_after in (2, 5):  # checkpoints seen
        process = subprocess.Popen(resumed, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen: set = set()
        while len(seen) < kill_after and process.poll() is None:
            seen |= set(checkpoints(broken / "checkpoints"))
            time.sleep(0.01)
        assert process.poll() is None, "it should still be running"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (broken / "metrics.json").exists()
    subprocess.run(resumed, check=True, env=env, capture_output=True)
    assert_same(numbers(whole), numbers(broken))
    one, two = (json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in (whole, broken))
    assert {k: v for k, v in one.items() if "second" not in k} == {k: v for k, v in two.items() if "second" not in k}


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "soap", "mixer": "houses", "hidden_size": 8, "input_noise": 1.0}], ids=str
)
def test_time_limit_pauses_and_resume_ends_with_the_same_numbers(tmp_path, data, options):
    trainer_for(tmp_path / "whole", data, **options).fit()
    paused = trainer_for(tmp_path / "paused", data, time_limit=1e-9, **options)
    paused.fit()
    assert paused.paused and paused.step < 30
    resumed = trainer_for(tmp_path / "paused", data, resume=True, **options)
    resumed.fit()
    assert not resumed.paused
    assert_same(numbers(tmp_path / "whole"), numbers(tmp_path / "paused"))


class Watched:
    """A progress that notes what it is told."""

    def __init__(self):
        self.told = []

    def start(self, step, seconds):
        self.told.append(("start", step))

    def tick(self, step, seconds):
        self.told.append(("tick", step))
        assert seconds > 0

    def __call__(self, record):
        self.told.append(("record", record["step"]))

    def close(self):
        self.told.append(("close", None))


def test_a_training_shows_itself_before_the_first_step_and_between_records(tmp_path, data):
    options = {"max_steps": 2, "log_interval": 2, "eval_interval": 2}
    trainer = trainer_for(tmp_path, data, **options)
    trainer.show = Watched()
    batches = trainer.batches
    trainer.batches = lambda step: trainer.show.told.append(("batch", step)) or batches(step)
    trainer.fit()
    expected = [("start", 0), ("batch", 0), ("tick", 1), ("batch", 1), ("tick", 2), ("record", 2), ("record", 2)]
    assert trainer.show.told == [*expected, ("close", None)]
    again = trainer_for(tmp_path, data, resume=True, **options)
    again.show = Watched()
    again.fit()
    assert again.show.told[0] == ("start", 2), "a training that goes on shows where it is"


def interrupted_at(trainer, step, number=signal.SIGINT, times=1):
    """`trainer`, whose process gets a signal while it makes the batch of `step`."""
    batches = trainer.batches

    def signalled(now):
        for _ in range(times if now == step else 0):
            os.kill(os.getpid(), number)
        return batches(now)

    trainer.batches = signalled
    return trainer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_step_and_says_how_to_go_on(tmp_path, data, number):
    handler = signal.getsignal(number)
    whole = trainer_for(tmp_path / "whole", data)
    whole.fit()
    chapter = Run(TrmTrain.create({"output_dir": str(tmp_path / "run")}), "04_trm_train")
    with pytest.raises(Interrupted) as said:
        interrupted_at(trainer_for(tmp_path / "run" / "arms" / "one", data), 7, number).fit()
    lines = str(said.value).splitlines()
    assert len(lines) == 3 and lines[0] == f"interrupted at step 8 of {whole.step}"
    assert Path(lines[1].removeprefix("checkpoint: ")).is_dir() and "resume True" in lines[2]
    for folder in (chapter.dir, chapter.dir / "arms" / "one"):
        assert json.loads((folder / "metrics.partial.json").read_text(encoding="utf-8")) == {"train/steps": 8}
    assert not lock.held_above(chapter.dir) and signal.getsignal(number) is handler
    again = trainer_for(tmp_path / "run" / "arms" / "one", data, resume=True)
    lock.release(again.run.dir)  # as where only the cell of the training is executed once more
    again.fit()
    assert lock.is_held(again.run.dir)
    assert_same(numbers(tmp_path / "whole"), numbers(tmp_path / "run" / "arms" / "one"))


@pytest.mark.slow
def test_the_square_in_jupyterlab_pauses(tmp_path):
    kernel, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT))
    try:
        flags = ["book/04_trm_train.py", "-p", "output_dir", str(tmp_path)]
        asked = client.execute(f"import runpy, sys; sys.argv = {flags}; runpy.run_path(sys.argv[0])")
        while not (tmp_path / "history.jsonl").exists():
            time.sleep(0.1)
        kernel.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != asked:
            pass  # of a question that was asked twice while the kernel started
        assert reply["content"]["ename"] == "Interrupted"
        assert "".join(reply["content"]["traceback"]).count("\n") == 2
        assert checkpoints(tmp_path / "checkpoints") and (tmp_path / "metrics.partial.json").exists()
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_a_second_interrupt_stops_at_once(tmp_path, data):
    with pytest.raises(KeyboardInterrupt) as said:
        interrupted_at(trainer_for(tmp_path, data), 7, times=2).fit()
    assert not isinstance(said.value, Interrupted) and not checkpoints(tmp_path / "checkpoints")


def test_a_checkpoint_is_written_by_time_too(tmp_path, data, monkeypatch):
    monkeypatch.setattr("trm.trainer.CHECKPOINT_SECONDS", 0.0)
    seen = []
    monkeypatch.setattr(Trainer, "_checkpoint", lambda self: seen.append(self.step))
    trainer_for(tmp_path, data, max_steps=5, checkpoint_interval=100).fit()
    assert seen == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("which", ["model.safetensors", "facts.json", "optimizer.safetensors"])
def test_a_flipped_bit_is_noticed_and_the_checkpoint_before_is_used(tmp_path, data, capsys, which):
    trainer_for(tmp_path / "whole", data, checkpoint_interval=10).fit()
    shutil.copytree(tmp_path / "whole", tmp_path / "hurt")
    before, newest = checkpoints(tmp_path / "hurt" / "checkpoints")
    path = newest / which
    hurt = bytearray(path.read_bytes())
    hurt[-100] ^= 1
    path.write_bytes(hurt)
    trainer_for(tmp_path / "hurt", data, checkpoint_interval=10, resume=True).fit()
    said = capsys.readouterr().out
    assert f"{newest}, which is damaged" in said and f"from {before}" in said
    assert_same(numbers(tmp_path / "whole"), numbers(tmp_path / "hurt"))


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_checkpoint(tmp_path, data):
    trainer = trainer_for(tmp_path, data)
    batches = trainer.batches

    def poisoned(step):
        if step == 16:  # the seventeenth step
            with torch.no_grad():
                trainer.plain_model.lm_head.weight.fill_(float("nan"))
        return batches(step)

    trainer.batches = poisoned
    with pytest.raises(TrainingError, match="not finite at step 17.*step_00000010"):
        trainer.fit()
    assert [p.name for p in checkpoints(tmp_path / "checkpoints")] == ["step_00000010"]


def test_gradients_that_are_not_finite_never_reach_a_checkpoint(tmp_path, data):
    """Finite loss, infinite gradient at the tenth step, where a checkpoint is due."""
    trainer = trainer_for(tmp_path, data, grad_clip=0.0)
    weight = trainer.plain_model.lm_head.weight
    weight.register_hook(lambda grad: grad * float("inf") if trainer.step == 9 else grad)
    with pytest.raises(TrainingError, match="not finite at step 10"):
        trainer.fit()
    assert not checkpoints(tmp_path / "checkpoints")


def test_resuming_after_early_stopping_takes_no_step(tmp_path, data):
    first = trainer_for(tmp_path, data, early_stopping_patience=1)
    first.evaluate = lambda model: {"valid/exact_accuracy": 0.5}
    again = trainer_for(tmp_path, data, early_stopping_patience=1, resume=True) if first.fit() else None
    assert again.fit()["train/steps"] == 20


def test_exploding_gradients_are_said(tmp_path, data, capsys):
    trainer_for(tmp_path, data, act_weight=1e6, max_steps=5).fit()
    assert "exploding gradients" in capsys.readouterr().out


def test_early_stopping(tmp_path, data):
    trainer = trainer_for(tmp_path, data, early_stopping_patience=1, max_steps=30)
    trainer.evaluate = lambda model: {"valid/exact_accuracy": 0.5}
    assert trainer.fit()["train/steps"] == 20  # the second evaluation brings no gain


def test_float16_is_refused_on_a_cpu_and_bfloat16_trains(tmp_path, data):
    with pytest.raises(ParameterError, match="float16.*CUDA"):
        trainer_for(tmp_path, data, precision="float16", backend="cpu")
    trainer = trainer_for(tmp_path, data, precision="bfloat16", backend="cpu", max_steps=10)
    trainer.fit()
    assert trainer.plain_model.lm_head.weight.dtype == torch.float32


def test_unknown_trackers_are_named(tmp_path, data):
    with pytest.raises(ParameterError, match="log_with.*tensorboard"):
        trainer_for(tmp_path, data, log_with="tensorbord")


def test_torch_xla_is_not_picked_up_unless_asked():
    assert os.environ["USE_TORCH_XLA"] == "0"


def test_one_process_in_place_of_several_is_said(tmp_path, data, monkeypatch, capsys):
    """What `accelerate launch --num_processes 2 --cpu` sets."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setenv("MASTER_PORT", "29500")
    trm.trainer._note_a_missing_process.cache_clear()
    for _ in range(2):
        trainer_for(tmp_path, data)
    assert capsys.readouterr().out.count("torch.distributed.run") == 1


@pytest.mark.slow
def test_two_processes_equal_one_at_the_same_global_batch(tmp_path):
    """As `accelerate launch` starts them on several GPUs: by torch's own launcher."""
    script = [
        str(ROOT / "book" / "04_trm_train.py"),
        "-f",
        str(ROOT / "params" / "04_smoke.yaml"),
        "-p",
        "backend",
        "cpu",
    ]
    script += ["-p", "max_steps", "12", "-p", "step_schedule", "decay"]
    env = os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *script, "-p", "output_dir", str(tmp_path / "one")], check=True, env=env)
    whole = [sys.executable, *TWO_PROCESSES, *script, "-p", "output_dir", str(tmp_path / "two")]
    done = subprocess.run(whole, check=True, env=env, capture_output=True, text=True)
    assert done.stdout.count(f" in {tmp_path / 'two'}\n") == 2  # each process says where it runs
    one, two = (numbers(tmp_path / n) for n in ("one", "two"))
    for a, b in zip(one[0], two[0], strict=True):
        for name in a:
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-5), name
    for name in one[1]:
        torch.testing.assert_close(one[1][name], two[1][name], atol=1e-5, rtol=0)
