"""Wall-clock time until a share of unseen puzzles is solved: this package and the official code of the paper, side by side.

    python tests/benchmarks/time_to_accuracy.py --official PATH --pack 6x6 --target 0.95 --limit 1200 --out FILE

PATH: a checkout of SamsungSAILMontreal/TinyRecursiveModels, whose model, loss, EMA and data set classes are imported from it.
Every run is a process of its own with empty compile caches. Its clock starts, data loaded and modules imported, before the
model is built, and stops at the end of the first evaluation that reaches the target. Evaluations count; `Watch` says when they
come, by one rule for both, and one ends where so many puzzles are wrong that the target is out of reach. The official code
runs with one and with two threads for the first seed, then with the better of the two.

Both train on the same puzzles. Ours are augmented as they are drawn, within the time; the official ones before the clock
starts, as the official script does, into the folder that its own data set class reads: the difference is in its favour.
`-p NAME VALUE` and `-f FILE.yaml` set parameters of chapter 04, `-o NAME VALUE` what `OFFICIAL` and `TRAINING` list. FILE gets
one line of JSON per run; runs that it holds already, with the same options, are not repeated. The last line printed is JSON.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path

from trm.errors import show_user_errors_plainly

ROOT = Path(__file__).resolve().parents[2]
TEST_PUZZLES, AT_ONCE = 500, 50
EVALUATING = 0.1  # share of the time that evaluation may take
# The official model and training, at a size and with a rate at which it learns on a CPU (its own fused optimizer needs a GPU).
OFFICIAL = {
    "H_cycles": 2, "L_cycles": 2, "H_layers": 0, "L_layers": 2, "hidden_size": 64, "expansion": 4, "num_heads": 4,
    "mlp_t": True, "puzzle_emb_ndim": 0, "puzzle_emb_len": 0, "pos_encodings": "none", "halt_max_steps": 16,
    "halt_exploration_prob": 0.1, "no_ACT_continue": True, "forward_dtype": "float32", "batch_size": 64,
}  # fmt: skip
TRAINING = {"lr": 3e-3, "weight_decay": 0.01, "warmup_steps": 0, "ema": 0.999, "num_aug": 100, "compile": False}


class Watch:
    """The clock of one run, and when it evaluates: when 5 % more time has passed than at the end of the last evaluation (at
    least a second) and all evaluations together have taken at most `EVALUATING` of the time; at the limit; and where training
    ends before it."""

    def __init__(self, target: float, limit: float, clock: Callable[[], float] = time.perf_counter):
        self.target, self.limit, self.clock, self.started = target, limit, clock, clock()
        self.due, self.evaluating, self.over = 1.0, 0.0, False
        self.evaluations: list[tuple[float, int, float]] = []  # (seconds at its end, optimizer steps, accuracy)

    def look(self, step: int, right: Callable[[slice], int], size: int, last: bool = False) -> None:
        """After an optimizer step: evaluate, if it is time to. The run is `over` at the target and at the limit.

        right: how many of a slice of the `size` test puzzles are solved; last: evaluate in any case.
        """
        begun = self.clock() - self.started
        if begun < min(self.due, self.limit) and not last:
            return
        found = self._accuracy(right, size)
        ended = self.clock() - self.started
        self.evaluations.append((round(ended, 3), step, found))
        self.evaluating += ended - begun
        self.over = found >= self.target or ended >= self.limit
        self.due = max(ended + 1, 1.05 * ended, self.evaluating / EVALUATING)

    def _accuracy(self, right: Callable[[slice], int], size: int) -> float:
        """Share of the puzzles that are solved; of those looked at, where the target is out of reach."""
        solved = seen = 0
        while seen < size and solved + size - seen >= self.target * size:
            solved += right(slice(seen, seen + AT_ONCE))
            seen = min(seen + AT_ONCE, size)
        return solved / seen

    def row(self) -> dict:
        """What the run came to."""
        seconds, steps, accuracy = self.evaluations[-1] if self.evaluations else (0.0, 0, 0.0)
        reached = bool(self.evaluations) and accuracy >= self.target
        row = {"reached": reached, "seconds": seconds, "steps": steps, "accuracy": accuracy}
        return row | {"evaluating": round(self.evaluating, 3), "evaluations": self.evaluations}


def load_data(job: dict):
    """(parameters of chapter 04, the puzzles of both sides): the test part is the first `TEST_PUZZLES` of the pack's."""
    import numpy as np

    from trm.puzzles.dataset import Splits, load
    from trm.puzzles.params import TrmTrain

    params = TrmTrain.create(job["params"] | {"puzzle": job["pack"], "seed": job["seed"]})
    test_size = params.test_size if params.data_path else 0  # a pack has a test part; 0: all of it
    data = load(params.puzzle, params.data_path, params.train_size, params.valid_size, test_size, params.seed)
    test = data.test.subset(np.arange(min(TEST_PUZZLES, len(data.test))))
    return params, Splits(data.train, data.valid, test)


