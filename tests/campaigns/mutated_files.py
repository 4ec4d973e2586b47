"""Damaged files against every reader: each must give an answer or one `UserError`, within three seconds.

python tests/campaigns/mutated_files.py --count 2000 --seed 0
"""

import argparse
import contextlib
import faulthandler
import io
import json
import lzma
import random
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from trm.checkpoint import load_checkpoint, load_pretrained, save_checkpoint
from trm.compressor.model import Compressor
from trm.compressor.states import StateStore
from trm.errors import UserError
from trm.language.gsm8k import exercises
from trm.language.lm import load_lm, smollm3
from trm.language.stories import make_tokenizer
from trm.language.text import documents
from trm.latent.reasoner import LatentReasoner, ReasonerConfig, load_reasoner
from trm.model import TRM, TRMConfig
from trm.params import read_yaml
from trm.parsing import grammar
from trm.parsing.batches import Vocabulary
from trm.parsing.evaluate import parse
from trm.parsing.model import Parser
from trm.parsing.params import Parsing
from trm.parsing.train import Data, make_parser
from trm.parsing.treebank import load_treebank
from trm.puzzles import dataset
from trm.puzzles.solve import load_model
from trm.puzzles.sudoku import PACKS
from trm.recursive_lm.model import LMConfig, RecursiveLanguageModel, load_recursive_lm
from trm.report.claims import evaluate_claims, read_claims
from trm.run import ROOT, read_history
from trm.scaling.experiments import read_runs
from trm.sweep.chapters import schema_of
from trm.sweep.spec import read_sweep
from trm.sweep.table import own_tables, results, short, statuses

SECONDS = 3.0
INSERTED = [
    b"\xff", b"\x00", b"\n", b"\n\n", b"\r", b"\t", b",", b'"', b"'", b":", b"- ", b"{", b"}", b"[", b"]", b"#", b"nan", b"-1",
    b"null", b"1e999", b"9" * 30, b"9" * 5000, b"&a ", b"*a", b"<<: ", b"!!int x", b"2001-99-99", b"\\ud800", b"\xef\xbb\xbf",
]  # fmt: skip
ENCODINGS = ["utf-16", "utf-16-le", "latin-1", "utf-8-sig"]


def mutated(content: bytes, draw: random.Random) -> bytes:
    """`content` after one to three mutations."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        kind, at, lines = draw.randrange(9), draw.randrange(len(content) + 1), content.split(b"\n")
        line = draw.randrange(len(lines))
        if kind == 0 and content:  # a bit
            at = draw.randrange(min(len(content), draw.choice((64, 2**30))))
            content = content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + draw.choice(INSERTED) + content[at:]
        elif kind == 2:
            content = content[:at] + content[at + draw.choice((1, 3, 20, 2**30)) :]
        elif kind == 3:  # a line removed, one doubled, all in another order
            lines = draw.choice((lines[:line] + lines[line + 1 :], lines[:line] + lines[line:][:1] + lines[line:]))
            content = b"\n".join(lines)
        elif kind == 4:
            content = b"\n".join(draw.sample(lines, len(lines)))
        elif kind == 5:
            text = content.decode("utf-8", "ignore")
            content = text.encode(draw.choice(ENCODINGS), "ignore")
        elif kind == 6:  # one number or sign for another
            old, new = draw.choice([b"1", b"0", b"2", b",", b":", b"e", b'"']), draw.choice(INSERTED)
            content = content[:at] + content[at:].replace(old, new, 1)
        elif kind == 7:
            content = _other_json(content, draw)
        elif kind == 8 and content:
            content = content.replace(b"\n", draw.choice((b"\r\n", b"\r", b"\n\n")))
    return content


def _other_json(content: bytes, draw: random.Random) -> bytes:
    """JSON with a field removed or of another kind; what is not JSON as it is."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(content)
        inside = value
        while isinstance(inside, (dict, list)) and inside:
            key = draw.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
            if not isinstance(inside[key], (dict, list)) or not inside[key] or draw.random() < 0.3:
                inside[key] = draw.choice([None, True, -1, 0, 10**12, 1.5, "x", "", [], {}, [1], {"a": 1}])
                if isinstance(inside, dict) and draw.random() < 0.4:
                    del inside[key]
                break
            inside = inside[key]
        return json.dumps(value).encode()
    return content


