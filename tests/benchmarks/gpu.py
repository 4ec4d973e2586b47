"""What can be checked on a GPU alone, in order of worth, within the minutes that are given.

    python tests/benchmarks/gpu.py --minutes 10 [--out outputs/gpu.json] [--data FILE.csv.xz] [--tiny]

CPU and GPU agree; training in every precision; no step waits for the GPU; compiled and as a CUDA graph; examples per second at
the paper's size; the batch that fits; and in the minutes left the paper's recipe on hard puzzles, accuracy by time. The file is
written after each part: a run that is cut off keeps what it has. A part that fails is recorded with its error, and the next one
begins. Without CUDA all is done in a tiny form on the CPU, which only shows that it runs.

FILE: puzzles of 9x9, by default sudoku/puzzles5_forum_hardest_1905_11plus.csv.xz in the folder TRM_DATA_DIR.
"""

import argparse
import gc
import os
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from trm.flops import step_flops
from trm.model import TRM
from trm.params import read_yaml
from trm.puzzles.dataset import PuzzleBatches, Splits, load
from trm.puzzles.params import TrmTrain
from trm.puzzles.solve import evaluate
from trm.puzzles.train import make_model, make_trainer
from trm.run import ROOT, Run, to_json, write_atomically
from trm.trainer import Trainer

HARDEST = "sudoku/puzzles5_forum_hardest_1905_11plus.csv.xz"
TINY = {"hidden_size": 16, "expansion": 2.0, "inner_multiple": 8, "num_heads": 2, "H_cycles": 2, "L_cycles": 1}
RESERVE = 20  # seconds kept for the end


@cache
def shipped(puzzle: str) -> Splits:
    """The puzzles that ship, eight of them to watch and eight to test on."""
    return load(puzzle, "", 0, 8, 8)


@dataclass
class Bench:
    """What all parts share."""

    device: torch.device
    tiny: bool
    ends: float  # time.monotonic() at which the minutes are over
    data_path: str
    folder: Path

    @property
    def puzzle(self) -> str:
        """The size of the puzzles of all parts but the last."""
        return "4x4" if self.tiny else "9x9"

    def params(self, **changes) -> TrmTrain:
        """The paper's model and training, tiny where the bench is, on the puzzles that ship."""
        values = read_yaml(ROOT / "params" / "04_paper.yaml")
        data = {"puzzle": self.puzzle, "data_path": "", "train_size": 0, "num_aug": 0, "valid_size": 8, "test_size": 8}
        values |= data | {"compile": False, "warmup_steps": 0, "precision": "float32"}
        if self.tiny:
            values |= TINY | {"batch_size": 4, "max_steps": 3, "halt_max_steps": 2, "eval_steps": 2}
        return TrmTrain.create(values | changes)

    def trainer(self, params: TrmTrain, data: Splits | None = None, name: str = "run") -> Trainer:
        """A trainer in a fresh folder."""
        params = params.model_copy(update={"output_dir": tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder)})
        data = data or shipped(params.puzzle)
        return make_trainer(make_model(params, data), params, Run(params, "04_trm_train"), data)

    def batch(self, size: int, seed: int = 0, device: torch.device | None = None) -> dict[str, Tensor]:
        """Puzzles that ship, on the device."""
        found = PuzzleBatches(shipped(self.puzzle).train, size, seed)(0)
        return {name: torch.from_numpy(values).to(device or self.device) for name, values in found.items()}

    def seconds_left(self) -> float:
        """Until the minutes are over."""
        return self.ends - time.monotonic() - RESERVE

    def seconds(self, step: Callable[[], object], warm: int = 3, rounds: int = 20) -> float:
        """Seconds of one `step`, mean over the rounds, after some to warm up."""
        warm, rounds = (1, 2) if self.tiny else (warm, rounds)
        for _ in range(warm):
            step()
        self.wait()
        started = time.perf_counter()
        for _ in range(rounds):
            step()
        self.wait()
        return (time.perf_counter() - started) / rounds

    def wait(self) -> None:
        """Until the device has done all."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def agreement(bench: Bench) -> dict:
    """Loss and gradients of the same model and batch on the CPU and on the device, three steps in turn, in float32: the largest
    difference relative to the largest entry. TF32 is off, as torch has it unless asked."""
    found = {}
    for name, changes in {"mlp": {}, "attention": {"mixer": "attention"}, "full": {"backprop": "full"}}.items():
        params, states, worst = bench.params(**changes), [None, None], {"loss": 0.0, "gradients": 0.0}
        config = params.trm_config()
        torch.manual_seed(0)
        models = [TRM(config), TRM(config)]
        models[1].load_state_dict(models[0].state_dict())
        models[1].to(bench.device)
        for step in range(3):
            losses = []
            for i, model in enumerate(models):
                model.zero_grad()
                out = model.loss(bench.batch(8, step, model.embed.device), states[i])
                out.loss.backward()
                states[i] = out.state
                losses.append(float(out.loss.detach()))
            pairs = zip(*([p.grad.cpu() for p in model.parameters()] for model in models))
            differences = [float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in pairs]
            worst["loss"] = max(worst["loss"], abs(losses[0] - losses[1]) / abs(losses[0]))
            worst["gradients"] = max(worst["gradients"], *differences)
        found[name] = worst
    return found


def precisions(bench: Bench) -> dict:
    """The same training in every precision: the losses at its beginning and end, and seconds per step."""
    found, steps = {}, 3 if bench.tiny else 200
    for precision in ("float32", "bfloat16") + (("float16",) if bench.device.type == "cuda" else ()):
        params = bench.params(precision=precision, max_steps=steps, batch_size=4 if bench.tiny else 128, log_interval=1)
        trainer = bench.trainer(params, name=precision)
        trainer.fit()
        losses = [record["train/total_loss"] for record in trainer.run.history() if "train/total_loss" in record]
        tenth = max(steps // 10, 1)
        first, last = (sum(part) / tenth for part in (losses[:tenth], losses[-tenth:]))
        found[precision] = {"first_loss": first, "last_loss": last, "seconds_per_step": trainer.seconds / steps}
        trainer.run.release()
    return found


def synchronisations(bench: Bench) -> dict:
    """How often ten training steps wait for the device (0 is right; float16's scaler asks for overflows), and where."""
    found = {}
    for precision in ("float32", "bfloat16") + (("float16",) if bench.device.type == "cuda" else ()):
        trainer = bench.trainer(bench.params(precision=precision, batch_size=4 if bench.tiny else 64), name="waits")
        trainer._train_step(detail=False)
        trainer._train_step(detail=False)
        bench.wait()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                if bench.device.type == "cuda":
                    torch.cuda.set_sync_debug_mode("warn")
                for _ in range(10):
                    trainer._train_step(detail=False)
            finally:
                if bench.device.type == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
        waits = [f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)]
        found[precision] = {"waits": len(waits), "where": sorted(set(waits))}
        trainer.run.release()
    return found