def run_ours(job: dict) -> dict:
    """Train as chapter 04 does, but evaluate when the watch says so."""
    from trm.puzzles.solve import evaluate
    from trm.puzzles.train import make_model, make_trainer
    from trm.run import Run

    params, data = load_data(job)
    with tempfile.TemporaryDirectory() as folder:
        params = params.model_copy(update={"output_dir": folder})
        run = Run(params, "04_trm_train")
        watch = Watch(job["target"], job["limit"])
        trainer = make_trainer(make_model(params, data), params, run, data)
        train_step, trainer.evaluate = trainer._train_step, None

        def right(part: slice) -> int:
            with trainer.ema.averaged() as model:
                return int(evaluate(model, data.test.subset(part), params.eval_steps).exact[:, -1].sum())

        def step_and_look(detail: bool) -> None:
            train_step(detail)
            watch.look(trainer.step, right, len(data.test))

        trainer._train_step, trainer._no_more_gain = step_and_look, lambda: watch.over
        trainer.fit()
        if not watch.over:
            watch.look(trainer.step, right, len(data.test), last=True)
        run.release()
        return watch.row()


def export(data, folder: Path, num_aug: int, seed: int) -> None:
    """Write the puzzles in the format of the official data set class: a group is a puzzle and `num_aug` variants of it."""
    import numpy as np

    from trm.puzzles.sudoku import random_numbers, tokens, transform

    rng = np.random.default_rng(seed)
    for part, puzzles, count in (("train", data.train, num_aug), ("test", data.test, 0)):
        shape, size = puzzles.shape, len(puzzles)
        grids = np.stack((puzzles.questions, puzzles.answers), 1)  # (N, 2, T)
        variants = [transform(shape, grids, rng.random((size, random_numbers(shape)))) for _ in range(count)]
        variants = np.stack((grids, *variants), 1).reshape(-1, 2, shape.cells)  # (N * (1 + count), 2, T)
        arrays = {"inputs": tokens(variants[:, 0]).astype(np.uint8), "labels": tokens(variants[:, 1]).astype(np.uint8)}
        arrays["puzzle_identifiers"] = np.zeros(len(variants), np.int32)
        arrays["puzzle_indices"] = np.arange(len(variants) + 1, dtype=np.int32)
        arrays["group_indices"] = (1 + count) * np.arange(size + 1, dtype=np.int32)
        about = {
            "pad_id": 0, "ignore_label_id": 0, "blank_identifier_id": 0, "vocab_size": shape.vocab_size, "sets": ["all"],
            "seq_len": shape.cells, "num_puzzle_identifiers": 1, "total_groups": size, "mean_puzzle_examples": 1,
            "total_puzzles": size,
        }  # fmt: skip
        (folder / part).mkdir()
        (folder / part / "dataset.json").write_text(json.dumps(about), encoding="utf-8")
        for name, values in arrays.items():
            np.save(folder / part / f"all__{name}.npy", values)