def _results(path: Path) -> None:
    """What a sweep collects of its only run, whose files lie in `path`."""
    sweep = read_sweep(path.parent / "sweep.yaml").model_copy(update={"outputs": path.parent.parent})
    points = sweep.points("smoke")
    if len(table := results(sweep, points)):
        short(table)
    own_tables(sweep, points)
    statuses(sweep, points)


def _read_sweep(path: Path) -> None:
    sweep = read_sweep(path)
    for scale in sweep.scales:
        sweep.points(scale)


def _parser() -> tuple[Parser, str]:
    """A small parser, and a treebank as CoNLL-U."""
    bank = grammar.treebank(2, train=20, dev=1, test=1)
    vocabulary = Vocabulary.of(bank.train, min_count=1)
    params = Parsing.create({"hidden_size": 16, "num_heads": 2, "arc_size": 8, "label_size": 4})
    parser = make_parser(params, Data(bank, vocabulary, {"train": vocabulary.encode(bank.train)}))
    blocks = (
        "".join(
            f"{i}\t{word}\t_\t{tag}\t_\t_\t{head}\t{label}\t_\t_\n"
            for i, (word, tag, head, label) in enumerate(zip(*asdict(s).values()), 1)
        )
        for s in bank.train
    )
    return parser, "\n".join(blocks)


