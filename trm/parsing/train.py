"""The work of chapter 05 as functions: a treebank to arrays, arms trained at equal compute, each judged and put in a row."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from trm.layers import inner_width
from trm.params import world_size
from trm.parsing import grammar
from trm.parsing.evaluate import Evaluation, attachment, batch_on, evaluate
from trm.parsing.params import Parsing
from trm.parsing.parser_parts import ParserConfig
from trm.parsing.pointer import Parser, load_parser, parser_flops
from trm.parsing.treebank import PARTS, Treebank, load_treebank
from trm.parsing.word_states import WordStates
from trm.parsing.words import LengthBatches, Vocabulary
from trm.run import Run
from trm.trainer import Trainer, place


@dataclass(frozen=True)
class Data:
    """A treebank, the vocabulary of its training part, and the arrays of each part."""

    treebank: Treebank
    vocabulary: Vocabulary
    encoded: dict[str, list[dict[str, np.ndarray]]]  # part -> arrays of each sentence
    state_size: int = 0  # of a pretrained encoder's states; 0: there are none


def load(params: Parsing) -> Data:
    """The treebank that `params` name, with a pretrained encoder's states where one is named.

    Raises:
        UserError: the treebank or the encoder cannot be used.
    """
    treebank = load_treebank(params.conllu_dir) if params.conllu_dir else grammar.treebank(0)
    if 0 < params.train_size < len(treebank.train):
        # Spread over the whole part, which stands in the order of its sources.
        some = np.sort(np.random.default_rng(0).permutation(len(treebank.train))[: params.train_size])
        treebank = Treebank([treebank.train[i] for i in some], treebank.dev, treebank.test)
    vocabulary = Vocabulary.of(treebank.train, params.subtypes)
    encoded = {part: vocabulary.encode(getattr(treebank, part)) for part in PARTS}
    if not params.encoder:
        return Data(treebank, vocabulary, encoded)
    states = WordStates(params.encoder, params.encoder_layers, params.encoder_pool, str(place(params)))
    for part in PARTS:
        for arrays, found in zip(encoded[part], states(getattr(treebank, part))):
            arrays["states"] = found
    return Data(treebank, vocabulary, encoded, states.hidden_size)


def arm_params(params: Parsing, arm: str) -> Parsing:
    """`params` with what `arm` says; "": as they are. Layers that the arm leaves open are counted here."""
    changed = params.of_arm(arm)
    if changed.block != "layers" or changed.plain_layers:
        return changed
    layers = params.max_inner_iters
    if arm == "transformer":  # as many as have the parameters of the convolutions and of the block
        D = params.hidden_size
        layer = 4 * D * D + 3 * D * inner_width(D, params.expansion, 8)
        layers = max(round(1 + params.conv_layers * params.conv_width * 2 * D * D / layer), 1)
    return changed.model_copy(update={"plain_layers": layers})


def make_parser(params: Parsing, data: Data) -> Parser:
    """The parser that `params` describe; its first weights depend on the seed alone."""
    torch.manual_seed(params.seed)
    return Parser(ParserConfig.of(params, data.vocabulary, data.state_size), asdict(data.vocabulary))


def training_flops(params: Parsing, data: Data) -> float:
    """FLOPs of training on one word, in sentences of the mean length (by words)."""
    lengths = np.array([len(s.words) for s in data.treebank.train])
    typical = round(float((lengths**2).sum() / lengths.sum()))
    return parser_flops(ParserConfig.of(params, data.vocabulary, data.state_size), typical, training=True) / typical


@dataclass
class ArmResult:
    """An arm that was trained: its parameters, its best model by the dev part, and what became of it."""

    arm: str
    params: Parsing
    model: Parser
    evaluation: Evaluation
    metrics: dict
    history: list[dict]


def batches_of_training(params: Parsing, data: Data) -> LengthBatches:
    """The training part in batches, each of which every process can cut into its parts."""
    multiple = params.grad_accumulation * world_size()
    return LengthBatches(data.encoded["train"], params.batch_tokens, params.batch_size, params.seed, multiple)


def steps_of(params: Parsing, data: Data, arm: str) -> int:
    """Optimizer steps of an arm: as many as cost what the arm costs that `params` describe."""
    steps = params.max_steps or params.epochs * batches_of_training(params, data).per_epoch
    factor = training_flops(params, data) / training_flops(arm_params(params, arm), data)
    return max(round(steps * factor), 1)


def train_arm(params: Parsing, data: Data, run: Run, arm: str, show: Callable | None = None) -> ArmResult | None:
    """Train one arm in a folder of its own under `run`, choose the best evaluation on dev, judge it on test.

    `epochs` are those of the arm that `params` describe; a named one takes as many steps as cost as much. None: `time_limit`
    paused it. An arm that is complete is not trained again by a run that resumes.
    """
    own, batches = arm_params(params, arm), batches_of_training(params, data)
    factor = training_flops(params, data) / training_flops(own, data)
    settings = {"max_steps": steps_of(params, data, arm)}
    for name in ("eval_interval", "checkpoint_interval"):
        settings[name] = max(round((getattr(params, name) or batches.per_epoch) * factor), 1)
    name = arm or "as_given"
    folder = run.path(f"arms/{name}/params.json").parent
    own = own.model_copy(
        update=settings | {"output_dir": str(folder), "time_limit": run.minutes_left(params.time_limit)}
    )
    done = folder / "metrics.json"
    if not (params.resume and done.exists()):
        part = Run(own, run.chapter)
        model = make_parser(own, data)
        trainer = Trainer(
            model,
            batches,
            own,
            part,
            evaluate=lambda averaged: attachment(averaged, data.treebank.dev, data.encoded["dev"], "valid"),
            monitor=("valid/las",),
            show=show,
        )
        metrics = trainer.fit()
        if trainer.paused:
            return None
        metrics |= {
            "train/epochs": settings["max_steps"] / batches.per_epoch,
            "train/flops_per_word": training_flops(own, data),
        }
        metrics["model/parameters"] = sum(p.numel() for p in model.parameters())
        trainer.accelerator.wait_for_everyone()
        part.finish(metrics, quiet=True)
        trainer.accelerator.wait_for_everyone()
    model = load_parser(folder / "best", str(place(params)))
    metrics = json.loads(done.read_text())
    evaluation = evaluate(model, data.treebank.test, data.encoded["test"])
    metrics |= evaluation.metrics("test")
    metrics |= controller_gradients(model, data)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return ArmResult(name, own, model, evaluation, metrics, history)


def with_halting(model: Parser, mode: str, threshold: float = 1.0) -> Parser:
    """The same weights under another way of stopping: "fixed", "entropy" below `threshold` nats, or "halting"."""
    other = copy.copy(model)
    other.config = replace(model.config, halting_mode=mode, entropy_threshold=threshold)
    return other


def controller_gradients(model: Parser, data: Data, sentences: int = 64) -> dict[str, float]:
    """Norm of the loss's gradient by the controller's parameters, and by each iteration's states (mean over the sentences), on
    the first sentences of training; nothing is learned. {} where nothing is routed."""
    if model.config.block != "pointer":
        return {}
    model.zero_grad()
    out = model.loss(batch_on(model.device, data.encoded["train"][:sentences]), detail=True)
    out.loss.backward()
    controller = [p.grad.norm() for p in model.blocks[0].controller.parameters() if p.grad is not None]
    found = {"gradients/controller": float(torch.stack(controller).norm())}
    for i, state in enumerate(out.intermediates, 1):
        found[f"gradients/iteration_{i}"] = float(state.grad.flatten(1).norm(dim=1).mean()) * len(state)
    model.zero_grad()
    return found


def arm_row(result: ArmResult, params: Parsing) -> dict:
    """An arm in one row of a table: its numbers; in `right` and `words` the right heads and words of each test sentence; and in
    `minutes`, `dev/uas` and `dev/las` the curve of its training; in order, with spaces between."""
    row = {"arm": result.arm, "seed": params.seed, "controller": result.params.controller}
    row |= {"routing": result.params.routing, "use_upos": result.params.use_upos}
    row |= {"ponder_coef": result.params.ponder_coef, "max_inner_iters": result.params.max_inner_iters}
    for name, value in result.metrics.items():
        if isinstance(value, list):
            row |= {f"{name}_{i}": number for i, number in enumerate(value, 1)}
        else:
            row[name] = value
    row |= {f"arc/{bucket['arc']}": bucket["uas"] for bucket in result.evaluation.by_distance()}
    watched = [record for record in result.history if "valid/uas" in record]
    row["minutes"] = " ".join(f"{record['train/seconds'] / 60:.3f}" for record in watched)
    for name in ("uas", "las"):
        row[f"dev/{name}"] = " ".join(f"{record[f'valid/{name}']:.4f}" for record in watched)
    words, heads, _ = result.evaluation.by_sentence().astype(int).T
    return row | {"right": " ".join(map(str, heads)), "words": " ".join(map(str, words))}