def run_official(job: dict) -> dict:
    """Train the official model on the exported puzzles, by the classes of the checkout."""
    import torch

    sys.path.insert(0, job["official"])
    for name in ("einops", "argdantic"):  # imported there, not used by what is run here
        try:
            __import__(name)
        except ImportError:
            sys.modules[name] = types.SimpleNamespace(ArgParser=object)
    from models.ema import EMAHelper
    from models.losses import ACTLossHead
    from models.recursive_reasoning.trm import TinyRecursiveReasoningModel_ACTV1
    from puzzle_dataset import PuzzleDataset, PuzzleDatasetConfig

    unknown = sorted(set(job["changes"]) - set(OFFICIAL) - set(TRAINING))
    if unknown:
        raise SystemExit(f"-o {unknown[0]}: no such setting; there are {', '.join(OFFICIAL | TRAINING)}")
    arch, how = ({n: job["changes"].get(n, v) for n, v in known.items()} for known in (OFFICIAL, TRAINING))
    _, data = load_data(job)
    with tempfile.TemporaryDirectory() as folder:
        export(data, Path(folder), how["num_aug"], job["seed"])

        def batches(part: str, size: int):
            config = dict(seed=job["seed"], dataset_paths=[folder], global_batch_size=size, epochs_per_iter=10)
            kind = PuzzleDatasetConfig(**config, test_set_mode=part == "test", rank=0, num_replicas=1)
            return PuzzleDataset(kind, split=part)

        size = arch["batch_size"]
        train, (test,) = batches("train", size), [batch for _, batch, _ in batches("test", len(data.test))]
        shape = data.train.shape
        torch.manual_seed(job["seed"])
        watch, step, carry = Watch(job["target"], job["limit"]), 0, None
        known = {"seq_len": shape.cells, "vocab_size": shape.vocab_size, "num_puzzle_identifiers": 1}
        model = ACTLossHead(TinyRecursiveReasoningModel_ACTV1(arch | known), "stablemax_cross_entropy")
        if how["compile"]:
            model.compile()
        optimizer = torch.optim.AdamW(model.parameters(), how["lr"], (0.9, 0.95), weight_decay=how["weight_decay"])
        ema = EMAHelper(how["ema"])
        ema.register(model)

        def right(part: slice) -> int:
            averaged, batch, done = ema.ema_copy(model).eval(), {n: v[part] for n, v in test.items()}, False
            with torch.inference_mode():
                state = averaged.initial_carry(batch)
                while not done:
                    state, _, metrics, _, done = averaged(return_keys=[], carry=state, batch=batch)
            return int(metrics["exact_accuracy"])

        model.train()
        while not watch.over:
            for _, batch, _ in train:
                carry = model.initial_carry(batch) if carry is None else carry
                for group in optimizer.param_groups:
                    group["lr"] = how["lr"] * min(1.0, (step + 1) / max(how["warmup_steps"], 1))
                carry, loss, _, _, _ = model(return_keys=[], carry=carry, batch=batch)
                (loss / size).backward()
                optimizer.step()
                optimizer.zero_grad()
                ema.update(model)
                step += 1
                watch.look(step, right, len(data.test))
                if watch.over:
                    break
        return watch.row()


SIDES = {"ours": run_ours, "official": run_official}


