"""The work of chapter 01: texts to states, one pass to the optimum for every size, and compressors trained by descent."""

import io
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from safetensors.torch import load_file
from torch import Tensor

from trm.compressor.evaluate import judge
from trm.compressor.model import Compressor
from trm.compressor.optimum import LogitMetric, SecondMoment
from trm.compressor.params import Compression
from trm.compressor.states import StateBatches, StateStore, digest
from trm.errors import UserError
from trm.language.lm import StateReader, Written, weights_digest, write
from trm.language.stories import Problem, completion, problems, prompt
from trm.language.text import documents, part_of, sequences
from trm.params import arm_names
from trm.run import Run
from trm.trainer import Trainer

PARTS = ("train", "valid", "test")
CLOSED = {"optimum": "tied", "pca": "affine", "task_aware_closed": "linear"}  # closed forms and their kinds
TRAINED = {"tied": "tied", "untied": "linear", "affine": "affine", "nonlinear": "nonlinear", "task_aware": "linear"}


@dataclass
class Sums:
    """What one pass over states gives: their moment, what the head does with them (None without one), and its seconds."""

    moment: SecondMoment
    metric: LogitMetric | None
    seconds: float

    @property
    def mean(self) -> Tensor:
        """(D,), float32: the best guess of who knows nothing."""
        return self.moment.mean.float()


@dataclass
class StageStates:
    """The states of a stage's texts: batches of each part, and the sums over the training part."""

    stage: str
    batches: dict[str, StateBatches]
    sums: Sums


def read_stage(params: Compression, run: Run, reader: StateReader, tokenizer, stage: str) -> StageStates:
    """Texts of a stage ("1a" ordinary text, "1b" thinking) to states, kept on disk where `cache` says so, and their sums.

    Raises:
        UserError: a size larger than the states, no text, a state that is not finite.
    """
    for K in (*params.sizes, params.d_compressed):
        Compressor.check_size(reader.hidden_size, K)
    longest = getattr(reader.model.config, "max_position_embeddings", None) or params.max_seq_length
    if params.max_seq_length > longest:
        raise UserError(
            f"max_seq_length {params.max_seq_length} is more than the {longest} tokens that the model can read"
        )
    found = read_sequences(params, tokenizer, stage)
    batches, weights = {}, weights_digest(reader.model) if params.cache else ""
    with PartialState(cpu=params.device == "cpu").main_process_first():  # the first writes, the others find it
        for part, of in found.items():
            batches[part] = StateBatches(
                of, reader.states, params.batch_size, tokenizer.pad_token_id, params.skip_first, params.seed
            )
            if params.cache:
                about = {"lm": params.lm, "weights": weights, "layer": reader.layer, "precision": params.precision}
                about |= {"tokens": digest(of), "skip_first": params.skip_first}
                folder = StateStore.place(params.cache_dir, run.dir / "states" / stage / part, about)
                batches[part].store = StateStore.find_or_write(folder, batches[part], about)
    return StageStates(stage, batches, one_pass(batches["train"].in_order(), reader))


def label(params: Compression, stage: str) -> str:
    """What the texts of a stage are, in words."""
    path = params.text_path if stage == "1a" else params.cot_path
    return f"{stage}, {Path(path).name if path else {'1a': 'ordinary text', '1b': 'thoughts'}[stage]}"


def forget_states(run: Run) -> None:
    """Remove the states that this run kept in its own folder."""
    if run.main:
        shutil.rmtree(run.dir / "states", ignore_errors=True)


def read_sequences(params: Compression, tokenizer, stage: str) -> dict[str, list[np.ndarray]]:
    """Token ids of the texts of a stage: part -> sequences. Split by document, or by problem where the generator writes them.

    Raises:
        UserError: a part is empty.
    """
    path, thinking = (params.text_path, False) if stage == "1a" else (params.cot_path, True)
    found = {}
    for part in PARTS:
        count = params.num_samples if part == "train" else params.eval_samples
        if path:
            texts = part_of(documents(path, params.text_column), part)
        else:
            if len(tokenizer.encode("<think>", add_special_tokens=False)) != 1:
                raise UserError(
                    "the generator's texts are written in the tokens of the model that ships; with another one say what it "
                    "should read: text_path, and cot_path or `-p stage 1a`"
                )
            texts = (prompt(p, thinking) + completion(p, thinking) for p in problems(part, params.seed))
        encode = partial(tokenizer.encode, add_special_tokens=bool(path), verbose=False)
        found[part] = sequences(texts, encode, params.max_seq_length, count)
        if not found[part]:
            raise UserError(
                f"{path}: no sequence of eight tokens for {part}; of ten documents the last is for test, the one before it "
                "for valid: give ten at least"
            )
    return found


