"""Chapter 06 as functions: problems or texts to batches, arms trained at equal compute, each evaluated, one row per arm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trm import arms
from trm.arms import ArmResult
from trm.errors import UserError
from trm.language.lm import SHIPPED_LM, generate_greedy, load_lm
from trm.language.stories import Problem, ReasoningBatches, encode, problems, to_learn
from trm.language.text import read_sequences, shuffled
from trm.losses import IGNORE_INDEX, exactly_right
from trm.recursive_lm.model import LMConfig, LMParams, RecursiveLanguageModel, lm_flops, load_recursive_lm
from trm.recursive_lm.params import RecursiveLM
from trm.run import Run
from trm.trainer import Trainer, resolve_device
from trm.training_params import arm_names

LONGEST = 256  # tokens of a prompt with its completion; texts may be longer
MEASURED = 40  # batches of training over whose sizes FLOPs are averaged

Row = tuple[list[int], list[int]]  # token ids: prompt, completion


@dataclass(frozen=True)
class Data:
    """A tokenizer, the frozen embeddings or None, and either problems or texts."""

    tokenizer: PreTrainedTokenizerFast
    embeddings: Tensor | None
    valid: list[Problem]
    test: dict[int, list[Problem]]  # by number of steps
    texts: dict[str, list[Row]]  # by part, each with its first token as the prompt; {} with problems

    @property
    def pad(self) -> int:
        """The token that pads a batch."""
        return self.tokenizer.pad_token_id


def load(params: RecursiveLM) -> Data:
    """The data that `params` name. Validation and test problems are the same for every seed; no test problem, identified by
    its arithmetic, occurs in training. Raises UserError: a text or a model that cannot be used."""
    if params.embeddings:
        lm, tokenizer = load_lm("" if params.embeddings == "shipped" else params.embeddings)
        embeddings = lm.get_input_embeddings().weight.detach().float()
    else:
        tokenizer, embeddings = AutoTokenizer.from_pretrained(str(SHIPPED_LM)), None
    if params.data == "text":
        held_out = max(params.valid_size, params.test_size)
        counts, length = {"train": params.num_samples, "valid": held_out, "test": held_out}, params.max_seq_length
        found = read_sequences(tokenizer, params.text_path, counts, length, params.text_column, params.seed)
        texts = {part: [([int(ids[0])], ids[1:].tolist()) for ids in some] for part, some in found.items()}
        return Data(tokenizer, embeddings, [], {}, texts)
    chains = any(params.of_arm(arm).chain for arm in (params.arm, *arm_names(params.baseline_arm)))
    if chains and "<think>" not in tokenizer.get_vocab():
        raise UserError(f"{params.embeddings} has no token <think>, which a chain begins with: leave out one of them")
    valid = list(islice(problems("valid", 0, params.min_steps, params.max_problem_steps), params.valid_size))
    steps = range(params.min_steps, params.test_steps + 1)
    test = {n: list(islice(problems("test", 0, n, n), params.test_size)) for n in steps}
    return Data(tokenizer, embeddings, valid, test, {})


def batches_of(params: RecursiveLM, data: Data) -> Callable[[int], dict[str, np.ndarray]]:
    """step -> the global batch of that step."""
    if not data.texts:
        return ReasoningBatches(
            data.tokenizer, params.batch_size, params.seed, params.min_steps, params.max_problem_steps,
            params.question_weight, "all" if params.chain else "none", alike=True,
        )  # fmt: skip
    rows = data.texts["train"]
    draw = partial(shuffled, len(rows), params.batch_size, params.seed)
    return lambda step: to_learn([rows[i] for i in draw(step)], data.pad, 0.0)


def config_of(params: RecursiveLM, data: Data) -> LMConfig:
    """What defines the model."""
    own, end = params.model_dump(include=set(LMParams.model_fields)), data.tokenizer.eos_token_id
    vocab_size, embed_size = (len(data.tokenizer), 0) if data.embeddings is None else data.embeddings.shape
    longest, end = max(LONGEST, params.max_seq_length), data.pad if end is None else end
    return LMConfig(**own, vocab_size=vocab_size, seq_len=longest, embed_size=embed_size, pad_id=data.pad, eos_id=end)


def make_model(params: RecursiveLM, data: Data) -> RecursiveLanguageModel:
    """The untrained model; its weights depend on the seed alone."""
    torch.manual_seed(params.seed)
    return RecursiveLanguageModel(config_of(params, data), data.embeddings)


@dataclass(frozen=True)
class Scores:
    """How a model completes N rows, greedily."""

    exact: np.ndarray  # (N,) bool, whether the whole completion is right
    token_accuracy: float
    losses: np.ndarray  # (n,) cross-entropy after each answer (H-cycle), nats per token


@torch.no_grad()
def score(model: RecursiveLanguageModel, rows: Sequence[Row], pad: int, H_cycles: int = 0, batch: int = 250) -> Scores:
    """One teacher-forced pass. A row is exact where greedy decoding gives its completion: as long as every token so far is
    right, both see the same. H_cycles: where not those of training."""
    exact, losses, right, count = [], 0.0, 0, 0
    for first in range(0, len(rows), batch):
        arrays = to_learn(rows[first : first + batch], pad, 0.0)
        tensors = {name: torch.from_numpy(value).to(model.device) for name, value in arrays.items()}
        answers, labels, weights = model.answers_at_targets(tensors, H_cycles)  # n of (B, M, D), (B, M), (B, M)
        labels = torch.where(weights > 0, labels, IGNORE_INDEX)
        by_answer, logits = model.answer_losses(answers, labels, [False] * len(answers))
        predictions = logits.argmax(-1)
        exact.append(exactly_right(predictions, labels).cpu())
        losses = losses + by_answer.cpu().double().sum((0, 1))
        right += int((predictions == labels).sum())
        count += int((labels != IGNORE_INDEX).sum())
    return Scores(torch.cat(exact).numpy(), right / count, (losses / count).numpy())


def evaluate(model: RecursiveLanguageModel, params: RecursiveLM, data: Data) -> dict[str, float]:
    """On the test part: test/exact_accuracy, and accuracy/N by number of steps; tokens/N written where it writes a chain;
    loss/i, nats per token after the i-th answer (problems of the trained lengths); cycles_H/N, accuracy with H H-cycles."""

    def scores(some: Sequence[Problem], H_cycles: int = 0) -> Scores:
        return score(model, encode(data.tokenizer, some, [params.chain] * len(some)), data.pad, H_cycles)

    if data.texts:
        found = score(model, data.texts["test"][: params.test_size], data.pad)
        metrics = {"test/loss": found.losses[-1], "test/token_accuracy": found.token_accuracy}
        return metrics | {f"loss/{i}": float(loss) for i, loss in enumerate(found.losses, 1)}
    trained = [p for n, some in data.test.items() if n <= params.max_problem_steps for p in some]
    metrics = {f"loss/{i}": float(loss) for i, loss in enumerate(scores(trained).losses, 1)}
    for n, some in data.test.items():
        if params.chain:
            written = generate_greedy(model, data.tokenizer, some, thinking=True)
            metrics[f"tokens/{n}"], metrics[f"accuracy/{n}"] = float(np.mean(written.tokens)), written.accuracy(some)
            continue
        metrics[f"accuracy/{n}"] = float(scores(some).exact.mean())
        for H in params.cycles if params.body != "plain" else []:
            metrics[f"cycles_{H}/{n}"] = float(scores(some, H).exact.mean())
    return metrics | {"test/exact_accuracy": float(np.mean([metrics[f"accuracy/{n}"] for n in data.test]))}


def step_flops(params: RecursiveLM, data: Data) -> float:
    """FLOPs of an optimizer step: the mean over the first batches of training with seed 0, padding included."""
    batches, config = batches_of(params.model_copy(update={"seed": 0}), data), config_of(params, data)
    shapes = [(batch["input_ids"].shape[1], batch["places"].shape[1]) for batch in map(batches, range(MEASURED))]
    return params.batch_size * float(np.mean([lm_flops(config, length - 1, learned) for length, learned in shapes]))


def steps_of(params: RecursiveLM, data: Data, arm: str) -> int:
    """Optimizer steps of an arm: scaled so that it uses the FLOPs of `max_steps` steps of the model in `params`."""
    return max(round(params.max_steps * step_flops(params, data) / step_flops(params.of_arm(arm), data)), 1)


def train_arm(params: RecursiveLM, data: Data, run: Run, arm: str, draw: Callable | None = None) -> ArmResult | None:
    """Train one arm in a folder under `run` and evaluate its best weights, by the validation part, on the test part. None where
    `time_limit` paused it."""
    factor = steps_of(params, data, arm) / params.max_steps
    own = arms.scaled(params.of_arm(arm), factor, ("max_steps", "eval_interval", "checkpoint_interval"))
    own = arms.scaled(own, factor, ("curriculum_start_step", "curriculum_end_step"), least=0)
    rows = data.texts.get("valid") or encode(data.tokenizer, data.valid, [own.chain] * len(data.valid))
    monitor = ("valid/token_accuracy",) if data.texts else ("valid/exact_accuracy", "valid/token_accuracy")

    def validate(model: RecursiveLanguageModel) -> dict[str, float]:
        found = score(model, rows, data.pad)
        values = (found.exact.mean(), found.token_accuracy, found.losses[-1])
        return {f"valid/{n}": float(v) for n, v in zip(("exact_accuracy", "token_accuracy", "loss"), values)}

    def make_trainer(own: RecursiveLM, run: Run) -> Trainer:
        return Trainer(make_model(own, data), batches_of(own, data), own, run, validate, monitor=monitor)

    def after(trainer: Trainer) -> dict[str, float]:
        trainer.accelerator.wait_for_everyone()  # for the first process to have written the best weights
        best = load_recursive_lm(trainer.run.dir / "best", str(resolve_device(params)))
        spent = {"flops/training": own.max_steps * step_flops(own, data)}
        spent["model/parameters"] = sum(p.numel() for p in trainer.plain_model.parameters())
        return spent | evaluate(best, own, data)

    result = arms.train_arm(run, arm or "as_given", own, make_trainer, after, draw=draw)
    if result:
        result.model = load_recursive_lm(result.folder / "best", str(resolve_device(params)))
    return result