def static_step(model: TRM, batch: dict[str, Tensor]) -> Callable[[], None]:
    """A whole training step (loss, gradients, AdamW) in bfloat16 that writes its state where it was."""
    device = model.embed.device.type
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, capturable=device == "cuda")
    state = model.initial_state(len(batch["inputs"]))
    kept = [f.name for f in fields(state) if isinstance(getattr(state, f.name), Tensor)]
    for name in kept:
        setattr(state, name, getattr(state, name).clone())  # the first ones are views of one vector

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        with torch.autocast(device, torch.bfloat16, cache_enabled=False):
            out = model.loss(batch, state)
        out.loss.backward()
        optimizer.step()
        for name in kept:
            getattr(state, name).copy_(getattr(out.state, name))

    return step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """`step` as one CUDA graph."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def compiled(bench: Bench) -> dict:
    """Seconds per step in bfloat16 for a small and a large batch: the trainer's, plain and compiled; without data, clipping and
    averaging (`static_step`), and that as a CUDA graph."""
    found = {}
    for size in (4,) if bench.tiny else (64, 768):
        row = found[f"batch {size}"] = {}
        for name, compile in (("plain", False), ("compiled", True)):
            trainer = bench.trainer(bench.params(batch_size=size, precision="bfloat16", compile=compile), name=name)
            started = time.perf_counter()
            trainer._train_step(detail=False)
            bench.wait()
            row[f"{name}_first_step"] = time.perf_counter() - started
            row[name] = bench.seconds(lambda trainer=trainer: trainer._train_step(detail=False))
            trainer.run.release()
        step = static_step(make_model(bench.params(), shipped(bench.puzzle)).to(bench.device), bench.batch(size))
        row["static"] = bench.seconds(step)
        if bench.device.type == "cuda":
            row["graph"] = bench.seconds(captured(step))
    return found


def matrix_rate(bench: Bench, dtype: torch.dtype) -> float:
    """FLOP/s of a large square product."""
    n = 128 if bench.tiny else 8192
    a, b = (torch.randn(n, n, device=bench.device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / bench.seconds(lambda: a @ b)


def throughput(bench: Bench) -> dict:
    """Examples per second at the paper's size and batch, as a share of what the matrix units give in a large product."""
    found = {}
    for precision in ("bfloat16", "float32"):
        params = bench.params(precision=precision, compile=not bench.tiny)
        trainer = bench.trainer(params, name="rate")
        rate = params.batch_size / bench.seconds(lambda trainer=trainer: trainer._train_step(detail=False))
        peak = matrix_rate(bench, getattr(torch, precision))
        flops = step_flops(trainer.plain_model.config) * rate
        found[precision] = {"examples_per_second": rate, "flops": flops, "peak_flops": peak, "share": flops / peak}
        trainer.run.release()
    return found


