"""A TRM on ARC-AGI: the tasks of a folder, training, and answers by vote, with baselines and controls.

As in the original (arXiv 2510.04871) all pairs of the training tasks and the shown pairs of the judged tasks are trained on,
each variant of a task under an identifier with an embedding of its own; judged are the answers to the test inputs of the
evaluation tasks. Different: tasks may be left out by size (`largest`), and some training tasks can be judged, for the learning
curve.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from trm.errors import UserError
from trm.model import TRM
from trm.progress import Progress
from trm.puzzles.any_puzzle import TokenTraining, make_model  # noqa: F401 (for chapters)
from trm.puzzles.arc import LARGEST, ArcSet, Task, Votes, build, copy_the_input, nearest_output, read_tasks
from trm.puzzles.solve import evaluate_tokens
from trm.puzzles.token_set import TokenBatches, TokenSet
from trm.run import Run
from trm.trainer import Trainer

TRAINED_PAIRS = 500  # of those trained on, to measure the accuracy on
BASELINES = {"copy_the_input": copy_the_input, "nearest_output": nearest_output}


class Arc(TokenTraining):
    """The parameters of a TRM on ARC-AGI."""

    COMPUTED_BY: ClassVar[str] = "trm.puzzles.arc_training"

    data_path: str = Field(
        "",
        description="folder with training and evaluation (JSON files, also .xz and .gz, or folders of task files) and "
        "perhaps concept; or one in the original code's format",
    )
    largest: int = Field(10, ge=2, le=LARGEST, description="side of the canvas; tasks with larger grids are left out")
    num_aug: int = Field(30, ge=0, description="variants of each task, besides itself")
    train_size: int = Field(0, ge=0, description="training tasks; 0: all")
    valid_size: int = Field(0, ge=0, description="training tasks that are judged, for the learning curve; 0: none")
    test_size: int = Field(400, ge=1, description="evaluation tasks that are judged, at most")
    mixer: Literal["mlp", "attention"] = Field("attention", description="how positions are mixed")
    puzzle_tokens: int = Field(1, ge=0, description="tokens put before the puzzle, from its embedding")
    puzzle_lr: float = Field(0.01, ge=0, le=1, description="learning rate of the puzzle embeddings by sign-SGD")


@dataclass(frozen=True)
class ArcSplits:
    """What is trained on, and two sets of tasks that are judged; `valid` may hold none."""

    train: TokenSet
    valid: ArcSet
    test: ArcSet
    left_out: list[str] = field(default_factory=list)  # tasks that cannot be used, each with the reason


def load(params: Arc) -> ArcSplits:
    """The tasks that `params` name, all their variants made; the same for every seed.

    Raises:
        UserError: no such files, or too few tasks.
    """
    if not params.data_path:
        raise UserError(
            "parameter 'data_path': give a folder with training and evaluation tasks of ARC-AGI, such as `data` of "
            "https://github.com/fchollet/ARC-AGI"
        )
    folder, judged = Path(params.data_path).expanduser(), params.valid_size
    if (folder / "train" / "dataset.json").exists():
        if judged:
            raise UserError("parameter 'valid_size': a folder that is built has no tasks left for it; give 0")
        arc, left_out = ArcSet.load(folder), []
    else:
        training, left_out = _read(folder, params.largest, "training", "concept")
        evaluation, more = _read(folder, params.largest, "evaluation")
        left_out = left_out + more
        training = training[: params.train_size + judged if params.train_size else None]
        if len(training) < params.train_size + judged or len(training) <= judged or not evaluation:
            counts = f"{len(training)} training and {len(evaluation)} evaluation tasks"
            raise UserError(
                f"{folder}: {counts} of side {params.largest} and less; train_size {params.train_size} and valid_size "
                f"{judged} ask for more"
            )
        kept = len(training) - judged
        arc = build(training[:kept], training[kept:] + evaluation[: params.test_size], params.num_aug, params.largest)
    ends = 0, judged, min(judged + params.test_size, len(arc.tasks))
    parts = [replace(arc, test=arc.test.between(a, b), tasks=arc.tasks[a:b]) for a, b in zip(ends, ends[1:])]
    return ArcSplits(arc.train, *parts, left_out)


def _read(folder: Path, largest: int, *names: str) -> tuple[list[Task], list[str]]:
    """Tasks of the files and folders of `folder` that have one of the names in theirs; the first name is required."""
    tasks, left_out = [], []
    for name in names:
        found = [p for p in sorted(folder.glob(f"*{name}*")) if "solutions" not in p.name]
        if len(found) > 1 or not found and name == names[0]:
            raise UserError(f"{folder.absolute()}: {len(found)} files or folders have {name!r} in their name; give one")
        for path in found:
            more, bad = read_tasks(path)
            left_out += bad + [f"{path.name}, task {t.name}: side {t.side}" for t in more if t.side > largest]
            tasks += [task for task in more if task.side <= largest]
    return tasks, left_out


def make_trainer(model: TRM, params: Arc, run: Run, data: ArcSplits, show: Progress | None = None) -> Trainer:
    """A trainer of `model` on the training part, judged on the validation tasks where there are any."""
    batches = TokenBatches(data.train, params.batch_size, params.seed)

    def test(averaged: TRM) -> dict[str, float]:
        votes, exact = answer(averaged, data.valid, params.eval_steps)
        return _passes("valid", lambda k: votes.passes(data.valid.tasks, k)) | {"valid/exact_accuracy": exact}

    monitor = ("valid/pass@2", "valid/exact_accuracy")
    return Trainer(model, batches, params, run, evaluate=test if data.valid.tasks else None, monitor=monitor, show=show)


def _passes(name: str, passes: Callable[[int], np.ndarray]) -> dict[str, float]:
    """Means over the tasks of which an answer is known; nothing where none is."""
    found = {f"{name}/pass@{k}": passes(k) for k in (1, 2)}
    return {key: float(np.nanmean(values)) for key, values in found.items() if not np.isnan(values).all()}


def own(test: TokenSet) -> np.ndarray:
    """The identifier of each puzzle: (P,)."""
    return test.puzzle_identifiers


def zeroed(test: TokenSet) -> np.ndarray:
    """A control: for every puzzle the identifier that no puzzle has, whose embedding has stayed 0."""
    return np.full_like(test.puzzle_identifiers, test.about.blank_identifier_id)


def swapped(test: TokenSet) -> np.ndarray:
    """A control: for the variants of every task (of `some_pairs`: every pair) the identifiers of the next one's."""
    tasks = np.split(test.puzzle_identifiers, test.group_indices[1:-1])
    return np.concatenate([np.resize(other, len(one)) for one, other in zip(tasks, tasks[1:] + tasks[:1])])


