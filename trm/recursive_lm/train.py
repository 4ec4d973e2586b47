"""The work of chapter 06 as functions: problems or texts to batches, arms trained at equal compute, each judged, in a row."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from trm.errors import UserError
from trm.language.lm import SHIPPED_LM, generate_greedy, load_lm
from trm.language.stories import Problem, ReasoningBatches, encode, problems, to_learn
from trm.language.text import read_sequences, shuffled
from trm.params import arm_names
from trm.recursive_lm.answering import Answers, Row, read_off
from trm.recursive_lm.body import LMConfig, lm_flops
from trm.recursive_lm.model import RecursiveLanguageModel, load_recursive_lm
from trm.recursive_lm.params import RecursiveLM
from trm.run import Run
from trm.trainer import Trainer, place

LONGEST = 256  # tokens of a prompt with what is written; texts may be longer
MEASURED = 40  # batches of training whose mean size stands for all


@dataclass(frozen=True)
class Data:
    """A tokenizer, the frozen embeddings where there are some, and what is read: problems, or texts as tokens."""

    tokenizer: PreTrainedTokenizerFast
    embeddings: Tensor | None
    valid: list[Problem]
    test: dict[int, list[Problem]]  # by number of steps
    texts: dict[str, list[np.ndarray]]  # by part; {} where problems are read

    @property
    def pad(self) -> int:
        """The token that fills a batch."""
        return self.tokenizer.pad_token_id


def load(params: RecursiveLM) -> Data:
    """The data that `params` name. The validation and test problems are the same for every seed; no problem of the test, told
    apart by its arithmetic, occurs in training.

    Raises:
        UserError: a text or a model that cannot be used.
    """
    if params.embeddings:
        lm, tokenizer = load_lm("" if params.embeddings == "shipped" else params.embeddings)
        embeddings = lm.get_input_embeddings().weight.detach().float()
    else:
        tokenizer, embeddings = AutoTokenizer.from_pretrained(str(SHIPPED_LM)), None
    if params.data == "text":
        held_out = max(params.valid_size, params.test_size)
        counts = {"train": params.num_samples, "valid": held_out, "test": held_out}
        texts = read_sequences(
            tokenizer, params.text_path, counts, params.max_seq_length, params.text_column, params.seed
        )
        return Data(tokenizer, embeddings, [], {}, texts)
    chains = any(params.of_arm(arm).chain for arm in (params.arm, *arm_names(params.versus)))
    if chains and "<think>" not in tokenizer.get_vocab():
        raise UserError(
            f"{params.embeddings} has no token <think>, which a chain begins with: leave chain or embeddings out"
        )
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
    rows = text_rows(data.texts["train"])

    def batches(step: int) -> dict[str, np.ndarray]:
        chosen = shuffled(len(rows), params.batch_size, params.seed, step)
        return to_learn([rows[i] for i in chosen], data.pad, 0.0)

    return batches


def text_rows(sequences: Sequence[np.ndarray]) -> list[Row]:
    """Texts, each with its first token given."""
    return [([int(ids[0])], ids[1:].tolist()) for ids in sequences]


def config_of(params: RecursiveLM, data: Data) -> LMConfig:
    """What defines the model."""
    size = 0 if data.embeddings is None else data.embeddings.shape[1]
    vocabulary = len(data.tokenizer) if data.embeddings is None else len(data.embeddings)
    end = data.tokenizer.eos_token_id
    return LMConfig.of(
        params, vocab_size=vocabulary, seq_len=max(LONGEST, params.max_seq_length), embed_size=size, pad_id=data.pad,
        eos_id=data.pad if end is None else end,
    )  # fmt: skip


def make_model(params: RecursiveLM, data: Data) -> RecursiveLanguageModel:
    """The model that `params` describe; its first weights depend on the seed alone."""
    torch.manual_seed(params.seed)
    return RecursiveLanguageModel(config_of(params, data), data.embeddings)


def step_flops(params: RecursiveLM, data: Data) -> float:
    """FLOPs of an optimizer step: the mean over the first batches of training with seed 0, padding included."""
    batches = batches_of(params.model_copy(update={"seed": 0}), data)
    config, found = config_of(params, data), []
    for step in range(MEASURED):
        batch = batches(step)
        found.append(lm_flops(config, batch["input_ids"].shape[1] - 1, batch["places"].shape[1]))
    return params.batch_size * float(np.mean(found))


def steps_of(params: RecursiveLM, data: Data, arm: str) -> int:
    """Optimizer steps of an arm: as many as cost what `max_steps` of the model cost that `params` describe."""
    return max(round(params.max_steps * step_flops(params, data) / step_flops(params.of_arm(arm), data)), 1)


@dataclass
class ArmResult:
    """An arm that was trained: its parameters, its best model by the validation part, and what became of it."""

    arm: str
    params: RecursiveLM
    model: RecursiveLanguageModel
    metrics: dict
    history: list[dict]


def train_arm(params: RecursiveLM, data: Data, run: Run, arm: str, show: Callable | None = None) -> ArmResult | None:
    """Train one arm in a folder of its own under `run`, choose the best evaluation, judge it on the test part.

    None: `time_limit` paused it. An arm that is complete is not trained again by a run that resumes.
    """
    name, steps = arm or "as_given", steps_of(params, data, arm)
    factor, folder = steps / params.max_steps, run.path(f"arms/{name or 'as_given'}/params.json").parent
    own = params.of_arm(arm).model_copy(
        update={"max_steps": steps, "output_dir": str(folder), "time_limit": run.minutes_left(params.time_limit)}
        | {key: max(round(getattr(params, key) * factor), 1) for key in ("eval_interval", "checkpoint_interval")}
        | {key: round(getattr(params, key) * factor) for key in ("curriculum_start_step", "curriculum_end_step")}
    )
    done = folder / "metrics.json"
    if not (params.resume and done.exists()):
        part, model = Run(own, run.chapter), make_model(own, data)
        rows = (
            text_rows(data.texts["valid"])
            if data.texts
            else encode(data.tokenizer, data.valid, [own.chain] * len(data.valid))
        )

        def evaluate(averaged: RecursiveLanguageModel) -> dict[str, float]:
            found = read_off(averaged, rows, data.pad)
            names = ("exact_accuracy", "token_accuracy", "loss")
            return {f"valid/{n}": float(v) for n, v in zip(names, (found.right.mean(), found.tokens, found.losses[-1]))}

        monitor = ("valid/token_accuracy",) if data.texts else ("valid/exact_accuracy", "valid/token_accuracy")
        trainer = Trainer(model, batches_of(own, data), own, part, evaluate, monitor=monitor, show=show)
        metrics = trainer.fit()
        if trainer.paused:
            return None
        metrics |= {"flops/training": steps * step_flops(own, data)}
        metrics |= {"model/parameters": sum(p.numel() for p in model.parameters())}
        trainer.accelerator.wait_for_everyone()
        part.finish(metrics, quiet=True)
        trainer.accelerator.wait_for_everyone()
    model = load_recursive_lm(folder / "best", str(place(params)))
    metrics = json.loads(done.read_text()) | judge(model, own, data)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return ArmResult(name, own, model, metrics, history)


def judge(model: RecursiveLanguageModel, params: RecursiveLM, data: Data) -> dict[str, float]:
    """On the test part: accuracy/N by number of steps, and accuracy; tokens written for an answer; loss/i, nats a token after
    the i-th answer (H-cycle; problems of the lengths of training); and accuracy with other numbers of H-cycles, cycles_H/N."""
    if data.texts:
        found = read_off(model, text_rows(data.texts["test"])[: params.test_size], data.pad)
        return {"test/loss": found.losses[-1], "test/token_accuracy": found.tokens} | _losses(found)
    learned = [p for n, some in data.test.items() if n <= params.max_problem_steps for p in some]
    metrics = _losses(read_off(model, encode(data.tokenizer, learned, [params.chain] * len(learned)), data.pad))
    tries = [0] if model.config.body == "plain" or params.chain else [0, *params.cycles]
    for H in tries:
        for n, some in data.test.items():
            if params.chain:
                written = generate_greedy(model, data.tokenizer, some, thinking=True)
                metrics[f"tokens/{n}"], right = float(np.mean(written.tokens)), written.accuracy(some)
            else:
                right = read_off(model, encode(data.tokenizer, some, [False] * len(some)), data.pad, H).right.mean()
            metrics[f"cycles_{H}/{n}" if H else f"accuracy/{n}"] = float(right)
    if model.config.halting == "act":
        found = [
            read_off(model, encode(data.tokenizer, some, [False] * len(some)), data.pad) for some in data.test.values()
        ]
        metrics |= {f"mean_cycles/{n}": float(one.cycles.mean()) for n, one in zip(data.test, found)}
    return metrics | {"test/exact_accuracy": float(np.mean([metrics[f"accuracy/{n}"] for n in data.test]))}


def _losses(found: Answers) -> dict[str, float]:
    return {f"loss/{i}": float(loss) for i, loss in enumerate(found.losses, 1)}


def arm_row(result: ArmResult, params: RecursiveLM) -> dict:
    """An arm in one row of a table: its numbers; in `minutes`, `share` (of the training's compute), `valid/exact_accuracy` and
    `valid/loss` the curve of its training, with spaces between."""
    p = result.params
    row = {
        "arm": result.arm,
        "seed": params.seed,
        "body": p.body,
        "H_cycles": p.H_cycles,
        "schedule": p.schedule,
        "lr": p.lr,
    }
    watched = [record for record in result.history if "valid/loss" in record]
    row |= result.metrics | {"minutes": " ".join(f"{record['train/seconds'] / 60:.3f}" for record in watched)}
    row["share"] = " ".join(f"{record['step'] / p.max_steps:.4f}" for record in watched)
    for name in ("valid/exact_accuracy", "valid/loss"):
        row[name] = " ".join(f"{record[name]:.4f}" for record in watched)
    return row