def largest_batch(bench: Bench) -> dict:
    """The largest power of two that fits in bfloat16, and GB at each (not measured on a CPU)."""
    found: dict[str, float | None] = {}
    cuda = bench.device.type == "cuda"
    size, most = (4, 8) if bench.tiny else (1024, 2**20)
    while size <= most and (bench.tiny or bench.seconds_left() > 0):
        trainer = bench.trainer(bench.params(batch_size=size, precision="bfloat16"), name="batch")
        try:
            if cuda:
                gc.collect()
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            for _ in range(2):
                trainer._train_step(detail=False)
            bench.wait()
            found[str(size)] = torch.cuda.max_memory_allocated() / 1e9 if cuda else None
        except torch.OutOfMemoryError:
            break
        finally:
            trainer.run.release()
            del trainer
        size *= 2
    return {"largest": max(map(int, found), default=0), "gigabytes": found}


def recipe(bench: Bench) -> dict:
    """The paper's recipe on the hard puzzles for the time that is left, with a warm-up that fits: accuracy by time."""
    changes: dict = {"warmup_steps": 200, "precision": "bfloat16", "compile": True, "max_steps": 65104}
    changes |= {"eval_interval": 250, "log_interval": 50, "checkpoint_interval": 10**6, "valid_size": 500}
    changes |= {"data_path": bench.data_path, "train_size": 1000, "num_aug": 1000, "test_size": 2000}
    if bench.tiny:
        changes = {"max_steps": 4, "eval_interval": 2, "log_interval": 1}
    elif not bench.data_path:
        return {"skipped": "no file of puzzles: give --data, or set TRM_DATA_DIR"}
    params = bench.params(**changes)
    data = load(params.puzzle, params.data_path, params.train_size, params.valid_size, params.test_size)
    if not bench.tiny and bench.seconds_left() < 30:
        return {"skipped": "no time left"}
    params = params.model_copy(update={"time_limit": max(bench.seconds_left(), 1) / 60})
    trainer = bench.trainer(params, data, name="recipe")
    measured = trainer.fit()
    names = ("step", "train/seconds", "valid/exact_accuracy", "valid/cell_accuracy")
    curve = [[r[name] for name in names] for r in trainer.run.history() if "valid/exact_accuracy" in r]
    trainer.run.release()
    with trainer.ema.averaged() as averaged:
        tested = evaluate(averaged, data.test, params.eval_steps).metrics("test")
    return {**measured, "columns": names, "curve": curve, **tested}


PARTS = (agreement, precisions, synchronisations, compiled, throughput, largest_batch, recipe)


def main(arguments: list[str] | None = None) -> dict:
    """Run all parts; returns what the file holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "gpu.json")
    parser.add_argument("--data", default="", help="file of 9x9 puzzles")
    parser.add_argument("--tiny", action="store_true", help="the tiny form, which a machine without CUDA always takes")
    options = parser.parse_args(arguments)
    cuda = torch.cuda.is_available()
    if not cuda:
        print("no CUDA here: the tiny form, on the CPU", flush=True)
    default = Path(os.environ.get("TRM_DATA_DIR", ""), HARDEST)
    data_path = options.data or (str(default) if default.exists() else "")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    name = torch.cuda.get_device_name() if cuda else "cpu"
    found: dict = {"device": name, "torch": torch.__version__, "tiny": options.tiny or not cuda}
    with tempfile.TemporaryDirectory() as folder:
        ends = time.monotonic() + 60 * options.minutes
        bench = Bench(torch.device("cuda" if cuda else "cpu"), found["tiny"], ends, data_path, Path(folder))
        for part in PARTS:
            started = time.monotonic()
            try:
                result = part(bench) if bench.tiny or bench.seconds_left() > 0 else {"skipped": "no time left"}
            except Exception as error:
                result = {
                    "error": f"{type(error).__name__}: {error}",
                    "where": traceback.format_exc().splitlines()[-8:],
                }
            found[part.__name__] = result | {"seconds": round(time.monotonic() - started, 2)}
            write_atomically(options.out, to_json(found, indent=1))
            print(f"{part.__name__}: {to_json(found[part.__name__])}", flush=True)
            gc.collect()  # a trainer and what it holds refer to each other
            if cuda:
                torch.cuda.empty_cache()
    return found


if __name__ == "__main__":
    main()
