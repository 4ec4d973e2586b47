"""Chapter 01: texts to states, one pass to the optimum for every size, compressors trained by gradient descent, evaluation."""

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from trm.arms import ArmResult, train_arm
from trm.checkpoint import load_pretrained
from trm.compressor.evaluate import evaluate
from trm.compressor.model import Compressor
from trm.compressor.optimum import LogitMetric, SecondMoment
from trm.compressor.params import Compression
from trm.compressor.states import StateBatches, StateStore, digest
from trm.errors import UserError
from trm.language.lm import Generations, StateReader, generate_greedy, weights_digest
from trm.language.text import read_sequences
from trm.run import Run
from trm.trainer import Trainer
from trm.training_params import arm_names

CLOSED = {"optimum": "tied", "pca": "affine", "task_aware_closed": "linear"}  # closed forms and their kinds
TRAINED = {"tied": "tied", "untied": "linear", "affine": "affine", "nonlinear": "nonlinear", "task_aware": "linear"}


@dataclass
class StateSums:
    """The sums of one pass over states, their mean (D,), and the Fisher information of the head (None without one)."""

    moment: SecondMoment
    metric: LogitMetric | None
    mean: Tensor
    seconds: float


@dataclass
class StageStates:
    """The states of a stage's texts: batches of each part, and the sums over the training part."""

    stage: str
    batches: dict[str, StateBatches]
    sums: StateSums


def read_stage(params: Compression, run: Run, reader: StateReader, tokenizer, stage: str) -> StageStates:
    """The states of the texts of a stage ("1a" ordinary text, "1b" thoughts), cached on disk where `cache`, and their sums."""
    for K in (*params.sizes, params.d_compressed):
        Compressor.check_size(reader.hidden_size, K)
    longest = getattr(reader.model.config, "max_position_embeddings", None) or params.max_seq_length
    if params.max_seq_length > longest:
        raise UserError(f"max_seq_length {params.max_seq_length} exceeds the model's {longest} tokens")
    path, thinking = (params.text_path, False) if stage == "1a" else (params.cot_path, True)
    counts = {"train": params.num_samples, "valid": params.eval_samples, "test": params.eval_samples}
    texts = read_sequences(tokenizer, path, counts, params.max_seq_length, params.text_column, params.seed, thinking)
    batches, weights = {}, weights_digest(reader.model) if params.cache else ""
    with PartialState(cpu=params.device == "cpu").main_process_first():  # the first writes, the others find it
        for part, of in texts.items():
            given = params.batch_size, tokenizer.pad_token_id, params.skip_first, params.seed
            batches[part] = StateBatches(of, reader.states, *given)
            if params.cache:
                about = {"lm": params.lm, "weights": weights, "layer": reader.layer, "precision": params.precision}
                about |= {"tokens": digest(of), "skip_first": params.skip_first}
                folder = StateStore.place(params.cache_dir, run.dir / "states" / stage / part, about)
                batches[part].store = StateStore.find_or_write(folder, batches[part], about)
    return StageStates(stage, batches, one_pass(batches["train"].in_order(), reader))


def label(params: Compression, stage: str) -> str:
    """The name of a stage and its texts."""
    path = params.text_path if stage == "1a" else params.cot_path
    return f"{stage}, {Path(path).name if path else {'1a': 'ordinary text', '1b': 'thoughts'}[stage]}"


def remove_states(run: Run) -> None:
    """Remove the states cached in the folder of this run."""
    if run.main:
        shutil.rmtree(run.dir / "states", ignore_errors=True)


def one_pass(batches: Iterable[dict[str, np.ndarray]], reader: StateReader) -> StateSums:
    """Read the states once and keep only their sums."""
    started, moment = time.perf_counter(), SecondMoment(reader.hidden_size)
    metric = LogitMetric(reader.head.weight) if reader.last and reader.head is not None else None
    for batch in batches:
        states = torch.from_numpy(batch["states"][batch["mask"]])
        moment.add(states)
        if metric is not None:
            metric.add(reader.lm_head(states))
    return StateSums(moment, metric, moment.mean.float(), time.perf_counter() - started)


def closed_form(arm: str, K: int, sums: StateSums, expansion: float = 2.0) -> Compressor:
    """The best linear compressor for an arm: the top K directions of the second moment (tied, optimum), of the covariance
    (affine, nonlinear, pca), or of the covariance weighted by the Fisher information of the head (task_aware)."""
    aware = arm.startswith("task_aware")
    if aware and sums.metric is None:
        raise UserError("task_aware requires a model with a head, and the layer that the head reads (-1)")
    compressor = Compressor(len(sums.moment.total), K, (CLOSED | TRAINED)[arm], expansion)
    return compressor.set_optimum(sums.moment, sums.metric if aware else None)


