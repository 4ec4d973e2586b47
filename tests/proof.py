"""Proof that a change of structure changes no number: store what the code computes, change it, store again, compare.

    python tests/proof.py store FILE.json [--only NAME ...]
    python tests/proof.py compare BEFORE.json AFTER.json [--tolerance 1e-6]

Stored are the resolved parameters of every chapter, YAML file and sweep point; the history of 200 steps of chapters
02, 04, 05, 06 and 08 and the metrics of every chapter at smoke scale, with every arm; and what the shipped models
answer. Everything runs on one thread, so that two files of one machine are equal to the bit. Seconds are left out.
"""

import argparse
import ast
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMES = re.compile(
    r"second|decoding_over|minute|milli|hour|/ms|_ms|tokens_per|per_second|speedup|memory|faster|ratio_time|times$|share"
)

# name -> chapter and its flags. "full": 200 steps of the defaults; "smoke": the smoke scale, with every arm.
RUNS = {
    "full-02": "02_deep_supervision -p max_steps 200 -p test_size 200",
    "full-04": "04_trm_train -p max_steps 200",
    "full-05": "05_poh_ablation -p max_steps 200",
    "full-06": "06_recursive_lm -p max_steps 200 -p test_size 20",
    "full-08": "08_grpo -p max_steps 200 -p test_size 50",
    "smoke-01": "01_compressor -f params/01_smoke.yaml",
    "smoke-02": "02_deep_supervision -f params/02_smoke.yaml -p num_seeds 2 "
    "-p arms none,linear,none/last,curriculum,adaptive,middle/last",
    "smoke-03": "03_act_halting -f params/03_smoke.yaml "
    "-p arms q,q_continue,annealed,depth,act:5e-3,act_alone,ponder,graves",
    "smoke-04": "04_trm_train -f params/04_smoke.yaml",
    "smoke-04-attention": "04_trm_train -f params/04_smoke.yaml -p mixer attention -p puzzle_tokens 2 -p loss_type stablemax "
    "-p optimizer adam_atan2 -p backprop per_cycle -p schedule exponential -p lr_schedule cosine",
    "smoke-04-graves": "04_trm_train -f params/04_smoke.yaml -p halting graves -p grad_accumulation 2",
    "shipped-07": "07_latent_reasoning -p max_steps 6 -p test_size 64 -p valid_size 16 -p timed 16 -p lm_loss_every 2 "
    "-p lm_loss_start 2",
    "smoke-09": "09_tpu_scaling -f params/09_smoke.yaml",
    "smoke-10": "10_scaling_laws -f params/10_smoke.yaml",
    "smoke-11": "11_report -f params/11_smoke.yaml",
}
ARMS = {
    "05_poh_ablation": ("trm.parsing.params", "PARSER_ARMS", "baseline_arm"),
    "06_recursive_lm": ("trm.recursive_lm.params", "LM_ARMS", "baseline_arm"),
    "07_latent_reasoning": ("trm.latent.params", "LATENT_ARMS", "arm"),
}


def schemas() -> dict:
    """The schema of each chapter."""
    from trm.sweep.chapters import CHAPTERS, schema_of

    return {chapter: schema_of(chapter) for chapter in CHAPTERS}


def arms(chapter: str) -> list[str]:
    """The names of a chapter's arms."""
    module, name, _ = ARMS[chapter]
    return list(getattr(importlib.import_module(module), name))


def all_runs() -> dict[str, str]:
    """`RUNS`, and a run at smoke scale for every arm of the chapters that have one arm a run."""
    runs = dict(RUNS)
    for chapter, (_, _, flag) in ARMS.items():
        number = chapter[:2]
        runs[f"smoke-{number}"] = f"{chapter} -f params/{number}_smoke.yaml"
        for arm in arms(chapter):
            runs[f"smoke-{number}-{arm}"] = f"{chapter} -f params/{number}_smoke.yaml -p {flag} {arm}"
    runs["smoke-08"] = "08_grpo -f params/08_smoke.yaml"
    for name in ("Dr.GRPO", "DAPO"):
        runs[f"smoke-08-{name}"] = f"08_grpo -f params/08_smoke.yaml -p algorithm {name}"
    return runs


def cell_values(chapter: str) -> dict:
    """The assignments of the parameters cell of a chapter."""
    source = (ROOT / "book" / f"{chapter}.py").read_text(encoding="utf-8")
    cell = source.split('# %% tags=["parameters"]\n')[1].split("\n# %%")[0]
    return {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(cell).body}


