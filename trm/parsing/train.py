"""Training of chapter 05: a treebank to arrays, arms at equal compute, their evaluation and their rows in the tables."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from trm import arms
from trm.arms import ArmResult, scaled
from trm.checkpoint import load_pretrained
from trm.halting import Rule
from trm.layers import inner_width
from trm.parsing import agreement, grammar
from trm.parsing.batches import LengthBatches, Vocabulary, batch_on
from trm.parsing.evaluate import Evaluation, attachment_scores, entropy_threshold, evaluate, speed
from trm.parsing.model import Parser, ParserConfig, parser_flops
from trm.parsing.params import Parsing
from trm.parsing.treebank import PARTS, Treebank, load_treebank
from trm.parsing.word_states import WordStates
from trm.run import Run
from trm.trainer import Trainer, resolve_device
from trm.training_params import world_size


@dataclass(frozen=True)
class Data:
    """A treebank, the vocabulary of its training part, and the arrays of each part."""

    treebank: Treebank
    vocabulary: Vocabulary
    encoded: dict[str, list[dict[str, np.ndarray]]]  # part -> arrays of each sentence
    state_size: int = 0  # width of a pretrained encoder's states; 0: there are none


def load_data(params: Parsing) -> Data:
    """The treebank that `params` name, with a pretrained encoder's states where one is named. UserError: it is not usable."""
    skip = params.bad_sentences == "skip"
    if not params.conllu_dir:
        treebank = grammar.treebank(0)
    elif params.conllu_dir.startswith(agreement.SOURCE):
        treebank = agreement.treebank(params.conllu_dir.removeprefix(agreement.SOURCE))
    else:
        treebank = load_treebank(params.conllu_dir, skip)
    if 0 < params.train_size < len(treebank.train):
        # Spread over the whole part, which is in the order of its sources.
        some = np.sort(np.random.default_rng(0).permutation(len(treebank.train))[: params.train_size])
        treebank = replace(treebank, train=[treebank.train[i] for i in some])
    vocabulary = Vocabulary.of(treebank.train, params.subtypes)
    encoded = {part: vocabulary.encode(getattr(treebank, part)) for part in PARTS}
    if not params.encoder:
        return Data(treebank, vocabulary, encoded)
    states = WordStates(params.encoder, params.encoder_layers, params.encoder_pool, str(resolve_device(params)))
    for part in PARTS:
        states.add_to(encoded[part], getattr(treebank, part))
    return Data(treebank, vocabulary, encoded, states.hidden_size)


def arm_params(params: Parsing, arm: str) -> Parsing:
    """`params` with the changes of `arm`; "": as they are. The number of plain layers that an arm leaves open is set here."""
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
    """The parser that `params` describe; its initial weights depend on the seed alone."""
    torch.manual_seed(params.seed)
    return Parser(ParserConfig.of(params, data.vocabulary, data.state_size), asdict(data.vocabulary))


def training_flops(params: Parsing, data: Data) -> float:
    """FLOPs of training per word, in sentences of the mean length (by words)."""
    lengths = np.array([len(s.words) for s in data.treebank.train])
    typical = round(float((lengths**2).sum() / lengths.sum()))
    return parser_flops(ParserConfig.of(params, data.vocabulary, data.state_size), typical, training=True) / typical


def training_batches(params: Parsing, data: Data) -> LengthBatches:
    """The training part in batches, each of which every process can cut into its micro-batches."""
    multiple = params.grad_accumulation * world_size()
    return LengthBatches(data.encoded["train"], params.batch_tokens, params.batch_size, params.seed, multiple)


def equal_compute(params: Parsing, data: Data, arm: str) -> Parsing:
    """The parameters of an arm with as many optimizer steps as cost the FLOPs of the arm that `params` describe, or as make as
    many epochs (`equal`)."""
    own, epoch = arm_params(params, arm), training_batches(params, data).per_epoch
    factor = training_flops(params, data) / training_flops(own, data) if params.equal == "flops" else 1.0
    steps = {"max_steps": params.max_steps or params.epochs * epoch}
    steps |= {name: getattr(params, name) or epoch for name in ("eval_interval", "checkpoint_interval")}
    return scaled(own.model_copy(update=steps), factor, tuple(steps))


