"""Load a TRM, let it think about puzzles (for a fixed number of steps or until a rule stops it), and evaluate it.

Examples never see each other: what is done with one depends on its own signals alone. An example that stops leaves the
batch, and a waiting one takes its place, so that time goes with the mean number of steps, on any device.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trm import halting
from trm.checkpoint import PRETRAINED, load_pretrained, model_folder
from trm.errors import UserError
from trm.halting import TAUGHT, UNROLLED, Rule
from trm.losses import IGNORE_INDEX, sequence_loss
from trm.model import TRM
from trm.puzzles.dataset import PuzzleSet, Splits, list_paths, load
from trm.puzzles.sudoku import PUZZLES, Shape, digits, is_solution, tokens
from trm.puzzles.token_set import TokenSet
from trm.puzzles.unrolled import UnrolledTRM
from trm.text_files import read_json


def load_model(folder: str | Path, device: str = "cpu") -> TRM:
    """The model that `save_pretrained` wrote into `folder`, in evaluation mode, on `device`; UserError if it is not whole."""
    config = read_json(model_folder(folder) / "config.json")
    return load_pretrained(UnrolledTRM if config.get("halting") in UNROLLED else TRM, folder, device)


def shipped_model(puzzle: str, device: str = "cpu") -> tuple[TRM, dict]:
    """The model that ships for "6x6" or "9x9", and how it was trained: the parameters that split its data, and more."""
    folder = PRETRAINED / f"sudoku_{puzzle}"
    if not folder.exists():
        raise UserError(f"no model ships for {puzzle} puzzles; train one with chapter 04 and give model_path")
    return load_model(folder, device), read_json(folder / "training.json")


def model_and_training(params) -> tuple[TRM, dict]:
    """The model in `model_path`, or else the one that ships for `puzzle`, on the chapter's device, and how it was trained:
    training.json beside a shipped one, params.json above one that a run saved, else {}."""
    if params.model_path:
        model = load_model(params.model_path, params.device)
        about = model_folder(params.model_path).resolve().parent / "params.json"
        training = read_json(about).get("params", {}) if about.exists() else {}
    else:
        model, training = shipped_model(params.puzzle, params.device)
    check_size(model, PUZZLES[params.puzzle].shape, params.model_path)
    return model, training


def check_size(model: TRM, shape: Shape, folder: str | Path) -> None:
    """Raises UserError if the model in `folder` is not for Sudoku of this shape."""
    c = model.config
    own = c.seq_len, c.vocab_size, c.box if c.mixer == "houses" else None
    wanted = shape.cells, shape.vocab_size, (shape.box_rows, shape.box_cols) if c.mixer == "houses" else None
    if own != wanted:
        what = f"is for {c.seq_len} cells and {c.vocab_size} tokens, and puzzles of {shape.name} have"
        what += f" {shape.cells} and {shape.vocab_size}"
        raise UserError(f"the model in {folder} {what}; give another model, or puzzles of its size")


def load_unseen(training: dict, params) -> Splits:
    """The puzzles of `params`; those on which the model was trained (see `model_and_training`) are split as they were then, so
    that it has seen none of the validation and test puzzles, of which `valid_size` and `test_size` are taken, evenly spaced.
    UserError if there are not so many. Other files, and those of a model of which nothing is known, are split by `params`."""
    names = ("seed", "valid_size", "test_size")
    asked = {name: getattr(params, name) for name in names}
    used = {Path(p).name or training.get("puzzle", params.puzzle) for p in list_paths(training.get("data_path", ""))}
    same = used & {Path(path).name or params.puzzle for path in list_paths(params.data_path)}
    split = {name: training[name] for name in names} if same and {*names, "data_path"} <= set(training) else asked
    data = load(params.puzzle, params.data_path, params.train_size, **split)
    if len(data.valid) < params.valid_size or len(data.test) < params.test_size:
        left = f"valid_size at most {len(data.valid)} and test_size at most {len(data.test)}"
        raise UserError(f"the model was trained on a part of these puzzles; give {left}, or another model_path")
    rows = {n: np.linspace(0, len(getattr(data, n)) - 1, asked[f"{n}_size"]).astype(int) for n in ("valid", "test")}
    return replace(data, **{part: getattr(data, part).subset(some) for part, some in rows.items()})


Check = Callable[[Tensor, Tensor], Tensor]  # (questions (B, T), answers (B, T)) -> (B,) bool


@dataclass
class Thoughts:
    """What B examples answered at each of S steps."""

    predictions: Tensor  # (B, S, T) token ids
    signals: dict[str, Tensor]  # name in `halting.SIGNALS` -> (B, S) float32


@dataclass
class Solved:
    """Where a rule stopped B examples."""

    predictions: Tensor  # (B, T) token ids
    logits: Tensor  # (B, T, V)
    steps: Tensor  # (B,) supervision steps taken
    signals: dict[str, Tensor]  # name -> (B,), at that step


@dataclass
class ActiveBatch:
    """Examples at work: everything that one supervision step hands to the next."""

    inputs: Tensor  # (B, T)
    x: Tensor  # (B, P + T, D)
    z_H: Tensor
    z_L: Tensor
    predictions: Tensor  # (B, T), -1 before the first answer
    steps: Tensor  # (B,) taken
    log_survival: Tensor  # (B,) log of the probability not to have halted yet
    mass: Tensor  # (B,) sum of the halting probabilities
    stable: Tensor  # (B,) steps since the answer changed
    memory: tuple[Tensor, ...]  # see `TRM.answer_state`

    @classmethod
    def begin(cls, model: TRM, inputs: Tensor, puzzle_ids: Tensor | None, noise: Tensor | None) -> "ActiveBatch":
        """Examples before their first step."""
        z_H, z_L = model.initial_thought(len(inputs), noise)
        zeros = torch.zeros(len(inputs), device=inputs.device)
        memory = tuple(torch.zeros_like(t) for t in model.answer_state(z_H, ())[1])
        x = model.embed_question(inputs, puzzle_ids, noise)
        return cls(inputs, x, z_H, z_L, torch.full_like(inputs, -1), zeros, zeros, zeros, zeros, memory)

    def select(self, rows: Tensor) -> "ActiveBatch":
        """The examples that `rows` names or marks."""
        values = vars(self).values()
        return ActiveBatch(*(tuple(t[rows] for t in v) if isinstance(v, tuple) else v[rows] for v in values))

    def concat(self, others: "ActiveBatch") -> "ActiveBatch":
        """These examples and the others."""
        *pairs, memories = zip(vars(self).values(), vars(others).values())  # memory is the last field
        return ActiveBatch(*map(torch.cat, pairs), tuple(map(torch.cat, zip(*memories))))

    def step(self, model: TRM, check: Check | None = None) -> tuple["ActiveBatch", Tensor, dict[str, Tensor]]:
        """One supervision step: the new state, the logits (B, T, V) of the answers, the signals."""
        answers, z_L = model.think(self.x, self.z_H, self.z_L)
        z_H = answers[-1]
        answer, memory = model.answer_state(z_H, self.memory)
        logits = model.output_logits(answer)
        predictions = logits.argmax(-1)
        q_halt, q_continue = model.q_logits(z_H)
        stable = torch.where((predictions == self.predictions).all(-1), self.stable + 1, 0)
        log_survival = self.log_survival + torch.nn.functional.logsigmoid(-q_halt)
        mass, steps = self.mass + q_halt.sigmoid(), self.steps + 1
        change = (z_H - self.z_H).flatten(1).norm(dim=1) / self.z_H.flatten(1).norm(dim=1)
        signals = {
            "fixed": steps,
            "q_halt": q_halt,
            "q_margin": q_halt - q_continue,
            "halt_probability": -torch.expm1(log_survival),
            "halt_mass": mass,
            "entropy": halting.entropy(logits),
            "residual": change.float(),
            "stable": stable,
        }
        if check is not None:
            signals["is_valid"] = check(self.inputs, predictions).float()
        new = ActiveBatch(self.inputs, self.x, z_H, z_L, predictions, steps, log_survival, mass, stable, memory)
        return new, logits, signals


def at_once(model: TRM) -> int:
    """How many examples to work on at a time: on a CPU as many as keep their states in its cache."""
    c = model.config
    in_cache = 2**19 // (c.seq_len * c.symbols * c.hidden_size)
    return 512 if model.embed.device.type != "cpu" else max(in_cache, 16)


def _require_ids(model: TRM, inputs: Tensor, puzzle_ids: Tensor | None) -> None:
    """UserError: what cannot be token ids of puzzles of this model, (B, T), or identifiers of them, (B,)."""
    c, B = model.config, len(inputs) if inputs.dim() else 0
    asked = [("inputs", f"(B, {c.seq_len})", inputs, (B, c.seq_len), c.vocab_size)]
    asked += [] if puzzle_ids is None else [("puzzle_ids", f"({B},)", puzzle_ids, (B,), c.num_puzzles)]
    for name, said, values, shape, end in asked:
        want, own = f"the model takes {name} of whole numbers from 0 to {end - 1}, {said}", tuple(values.shape)
        if own != shape:
            alone = "; a single puzzle is inputs[None]" if own == (c.seq_len,) == shape[1:] else ""
            raise UserError(f"{want}; these are {own}{alone}")
        if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
            kind = str(values.dtype).removeprefix("torch.")
            raise UserError(f"{want}; these are {kind}; {name}.long() makes them whole")
        low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
        if not 0 <= low <= high < end:
            raise UserError(f"{want}; these go from {low} to {high}")


@torch.no_grad()
def solve(
    model: TRM,
    inputs: Tensor,
    steps: int | None = None,
    puzzle_ids: Tensor | None = None,
    check: Check | None = None,
    labels: Tensor | None = None,
) -> Thoughts:
    """Think for `steps` supervision steps (default: `halt_max_steps` of training) and keep the answer after each.

    inputs: (B, T) token ids. puzzle_ids: (B,), for a model with puzzle tokens. check: makes the signal "is_valid". labels:
    (B, T), make the signal "loss", the mean cross-entropy of the answer, of the kind that the model was trained with.
    """
    _require_ids(model, inputs, puzzle_ids)
    batch = ActiveBatch.begin(model, inputs, puzzle_ids, None)
    predictions, signals = [], []
    for _ in range(steps or model.config.halt_max_steps):
        batch, logits, now = batch.step(model, check)
        if labels is not None:
            now["loss"] = sequence_loss(logits, labels, model.config.loss_type)
        predictions.append(batch.predictions)
        signals.append(now)
    by_name = {name: torch.stack([now[name] for now in signals], 1) for name in signals[0]}
    return Thoughts(torch.stack(predictions, 1), by_name)


@torch.no_grad()
def solve_until(
    model: TRM,
    inputs: Tensor,
    rule: Rule,
    max_steps: int = 16,
    puzzle_ids: Tensor | None = None,
    noise: Tensor | None = None,
    check: Check | None = None,
    batch_size: int = 0,
) -> Solved:
    """Think about each example until `rule` stops it, for at most `max_steps`; arguments as for `solve`.

    noise: of `TRM.draw_noise`. At most `batch_size` examples are at work at a time (0: `at_once`). The answers are those that
    `solve` gives at the step where the rule stops, up to rounding. The rule "is_valid" requires `check`.
    """
    available = set(halting.SIGNALS) - {"random"} - ({"is_valid"} if check is None else set())
    if rule.signal not in available:
        raise UserError(f"no signal {rule.signal!r} while solving; there are {', '.join(sorted(available))}")
    _require_ids(model, inputs, puzzle_ids)
    if not len(inputs):
        raise UserError("no examples to solve")

    def begin(rows: Tensor) -> ActiveBatch:
        ids, extra = (None if t is None else t[rows] for t in (puzzle_ids, noise))
        return ActiveBatch.begin(model, inputs[rows], ids, extra)

    size = batch_size or at_once(model)
    rows, waiting = torch.arange(len(inputs), device=inputs.device).tensor_split([size])
    batch, done, parts = begin(rows), [], []
    while len(rows):
        batch, logits, signals = batch.step(model, check)
        stop = rule.halts(signals[rule.signal]) | (batch.steps >= max_steps)
        if not stop.any():
            continue
        done.append(rows[stop])
        parts.append((logits[stop], batch.steps[stop].long(), {name: value[stop] for name, value in signals.items()}))
        batch, rows = batch.select(~stop), rows[~stop]
        if len(waiting):
            fresh, waiting = waiting.tensor_split([size - len(rows)])
            batch, rows = batch.concat(begin(fresh)), torch.cat((rows, fresh))
    order = torch.cat(done).argsort()
    logits, steps, signals = zip(*parts)
    logits = torch.cat(logits)[order]
    by_name = {name: torch.cat([part[name] for part in signals])[order] for name in signals[0]}
    return Solved(logits.argmax(-1), logits, torch.cat(steps)[order], by_name)


@dataclass(frozen=True)
class Evaluation:
    """Answers of a model to N puzzles over S supervision steps."""

    predictions: np.ndarray  # (N, S, T) token ids
    blank: np.ndarray  # (N, T) cells to fill in
    correct: np.ndarray  # (N, S, T) bool
    signals: dict[str, np.ndarray]  # name in `halting.SIGNALS`, or "loss" (nats per blank cell) -> (N, S)
    taught: Rule = TAUGHT["q"]  # the rule by which the model was taught to stop

    @property
    def exact(self) -> np.ndarray:
        """Whether the whole puzzle is correct, by step: (N, S) bool."""
        return self.correct.all(-1)

    @property
    def exact_by_step(self) -> np.ndarray:
        """Share of puzzles solved after each step: (S,)."""
        return self.exact.mean(0)

    @property
    def cells_by_step(self) -> np.ndarray:
        """Blank-cell accuracy after each step: (S,)."""
        return (self.correct & self.blank[:, None]).sum((0, 2)) / self.blank.sum()

    def steps(self, rule: Rule) -> np.ndarray:
        """Steps that each puzzle takes under `rule`: (N,) from 1 to S."""
        return rule.steps(torch.from_numpy(self.signals[rule.signal])).numpy()

    def exact_after(self, steps: np.ndarray) -> np.ndarray:
        """Whether each puzzle is correct after its own number of steps: (N,) -> (N,) bool."""
        return self.exact[np.arange(len(steps)), steps - 1]

    def until(self, steps: int) -> "Evaluation":
        """The same answers after each of the first `steps` steps: N puzzles over min(S, steps) steps."""
        cut = {name: getattr(self, name)[:, :steps] for name in ("predictions", "correct")}
        return replace(self, **cut, signals={name: values[:, :steps] for name, values in self.signals.items()})

    def halted(self, rule: Rule) -> tuple[float, float]:
        """(share of puzzles solved, mean steps) under `rule`."""
        steps = self.steps(rule)
        return float(self.exact_after(steps).mean()), float(steps.mean())

    def metrics(self, part: str) -> dict[str, float]:
        """Accuracies and loss (cross-entropy per blank cell) after the last step; mean_steps until the model stops as it was
        taught, and its accuracy there."""
        last = {"exact_accuracy": float(self.exact_by_step[-1]), "cell_accuracy": float(self.cells_by_step[-1])}
        last["loss"] = float(np.average(self.signals["loss"][:, -1], weights=self.blank.sum(1)))
        halted, mean_steps = self.halted(self.taught)
        found = last | {"mean_steps": mean_steps, "halted_exact_accuracy": halted}
        return {f"{part}/{name}": value for name, value in found.items()}


def validity_check(shape: Shape) -> Check:
    """A check for `solve`: whether an answer (token ids) satisfies the constraints of Sudoku and keeps the clues."""

    def check(inputs: Tensor, predictions: Tensor) -> Tensor:
        question, answer = (digits(t.cpu().numpy()) for t in (inputs, predictions))
        return torch.from_numpy(is_solution(shape, question, answer)).to(inputs.device)

    return check


def evaluate(model: TRM, puzzles: PuzzleSet, steps: int = 0, batch_size: int = 0) -> Evaluation:
    """Answers of `model` to all `puzzles` after each of `steps` supervision steps (0: as many as in training)."""
    blank, answers = puzzles.questions == 0, tokens(puzzles.answers)
    check = validity_check(puzzles.shape)
    return _evaluate(model, tokens(puzzles.questions), answers, blank, steps, batch_size, check)


def evaluate_tokens(model: TRM, data: TokenSet, steps: int = 0, batch_size: int = 0) -> Evaluation:
    """The same for any puzzles. What their labels leave out (`IGNORE_INDEX`) is right whatever the answer."""
    labels = data.targets(slice(None))
    ids = data.example_identifiers() if model.config.puzzle_tokens else None
    return _evaluate(model, np.asarray(data.inputs), labels, labels != IGNORE_INDEX, steps, batch_size, puzzle_ids=ids)


def _evaluate(
    model: TRM,
    questions: np.ndarray,
    answers: np.ndarray,
    asked: np.ndarray,
    steps: int,
    batch_size: int,
    check: Check | None = None,
    puzzle_ids: np.ndarray | None = None,
) -> Evaluation:
    """questions, answers (N, T) token ids; asked (N, T): the positions whose loss and accuracy are measured."""
    arrays = [questions, np.where(asked, answers, IGNORE_INDEX)] + ([] if puzzle_ids is None else [puzzle_ids])
    tensors = [torch.from_numpy(np.asarray(t).astype(np.int64)).to(model.embed.device) for t in arrays]
    parts = [
        solve(model, inputs, steps or None, *ids, check=check, labels=labels)
        for inputs, labels, *ids in zip(*(t.split(batch_size or at_once(model)) for t in tensors))
    ]
    predictions = torch.cat([part.predictions for part in parts]).cpu().numpy()
    signals = {n: torch.cat([part.signals[n] for part in parts]).cpu().numpy() for n in parts[0].signals}
    signals["random"] = np.random.default_rng(len(questions)).random(predictions.shape[:2], np.float32)
    correct = (predictions == answers[:, None]) | (answers == IGNORE_INDEX)[:, None]
    return Evaluation(predictions, asked, correct, signals, TAUGHT[model.config.halting])