def resolved() -> dict:
    """Parameters of every chapter, every YAML file, and every point of every sweep at every scale."""
    import yaml

    from trm.sweep.spec import read_sweeps

    found = {}
    for chapter, schema in schemas().items():
        if not (ROOT / "book" / f"{chapter}.py").exists():
            continue
        own = cell_values(chapter)
        found[f"chapter {chapter}"] = schema.create(own).model_dump()
        for path in sorted((ROOT / "params").glob(f"{chapter[:2]}_*.yaml")):
            values = own | yaml.safe_load(path.read_text(encoding="utf-8"))
            try:
                found[f"file {path.name}"] = schema.create(values).model_dump()
            except Exception as error:
                found[f"file {path.name}"] = f"{type(error).__name__}: {error}"
    for name, sweep in read_sweeps().items():
        for scale in sweep.scales:
            for point in sweep.points(scale):
                values = point.params.model_dump() if point.params else point.unavailable
                found[f"sweep {name} {scale} {point.name}"] = values
    return found


def digest(tensor) -> str:
    """Hash of a tensor's numbers, and their sum to look at."""
    tensor = tensor.detach().cpu().contiguous()
    return f"{hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]} sum {tensor.double().sum().item()!r}"


def shipped() -> dict:
    """Logits of the shipped Sudoku models after two supervision steps; the other shipped models answer in runs."""
    import torch

    from trm.puzzles.solve import shipped_model, solve

    found = {}
    for puzzle in ("6x6", "9x9"):
        model = shipped_model(puzzle)[0]
        generator = torch.Generator().manual_seed(0)
        cells, words = model.config.seq_len, model.config.vocab_size
        inputs = torch.randint(1, words, (4, cells), generator=generator)
        thoughts = solve(model, inputs, steps=4)
        for name, value in vars(thoughts).items():
            for key, part in value.items() if isinstance(value, dict) else [("", value)]:
                found[f"{puzzle} {name} {key}"] = digest(torch.as_tensor(part))
    return found


def run_chapter(command: str) -> dict:
    """Run a chapter as a script; the records and metrics that it leaves, without times."""
    chapter, *flags = command.split()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONPATH": str(ROOT)}
        line = [sys.executable, f"book/{chapter}.py", *flags, "-p", "output_dir", folder]
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            return {"failed": done.stderr[-2000:]}
        found = {}
        for path in sorted(Path(folder).rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.name == "history.jsonl":
                found[name] = [timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
            elif path.name == "metrics.json":
                found[name] = timeless(json.loads(path.read_text(encoding="utf-8")))
            elif path.name == "model.safetensors":
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


def timeless(values: dict) -> dict:
    """`values` without what a clock says."""
    return {name: value for name, value in values.items() if not TIMES.search(name)}


def store(path: Path, only: list[str]) -> None:
    """Compute all, or `only` those, and write them after each."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    os.environ["OMP_NUM_THREADS"] = "1"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts = {"resolved": resolved, "shipped": shipped}
    parts |= {name: (lambda command=command: run_chapter(command)) for name, command in all_runs().items()}
    for name, part in parts.items():
        if any(re.fullmatch(pattern, name) for pattern in only or [".*"]):
            found[name] = part()
            path.write_text(json.dumps(found, indent=1), encoding="utf-8")
            print(name, "failed" if "failed" in found[name] else "stored", flush=True)


def differences(a, b, tolerance: float, where: str = ""):
    """Every place where two stored values differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted({*a, *b}):
            if name not in a or name not in b:
                yield f"{where}/{name}: only {'before' if name in a else 'after'}"
            else:
                yield from differences(a[name], b[name], tolerance, f"{where}/{name}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (one, other) in enumerate(zip(a, b)):
            yield from differences(one, other, tolerance, f"{where}[{i}]")
    elif a != b:
        numbers = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (a, b))
        if not (numbers and abs(a - b) <= tolerance * max(abs(a), abs(b), 1)):
            yield f"{where}: {str(a)[:150]} -> {str(b)[:150]}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["store", "compare"])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--only", nargs="*", default=[], help="names, as regular expressions")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative difference that is allowed")
    options = parser.parse_args()
    if options.action == "store":
        store(options.files[0], options.only)
        return 0
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in options.files)
    both = [name for name in before if name in after]
    found = list(differences({n: before[n] for n in both}, {n: after[n] for n in both}, options.tolerance))
    print("\n".join(found))
    print(f"{len(both)} of {len(before)} parts compared, {len(found)} differences")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