CONTROLS = {"zeroed": zeroed, "swapped": swapped}  # what the model is told of the puzzles' identifiers


def answer(
    model: TRM, judged: ArcSet, steps: int = 0, identifiers: Callable[[TokenSet], np.ndarray] = own
) -> tuple[Votes, float]:
    """The model's answers after `steps` supervision steps (0: as many as in training) to all test inputs under all variants,
    and the share of them that is right. identifiers: under which embeddings, `own` or one of `CONTROLS`."""
    votes, right = Votes(judged.identifiers, judged.side), []
    asked = replace(judged.test, puzzle_identifiers=identifiers(judged.test))
    for i in range(len(judged.tasks)):  # one after the other: all answers at all steps would not fit
        found = evaluate_tokens(model, asked.between(i, i + 1), steps)
        task = judged.test.between(i, i + 1)
        confidence = torch.from_numpy(found.signals["q_halt"][:, -1]).sigmoid().numpy()
        votes.add(task.example_identifiers(), task.inputs, found.predictions[:, -1], confidence)
        right.append(found.exact[:, -1])
    return votes, float(np.concatenate(right).mean())


@dataclass(frozen=True)
class ArcEvaluation:
    """Answers to the test inputs of tasks."""

    tasks: list[Task]
    votes: dict[str, Votes]  # "own", and the controls
    metrics: dict[str, float]


def evaluate(model: TRM, params: Arc, data: ArcSplits, controls: bool = True) -> ArcEvaluation:
    """Judge the model on the test tasks.

    `metrics`: arc/pass@1 and arc/pass@2 (means over tasks of the share of test inputs whose answer is among the first k by
    vote); arc/exact_accuracy, of the answers under single variants; arc/trained_pairs/exact_accuracy, of pairs that were
    trained on. The same with `controls` of `CONTROLS`, as arc/<name>/..., and pass@k of the `BASELINES`, which give one answer.
    """
    metrics, votes, trained = {}, {}, some_pairs(data.train, TRAINED_PAIRS)
    for name, identifiers in ({"own": own} | (CONTROLS if controls else {})).items():
        votes[name], exact = answer(model, data.test, params.eval_steps, identifiers)
        prefix = "arc" if name == "own" else f"arc/{name}"
        metrics |= _passes(prefix, lambda k, name=name: votes[name].passes(data.test.tasks, k))
        metrics[f"{prefix}/exact_accuracy"] = exact
        found = evaluate_tokens(model, replace(trained, puzzle_identifiers=identifiers(trained)), params.eval_steps)
        metrics[f"{prefix}/trained_pairs/exact_accuracy"] = float(found.exact_by_step[-1])
    for name, baseline in BASELINES.items():
        right = [
            np.mean(
                [np.array_equal(baseline(task, given), answer) for given, answer in task.asked if answer is not None]
            )
            for task in data.test.tasks
            if any(answer is not None for _, answer in task.asked)
        ]
        metrics |= _passes(f"arc/{name}", lambda _, right=right: np.array(right))
    return ArcEvaluation(data.test.tasks, votes, metrics)


def some_pairs(data: TokenSet, size: int, seed: int = 0) -> TokenSet:
    """Examples drawn at random and in random order, at most `size`, each a puzzle and a group with its identifier."""
    rows = np.random.default_rng(seed).permutation(len(data))[:size]
    found = TokenSet.of(data.inputs[rows], data.labels[rows], data.about.vocab_size)
    about = found.about.model_copy(update={"num_puzzle_identifiers": data.about.num_puzzle_identifiers})
    return replace(found, puzzle_identifiers=data.example_identifiers()[rows], about=about)