def train(
    params: Compression, run: Run, reader: StateReader, states: StageStates, arm: str, K: int
) -> ArmResult | None:
    """Train a compressor on the states of a stage; None if `time_limit` paused it. The best of all evaluations, including the
    one before training (`_start`), is written to compressors/ARM/dK/stage1a_best or stage1b_best of `run`."""
    home, stage = f"compressors/{arm}/d{K}", f"stage{states.stage}"
    mean = states.sums.mean.to(reader.device)
    lm_head = reader.lm_head if arm == "task_aware" else None
    steps = states.batches["train"].epoch_steps
    settings = {"max_steps": params.max_steps or params.num_epochs * steps}
    settings |= {name: getattr(params, name) or steps for name in ("eval_interval", "checkpoint_interval")}
    if not params.early_stopping:
        settings["early_stopping_patience"] = 0

    def validate(model: Compressor) -> dict[str, float]:
        found = evaluate(model, states.batches["valid"].in_order(), mean, reader, outputs=lm_head is not None)
        gain = -found["kl" if lm_head else "mse"]
        return {f"valid/{name}": value for name, value in found.items()} | {"valid/gain": gain}

    def make_trainer(own_params: Compression, own: Run) -> Trainer:
        compressor = _start(params, run, states, arm, K).to(reader.device)
        score = [validate(compressor)["valid/gain"]]
        if not (params.resume and (own.dir / "best").exists()):  # after a pause the best so far stays
            own.save_model(compressor, "best")
        compressor.read_states, compressor.lm_head = reader.states, lm_head
        if params.compile:
            torch._dynamo.reset()  # each compressor is compiled anew, and the number of compilations is limited
        return Trainer(
            compressor, states.batches["train"], own_params.model_copy(update=settings), own, validate, ("valid/gain",),
            initial_score=score, patience_after_first_gain=True,
        )  # fmt: skip

    def keep_best(trainer: Trainer) -> dict:
        trainer.accelerator.wait_for_everyone()  # for the first process to have written
        run.save_model(load_pretrained(Compressor, trainer.run.dir / "best"), f"{home}/{stage}_best")
        return {}

    own = {"stage": states.stage, "arms": arm, "d_compressed": K, "sweep_d_values": "", "init_from": ""}
    result = train_arm(run, stage, params.model_copy(update=own), make_trainer, keep_best, within=home)
    if result and run.main:
        for leftover in ("checkpoints", "best"):
            shutil.rmtree(result.folder / leftover, ignore_errors=True)
    if result:
        result.model = load_pretrained(Compressor, run.dir / home / f"{stage}_best", reader.device)
    return result


def train_all(params: Compression, run: Run, reader: StateReader, states: StageStates, sizes: list[int]) -> Iterator:
    """Train every arm at every size in turn, yielding (arm, K, `ArmResult`); ends early where `time_limit` pauses one."""
    for K in sizes:
        for arm in usable_arms(params, reader):
            if (trained := train(params, run, reader, states, arm, K)) is None:
                return
            yield arm, K, trained


def check_first_stage(params: Compression, run: Run, reader: StateReader) -> None:
    """Raise UserError, before anything is read, where stage 1b alone does not find the compressors that it starts from."""
    if params.stage == "1b":
        for K in params.sizes:
            for arm in usable_arms(params, reader):
                _first_stage(params, run, arm, K, reader.hidden_size)


def _start(params: Compression, run: Run, states: StageStates, arm: str, K: int) -> Compressor:
    """The compressor before training: random, or the closed form of nonlinear and task_aware; in stage 1b that of 1a."""
    torch.manual_seed(params.seed)
    D = len(states.sums.moment.total)
    if states.stage == "1b":
        return _first_stage(params, run, arm, K, D)
    closed = arm in ("nonlinear", "task_aware")
    return closed_form(arm, K, states.sums, params.expansion) if closed else Compressor(D, K, TRAINED[arm])


def _first_stage(params: Compression, run: Run, arm: str, K: int, D: int) -> Compressor:
    """stage1a_best of an arm and size, of the run `init_from`, else of this run."""
    home = Path(params.init_from).expanduser() if params.init_from else run.dir
    found = home / "compressors" / arm / f"d{K}" / "stage1a_best"
    if not found.exists():
        raise UserError(f"stage 1b starts from {found}; give the folder of a run of stage 1a as init_from")
    compressor = load_pretrained(Compressor, found)
    if (compressor.kind, *compressor.encoder.shape) != (TRAINED[arm], K, D):
        raise UserError(f"{found} is not a compressor of kind {TRAINED[arm]}, from {D} to {K} numbers")
    return compressor


def usable_arms(params: Compression, reader: StateReader) -> list[str]:
    """The arms that can be trained: task_aware requires the states that the head reads."""
    aware = reader.head is not None and reader.last
    return [arm for arm in arm_names(params.arms) if aware or arm != "task_aware"]


def closed_arms(sums: StateSums) -> list[str]:
    """The closed forms that can be computed; task_aware_closed requires the Fisher information of the head."""
    return [arm for arm in CLOSED if sums.metric is not None or arm != "task_aware_closed"]


def evaluation_row(trained: StageStates, text: StageStates, reader: StateReader, arm: str, K: int, compressor) -> dict:
    """Row of a table: a compressor of the stage `trained` on the test part of `text`, centred by the mean of the latter."""
    found = evaluate(compressor, text.batches["test"].in_order(), text.sums.mean.to(reader.device), reader)
    return {"trained": trained.stage, "text": text.stage, "arm": arm, "K": K} | found


def closed_rows(params: Compression, reader: StateReader, trained: StageStates, text: StageStates) -> list[dict]:
    """Rows of every closed form, and of the mean predictor (arm "mean"), at every size."""
    mean = trained.sums.mean.to(reader.device)
    of_mean = evaluation_row(trained, text, reader, "mean", 0, lambda x: mean.expand_as(x))
    rows = []
    for K in params.sizes:
        rows.append(of_mean | {"K": K})
        for arm in closed_arms(trained.sums):
            compressor = closed_form(arm, K, trained.sums).to(reader.device)
            rows.append(evaluation_row(trained, text, reader, arm, K, compressor))
    return rows


def generate_with_compression(lm, tokenizer, reader: StateReader, compressor, problems, thinking: bool) -> Generations:
    """Greedy completions of `problems` with every state of the language model sent through `compressor` (None: unchanged)."""
    with reader.replaced(compressor):
        return generate_greedy(lm, tokenizer, problems, thinking)