def read_rows(path: Path) -> list[dict]:
    """The rows of a file, without a line that was cut off."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def measure(job: dict, path: Path) -> dict:
    """The row of `job` in the file, else that of a new process, which appends it."""
    same = [row for row in read_rows(path) if all(row.get(name) == value for name, value in job.items())]
    if not same:
        with tempfile.TemporaryDirectory() as cache:
            where = {"TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor", "TRITON_CACHE_DIR": f"{cache}/triton"}
            where |= {"PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
            threads = {"OMP_NUM_THREADS": str(job["threads"])} if job["threads"] else {}
            load = round(os.getloadavg()[0], 2)
            command = [sys.executable, __file__, "--run", job["side"], json.dumps(job)]
            done = subprocess.run(command, env=os.environ | where | threads, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"the {job['side']} run of seed {job['seed']} ended with status {done.returncode}")
        same = [job | {"load_before": load} | json.loads(done.stdout.splitlines()[-1])]
        path.write_text("".join(json.dumps(row) + "\n" for row in [*read_rows(path), *same]), encoding="utf-8")
    row = same[0]
    threads = f", {row['threads']} threads" if row["threads"] else ""
    missed = "" if row["reached"] else " (target not reached)"
    took = f"{row['seconds']:.1f} s, of which {row['evaluating']:.1f} s evaluation, {row['steps']} steps"
    print(f"{row['side']}, seed {row['seed']}{threads}: {took}, accuracy {row['accuracy']:.3f}{missed}", flush=True)
    return row


def better(rows: list[dict]) -> dict:
    """The row that reached the target first; where none did, the one that took most steps."""
    return min(rows, key=lambda row: (not row["reached"], row["seconds"] if row["reached"] else -row["steps"]))


def summary(ours: list[dict], official: list[dict], limit: float) -> dict:
    """Medians over the seeds. `censored`: the official median run did not reach the target, its seconds are the limit; where
    that of ours did not, `ours_seconds` and the ratio are null."""

    def median(rows: list[dict], name: str) -> float:
        return statistics.median([row[name] if row["reached"] else math.inf for row in rows] or [math.inf])

    sides = {"ours": ours, "official": official}
    found = {side: median(rows, "seconds") for side, rows in sides.items()}
    steps = {side: median(rows, "steps") for side, rows in sides.items()}
    censored = bool(official) and found["official"] == math.inf
    if censored:
        found["official"] = limit
    result = {f"{side}_seconds": None if value == math.inf else value for side, value in found.items()}
    result |= {f"{side}_steps": None if value == math.inf else value for side, value in steps.items()}
    known = math.inf not in found.values()
    result["ratio"] = round(found["official"] / found["ours"], 3) if known else None
    return result | {"censored": censored, "official_threads": official[0]["threads"] if official else None}


def setting(text: str):
    """A value of `-o`: a number, true or false, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """Measure and print."""
    show_user_errors_plainly()
    if sys.argv[1:2] == ["--run"]:
        return print(json.dumps(SIDES[sys.argv[2]](json.loads(sys.argv[3]))))
    others = "-p NAME VALUE and -f FILE.yaml, as often as needed: parameters of chapter 04"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], epilog=others, allow_abbrev=False)
    parser.add_argument("--official", help="checkout of the official code")
    parser.add_argument("--pack", default="6x6", choices=["4x4", "6x6", "6x6-hard", "9x9"])
    parser.add_argument("--target", type=float, default=0.95, help="share of the test puzzles")
    parser.add_argument("--limit", type=float, default=1200, help="seconds of a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file of JSON lines, one per run")
    parser.add_argument("-o", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="of the official")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--ours-only", action="store_true")
    only.add_argument("--official-only", action="store_true")
    options, rest = parser.parse_known_args()
    if not options.ours_only and not Path(options.official or "", "models", "recursive_reasoning", "trm.py").exists():
        parser.error("--official: give a checkout of SamsungSAILMontreal/TinyRecursiveModels, or --ours-only")
    given: dict = {}
    if rest:
        from trm.params import from_command_line  # imports torch

        given = from_command_line(rest)
    changes = {name: setting(value) for name, value in options.o}
    shared = {name: getattr(options, name) for name in ("pack", "target", "limit")}
    # which puzzles there are, for both sides
    data = {name: given[name] for name in ("data_path", "train_size", "valid_size", "test_size") if name in given}
    official = {"side": "official", **shared, "params": data, "changes": changes}
    ours: list[dict] = []
    theirs: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        path = options.out or Path(folder, "rows.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        for seed in range(options.seeds):
            if not options.official_only:
                ours.append(measure({"side": "ours", **shared, "params": given, "seed": seed, "threads": 0}, path))
            if not options.ours_only:
                where = os.path.abspath(options.official)
                counts = [theirs[0]["threads"]] if theirs else [1, 2]
                tried = [measure(official | {"seed": seed, "threads": n, "official": where}, path) for n in counts]
                theirs.append(better(tried))
    print(json.dumps({**shared, "seeds": options.seeds, **summary(ours, theirs, options.limit)}))


if __name__ == "__main__":
    main()