def readers(folder: Path) -> dict[str, tuple[Callable[[Path], object], list[Path]]]:
    """name -> what reads, and the files that are damaged, one at a time; all are written below `folder`. What reads is given
    the first of them, or for the models their folder."""
    found: dict[str, tuple[Callable, list[Path]]] = {}

    def files(name: str, reader: Callable, **contents: bytes | str) -> None:
        paths = []
        for file, content in contents.items():
            path = folder / name / (file if "." in file else file.replace("_", "."))
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            paths.append(path)
        found[name] = reader, paths

    def model(name: str, reader: Callable, *saved: object) -> None:
        for one in saved:
            one.save_pretrained(folder / name)
        found[name] = (
            lambda path: reader(folder / name),
            sorted(p for p in (folder / name).iterdir() if p.suffix != ".md"),
        )

    puzzles = b"\n".join(lzma.decompress((PACKS / "sudoku_6x6.csv.xz").read_bytes()).split(b"\n")[:40]) + b"\n"
    parser, conllu = _parser()
    rows = [
        {"question": f"How many are {i} and 2?", "answer": f"It is <<{i}+2={i + 2}>>.\n#### {i + 2}"} for i in range(20)
    ]
    chat = [{"text": f"A text, number {i}."} for i in range(10)] + [{"text": [{"role": "user", "content": "é"}]}]
    runs = b"\n".join((ROOT / "book" / "results" / "10_scaling_research.csv").read_bytes().split(b"\n")[:8]) + b"\n"

    files("puzzles", lambda p: dataset.load("6x6", str(p), 0, 2, 2), a_csv=puzzles)
    files("puzzles, packed", lambda p: dataset.read_puzzles(p), a_csv_xz=lzma.compress(puzzles))
    questions = b"\n".join(line.split(b",")[1] for line in puzzles.splitlines()[1:]) + b"\n"
    files("puzzles without answers", lambda p: dataset.read_puzzles(p), a_txt=questions)
    files("CoNLL-U", lambda p: load_treebank(str(p)), a_conllu=conllu)
    files("parameters", lambda p: schema_of("04").create(read_yaml(p)), a_yaml=_read("params/04_sudoku9.yaml"))
    files("sweep", _read_sweep, a_yaml=_read("params/sweeps/recursive_lm.yaml"))
    table = "02_deep_supervision.csv"
    first = b"\n- ".join(_read("book/claims.yaml").split(b"\n- ")[:25])
    claims = {"a.yaml": first, table: _read(f"book/results/{table}")}
    files("claims", lambda p: evaluate_claims(read_claims(p), p.parent), **claims)
    files("GSM8K", lambda p: list(exercises(str(p), "train")), a_jsonl="".join(json.dumps(row) + "\n" for row in rows))
    files("JSON lines", lambda p: list(documents(str(p))), a_jsonl="".join(json.dumps(row) + "\n" for row in chat))
    files("text", lambda p: list(documents(str(p))), a_txt="### one\nA text.\n\nMore é.\n### two\nB.\n" * 4)
    files("history", lambda p: read_history(p.parent), history_jsonl='{"step": 1, "loss": 0.5}\n{"step": 2}\n' * 9)
    files("runs", lambda p: read_runs([p]), a_csv=runs)

    run = folder / "sweep" / "run"
    run.mkdir()
    (run.parent / "sweep.yaml").write_text("notebook: 04_trm_train\n", encoding="utf-8")
    point = read_sweep(run.parent / "sweep.yaml").points("smoke")[0]
    about = {"run_id": "r", "code": "c", "params": point.params.model_dump()}
    for name, content in {"params": about, "metrics": {"test/exact_accuracy": 0.5, "train/seconds": 3.0}}.items():
        (run / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (run / "table.csv").write_text("arm,seed,mse\nx,0,0.5\ny,0,0.25\n", encoding="utf-8")
    found["sweep results"] = lambda path: _results(run), sorted(run.iterdir())

    torch.manual_seed(0)
    size = {"hidden_size": 16, "expansion": 2.0}
    model("TRM", load_model, TRM(TRMConfig(**size, seq_len=36, vocab_size=8)))
    model("compressor", lambda p: load_pretrained(Compressor, p), Compressor(12, 4))
    model("parser", lambda p: parse(load_pretrained(Parser, p), [["She", "reads"]]), parser)
    model("recursive LM", load_recursive_lm, RecursiveLanguageModel(LMConfig(**size, vocab_size=30, seq_len=40)))
    small = ReasonerConfig(**size, num_heads=2, lm_size=12, d_compressed=6, num_words=5, num_latents=3, seq_len=24)
    reasoner = LatentReasoner(small)
    reasoner.begin(torch.arange(5), torch.randn(5, 12))
    model("reasoner", lambda p: load_reasoner(p, 12), reasoner)
    tokenizer = make_tokenizer(texts=200)
    model("language model", lambda p: load_lm(str(p)), smollm3(tokenizer, 32, 1, seed=0), tokenizer)

    tensors = {"model": {"a": torch.ones(3), "b": torch.zeros(2, 2)}, "sums": {"loss": torch.ones(1)}}
    save_checkpoint(folder / "step_1", tensors, {"step": 1, "best": None})
    found["checkpoint"] = lambda path: load_checkpoint(folder / "step_1"), sorted((folder / "step_1").iterdir())
    (folder / "states").mkdir()
    np.save(folder / "states" / "states.npy", np.ones((9, 4), np.float32))
    (folder / "states" / "starts.json").write_text('{"about": {}, "starts": [0, 4, 9]}', encoding="utf-8")
    found["states"] = lambda path: StateStore(folder / "states").of(0), sorted((folder / "states").iterdir())
    return found


def _read(name: str) -> bytes:
    return (ROOT / name).read_bytes()


def campaign(count: int, seed: int, show: bool = False) -> tuple[dict[str, Counter], list[str]]:
    """(name of each reader -> how often it answered or refused, faults); about `count` files in all."""
    draw, figures, faults = random.Random(seed), {}, []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = readers(Path(folder))
        for name, (read, paths) in known.items():
            figures[name] = Counter()
            whole = {path: path.read_bytes() for path in paths}
            for number in range(-1, -(-count // len(known))):  # first as it is
                path = draw.choice(paths)
                path.write_bytes(mutated(whole[path], draw) if number >= 0 else whole[path])
                outcome, what, started = "answers", "", time.perf_counter()
                faulthandler.dump_traceback_later(60, exit=True)
                try:
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                        read(paths[0])
                except UserError as error:
                    outcome, what = "refusals", str(error)
                    if not what or ("\n" in what and name not in ("parameters", "sweep")):  # which name every fault
                        outcome = "not one line"
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # also a panic of Rust
                    outcome = type(error).__name__
                    what = "".join(traceback.format_exception(error)[-3:])
                faulthandler.cancel_dump_traceback_later()
                if time.perf_counter() - started > SECONDS:
                    outcome = "too slow"
                if number < 0 and outcome != "answers":
                    outcome = "whole, but refused"
                if show:
                    print(f"{name}: {outcome} {what[:300]}")
                figures[name][outcome] += 1
                if outcome not in ("answers", "refusals"):
                    faults.append(f"{name}, {path.name}, number {number}: {outcome}: {what}")
                path.write_bytes(whole[path])
    return figures, faults


def main() -> int:
    """Run the campaign; 1 where a reader failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="damaged files, over all readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print every outcome")
    args = parser.parse_args()
    figures, faults = campaign(args.count, args.seed, args.show)
    for name, outcomes in figures.items():
        print(f"{name:16} " + ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()))
    print(*faults, sep="\n")
    return bool(faults)


if __name__ == "__main__":
    raise SystemExit(main())