def one_pass(batches: Iterable[dict[str, np.ndarray]], reader: StateReader) -> Sums:
    """Read the states once and keep their sums alone.

    Raises:
        UserError: a state is not finite; the message names its batch.
    """
    started, moment = time.perf_counter(), SecondMoment(reader.hidden_size)
    metric = LogitMetric(reader.head.weight) if reader.last and reader.head is not None else None
    for batch in batches:
        states = torch.from_numpy(batch["states"][batch["mask"]])
        moment.add(states)
        if metric is not None:
            metric.add(reader.say(states))
    return Sums(moment, metric, time.perf_counter() - started)


def closed_form(arm: str, K: int, sums: Sums, expansion: float = 2.0) -> Compressor:
    """The best linear compressor there is for an arm, which is also where its descent begins: the top K directions of the
    second moment (tied, optimum), of the covariance (affine, nonlinear, pca), or of the covariance as the head sees it
    (task_aware).

    Raises:
        UserError: task_aware without a head, or K beyond 1 to D.
    """
    aware = arm.startswith("task_aware")
    if aware and sums.metric is None:
        raise UserError("task_aware wants a model with a head, and the layer that it reads (-1)")
    compressor = Compressor(len(sums.moment.total), K, (CLOSED | TRAINED)[arm], expansion)
    return compressor.set_optimum(sums.moment, sums.metric if aware else None)


# --- descent --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """A compressor that was trained: its weights in `folder`, what `Trainer.fit` says of it."""

    compressor: Compressor
    folder: Path
    metrics: dict[str, float]


def train(
    params: Compression, run: Run, reader: StateReader, of: StageStates, arm: str, K: int, show: Callable | None = None
) -> Trained | None:
    """Train a compressor on the states of a stage, as a run of its own below compressors/ARM/dK/; None if `time_limit`
    paused it. What was best on the validation part, the weights that it began with included, is kept as stage1a_best or
    stage1b_best.

    tied, untied and affine begin with random weights, nonlinear and task_aware with their closed forms, and all of them in
    stage 1b with stage1a_best of the same size.

    Raises:
        UserError: stage 1b without its 1a checkpoint, or what `closed_form` raises.
    """
    home = run.path(f"compressors/{arm}/d{K}/stage{of.stage}")
    kept = home.with_name(f"stage{of.stage}_best")
    values = {name: getattr(params, name) for name in Compression.model_fields}
    values |= {"stage": of.stage, "arms": arm, "d_compressed": K, "sweep_d_values": "", "output_dir": str(home)}
    values |= {"init_from": "", "time_limit": run.minutes_left(params.time_limit)}
    own = Run(Compression.create(values), "01_compressor")
    compressor = _begin(params, run, of, arm, K).to(reader.device)
    if params.resume and (home / "metrics.json").exists():
        compressor.load_state_dict(load_file(kept / "model.safetensors", str(reader.device)))
        return Trained(compressor, kept, json.loads((home / "metrics.json").read_text()))
    say = reader.say if arm == "task_aware" else None
    mean = of.sums.mean.to(reader.device)

    def evaluate(model: Compressor) -> dict[str, float]:
        found = judge(model, of.batches["valid"].in_order(), mean, reader, said=say is not None)
        gain = -found["kl" if say else "mse"]
        return {f"valid/{name}": value for name, value in found.items()} | {"valid/gain": gain}

    steps = of.batches["train"].epoch_steps
    settings = {"max_steps": params.max_steps or params.num_epochs * steps}
    settings |= {name: getattr(params, name) or steps for name in ("eval_interval", "checkpoint_interval")}
    settings |= {} if params.early_stopping else {"early_stopping_patience": 0}
    begin = [evaluate(compressor)["valid/gain"]]
    if not (params.resume and (home / "best").exists()):  # what an earlier part of this training found best stays
        own.save_model(compressor, "best")  # unless an epoch is better
    compressor.reads, compressor.says = reader.states, say
    if params.compile:
        torch._dynamo.reset()  # each compressor is compiled anew, and there is a limit to that
    trainer = Trainer(
        compressor, of.batches["train"], own.params.model_copy(update=settings), own, evaluate, ("valid/gain",), show
    )
    trainer.best = begin
    trainer.evaluations_without_gain = -settings["max_steps"]  # patience begins with the first gain over the beginning
    metrics = trainer.fit()
    if trainer.paused:
        return None
    wait = trainer.accelerator.wait_for_everyone
    wait()  # for the first process to have written
    compressor.load_state_dict(load_file(home / "best" / "model.safetensors", str(reader.device)))
    wait()  # for the others to have read
    compressor.reads = compressor.says = compressor._compiled_call_impl = None
    run.save_model(compressor, str(kept.relative_to(run.dir)))
    own.finish(metrics, quiet=True)
    if run.main:
        for leftover in ("checkpoints", "best"):  # what is kept is `kept`
            shutil.rmtree(home / leftover, ignore_errors=True)
    wait()
    return Trained(compressor, kept, metrics)