def train_arm(params: Parsing, data: Data, run: Run, arm: str, draw: Callable | None = None) -> ArmResult | None:
    """Train one arm in its own folder of `run` and evaluate what was best on dev on test. None: `time_limit` paused it."""
    own, batches = equal_compute(params, data, arm), training_batches(params, data)

    def dev_scores(model: Parser) -> dict[str, float]:
        return attachment_scores(model, data.treebank.dev, data.encoded["dev"], "valid")

    def make_trainer(own: Parsing, own_run: Run) -> Trainer:
        return Trainer(make_parser(own, data), batches, own, own_run, dev_scores, monitor=("valid/las",))

    def costs(trainer: Trainer) -> dict[str, float]:
        size = sum(p.numel() for p in trainer.plain_model.parameters())
        epochs, words = own.max_steps / batches.per_epoch, sum(len(s.words) for s in data.treebank.train)
        flops = training_flops(own, data) * epochs * words
        return {"train/epochs": epochs, "flops/training": flops, "model/parameters": size}

    result = arms.train_arm(run, arm or "as_given", own, make_trainer, costs, draw=draw)
    if result is not None:
        result.model = load_pretrained(Parser, result.folder / "best", str(resolve_device(params)))
        result.evaluation = evaluate(result.model, data.treebank.test, data.encoded["test"])
        result.metrics |= result.evaluation.metrics("test") | controller_gradients(result.model, data)
        result.metrics |= stopped_by_entropy(result.model, data, result.evaluation, own.tolerance)
    return result


def with_halting(model: Parser, mode: str, threshold: float = 1.0) -> Parser:
    """The same weights with another halting mode: "fixed", "entropy" below `threshold` nats, or "halting"."""
    other = copy.copy(model)
    other.config = model.config.model_copy(update={"halting_mode": mode, "entropy_threshold": threshold})
    return other


def stopped_by_entropy(model: Parser, data: Data, test: Evaluation, tolerance: float) -> dict[str, float]:
    """Stopping where the routing entropy is low, by the threshold of fewest iterations that loses at most `tolerance` of UAS on
    dev: the threshold, UAS and mean iterations on test, and sentences per second over those of all iterations. {} where nothing
    is iterated and routed. test: the model's evaluation on the test part."""
    if model.config.block != "pointer" or model.num_iterations == 1:
        return {}
    model = with_halting(model, "fixed")
    threshold = entropy_threshold(evaluate(model, data.treebank.dev, data.encoded["dev"]), tolerance)
    stopped = test.stopping(Rule("entropy", threshold))
    name = "parse/sentences_per_second"
    rates = [speed(one, data.encoded["test"])[name] for one in (with_halting(model, "entropy", threshold), model)]
    return {
        "entropy/threshold": threshold,
        "entropy/uas": float(stopped.at_exit[0].mean()),
        "entropy/mean_steps": float(stopped.steps.mean()),
        "entropy/speedup": rates[0] / rates[1],
    }


def controller_gradients(model: Parser, data: Data, sentences: int = 64) -> dict[str, float]:
    """Gradient norm of the loss at the controller's parameters and at each iteration's states (mean over the sentences), on
    the first training sentences. {} where nothing is routed."""
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


def arm_row(result: ArmResult) -> dict:
    """An arm as one row of the main table: what it was, its metrics (one column per iteration), UAS by length and by label of
    the arc."""
    metrics = dict(result.metrics)
    row = {"arm": result.arm, "seed": result.seed, "epochs": metrics.pop("train/epochs")}
    names = ("lr", "controller", "routing", "encoder", "use_upos", "ponder_coef", "max_inner_iters")
    row |= {name: getattr(result.params, name) for name in names}
    for name, value in metrics.items():
        row |= {f"{name}_{i}": v for i, v in enumerate(value, 1)} if isinstance(value, list) else {name: value}
    distances, labels = result.evaluation.by_distance(), result.evaluation.by_label()
    row |= {f"arc/{arc}": uas for arc, uas in zip(distances["arc"], distances["uas"])}
    return row | {f"label/{label}": uas for label, uas in zip(labels["label"], labels["uas"])}


def arm_curve(result: ArmResult) -> list[dict]:
    """The evaluations on dev while an arm was trained: arm, seed, minutes, dev/uas, dev/las."""
    points = result.curve(**{"minutes": "train/seconds", "dev/uas": "valid/uas", "dev/las": "valid/las"})
    return [{"arm": result.arm, "seed": result.seed} | point | {"minutes": point["minutes"] / 60} for point in points]