def train_all(
    params: Compression, run: Run, reader: StateReader, of: StageStates, sizes: list[int]
) -> Iterator[tuple[str, int, Trained]]:
    """Train every arm at every size, in turn; ends early where `time_limit` pauses one."""
    for K in sizes:
        for arm in usable_arms(params, reader):
            trained = train(params, run, reader, of, arm, K)
            if trained is None:
                return
            yield arm, K, trained


def check_beginnings(params: Compression, run: Run, reader: StateReader) -> None:
    """See to it, before anything is read, that stage 1b alone finds all the compressors of stage 1a that it begins with.

    Raises:
        UserError: one is missing, or is of another kind or size.
    """
    if params.stage == "1b":
        for K in params.sizes:
            for arm in usable_arms(params, reader):
                _first_stage(params, run, arm, K, reader.hidden_size)


def _begin(params: Compression, run: Run, of: StageStates, arm: str, K: int) -> Compressor:
    """The compressor that a training begins with."""
    torch.manual_seed(params.seed)
    D = len(of.sums.moment.total)
    if of.stage == "1b":
        return _first_stage(params, run, arm, K, D)
    if arm in ("nonlinear", "task_aware"):
        return closed_form(arm, K, of.sums, params.expansion)
    return Compressor(D, K, TRAINED[arm])


def _first_stage(params: Compression, run: Run, arm: str, K: int, D: int) -> Compressor:
    """stage1a_best of an arm and size: below `init_from` (or the folder itself), else of this run."""
    home = Path(params.init_from).expanduser() if params.init_from else run.dir
    places = [home / "compressors" / arm / f"d{K}" / "stage1a_best", home]
    found = next((place for place in places if (place / "model.safetensors").exists()), None)
    if found is None:
        raise UserError(
            f"stage 1b begins with the compressor of stage 1a, and {home} holds no compressors/{arm}/d{K}/stage1a_best; "
            "run with `-p stage 1a` first and give its folder as init_from, or choose `-p stage both`"
        )
    try:
        with redirect_stdout(io.StringIO()):  # the mixin announces itself
            begun = Compressor.from_pretrained(found)
    except Exception as error:  # safetensors, json and the hub's mixin each raise their own
        why = str(error).splitlines()[0]
        raise UserError(
            f"{found} holds no compressor ({why}); give the folder of a run of stage 1a as init_from"
        ) from None
    if (begun.kind, *begun.encoder.shape) != (TRAINED[arm], K, D):
        raise UserError(
            f"{found} holds a compressor of kind {begun.kind} from {begun.encoder.shape[1]} to {begun.d_compressed} numbers; "
            f"wanted is {TRAINED[arm]}, from {D} to {K}"
        )
    return begun


# --- what they are worth --------------------------------------------------------------------------------------


def usable_arms(params: Compression, reader: StateReader) -> list[str]:
    """The arms that can be trained: without a head on the states' layer, task_aware cannot."""
    aware = reader.head is not None and reader.last
    return [arm for arm in arm_names(params.arms) if aware or arm != "task_aware"]


def closed_arms(sums: Sums) -> list[str]:
    """The closed forms that there are; task_aware wants the head's part of the sums."""
    return [arm for arm in CLOSED if sums.metric is not None or arm != "task_aware_closed"]


def row(trained: StageStates, judged: StageStates, reader: StateReader, arm: str, K: int, compressor: Callable) -> dict:
    """What a compressor made from one stage's states loses on the test part of another's (or of the same): a table's row.
    What is centred is so by the mean of the text that is judged."""
    mean = judged.sums.mean.to(reader.device)
    found = judge(compressor, judged.batches["test"].in_order(), mean, reader)
    return {"trained": trained.stage, "text": judged.stage, "arm": arm, "K": K} | found


def closed_rows(params: Compression, reader: StateReader, trained: StageStates, judged: StageStates) -> list[dict]:
    """Rows of every closed form at every size, and of the mean alone (arm "mean"), which stands at every size too."""
    mean = trained.sums.mean.to(reader.device)
    alone = row(trained, judged, reader, "mean", 0, lambda x: mean.expand_as(x))
    rows = []
    for K in params.sizes:
        rows.append(alone | {"K": K})
        for arm in closed_arms(trained.sums):
            compressor = closed_form(arm, K, trained.sums).to(reader.device)
            rows.append(row(trained, judged, reader, arm, K, compressor))
    return rows


def still_says(
    lm: torch.nn.Module,
    tokenizer,
    reader: StateReader,
    compressor: Callable | None,
    asked: list[Problem],
    thinking: bool,
) -> Written:
    """What the language model writes while each of its states, those of the first tokens too, goes through `compressor`
    (None: as it is)."""
    with reader.replaced(compressor):
        return write(lm, tokenizer, asked, thinking)
