"""The work of chapter 07 as functions: problems and the states of their prompts, arms trained, all ways of answering judged."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from sklearn.linear_model import RidgeCV
from torch import Tensor

from trm.data import gsm8k
from trm.data.hidden_states import StateBatches, StateStore, digest
from trm.data.reasoning import problems
from trm.data.thoughts import Encoded, Exercise, ThoughtBatches, from_problem, said_by
from trm.errors import UserError
from trm.inference.thinking import Answered, Thinking, Way, in_batches, timed
from trm.models.frozen_lm import FrozenLM, Prompt, chat_prompt, padded, tokens_of
from trm.models.language_model import load_lm, weights_digest
from trm.models.latent_reasoner import (
    SHIPPED_REASONER,
    LatentReasoner,
    Latents,
    Pause,
    ReasonerConfig,
    load_reasoner,
)
from trm.models.latent_thinker import LatentThinker, ThinkingLoss
from trm.models.second_moment import SecondMoment
from trm.params import LATENT_ARMS, LatentReasoning
from trm.run import Run, write_atomically
from trm.training.trainer import Trainer, place

LEAST_ROOM = 256  # positions of a reasoner
LOOKED_AT = 2000  # problems from which compressors, means and regressions are found
BATCHES = {1: 16, 64: None}  # problems that a way of answering is timed on, by how many at once; None: `timed` of them
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Data:
    """A frozen language model, and the exercises of each part. name: how the model is called in what is kept of it."""

    lm: FrozenLM
    parts: dict[str, list[Exercise]]


def load(params: LatentReasoning, run: Run | None = None) -> Data:
    """The language model and the exercises that `params` name. No problem of one part occurs in another: stories are told apart
    by their arithmetic, GSM8K's by their text. What a real model should think is what it wrote itself (`own_chains`).

    Raises:
        UserError: a model or a file that cannot be used, or a part without problems.
    """
    model, tokenizer = load_lm(params.lm, params.precision if params.lm else "float32")
    lm = FrozenLM(model.to(place(params)), tokenizer, params.layer, params.ending, params.anchor)
    sizes = dict(zip(PARTS, (params.num_samples, params.valid_size, params.test_size)))
    if not params.data_path:
        steps = params.min_steps, params.max_problem_steps
        parts = {
            part: [from_problem(p) for p in islice(problems(part, 0, *steps), size)] for part, size in sizes.items()
        }
        return Data(lm, parts)
    parts = {part: list(islice(gsm8k.exercises(params.data_path, part), size)) for part, size in sizes.items()}
    parts["train"] = own_chains(params, run, lm, parts["train"])
    for part, found in parts.items():
        if not found:
            raise UserError(
                f"{params.data_path}: no problem for {part}; give more problems, or a model that solves some"
            )
    return Data(lm, parts)


def own_chains(params: LatentReasoning, run: Run | None, lm: FrozenLM, asked: Sequence[Exercise]) -> list[Exercise]:
    """The exercises that the language model answers right after a chain of its own, each with that chain. What it wrote is kept
    as lines of JSON, below `cache_dir` or in the run's folder, and not written again.

    Raises:
        UserError: what is kept belongs to another model or other problems.
    """
    prompts = [tokens_of(lm.tokenizer, chat_prompt(lm.tokenizer, one.question, True)) for one in asked]
    about = {"weights": weights_digest(lm.lm), "prompts": digest(prompts), "most": params.max_new_tokens}
    folder = StateStore.place(params.cache_dir, run.dir / "chains" if run else Path("chains"), about)
    file = folder / "chains.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        thinking = Thinking(lm, None, params.max_new_tokens)
        found = in_batches(lambda some: thinking.without(some, True), asked, params.batch_size)
        lines = [
            json.dumps(about),
            *(json.dumps({"text": t, "right": bool(r)}) for t, r in zip(found.texts, found.right)),
        ]
        write_atomically(file, "\n".join(lines) + "\n")
    try:
        head, *rows = [json.loads(line) for line in file.read_text().splitlines()]
        kept = [(row["text"], row["right"]) for row in rows]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{file} holds no chains ({error}); remove it, and they are written again") from None
    if head != about or len(kept) != len(asked):
        raise UserError(f"{file} holds chains of something else; remove it, and they are written again")
    return [
        Exercise(one.question, text.split("</think>")[0], one.answer, one.calculations, one.steps)
        for one, (text, right) in zip(asked, kept)
        if right and "</think>" in text
    ]


def encode(lm: FrozenLM, found: Sequence[Exercise], num_latents: int) -> list[Encoded]:
    """Exercises as token ids; an answer with the token that ends it."""
    t, end = lm.tokenizer, lm.tokenizer.eos_token_id
    return [
        Encoded(
            tokens_of(t, chat_prompt(t, one.question, True)),
            tokens_of(t, one.chain),
            [*tokens_of(t, one.answer), *([] if end is None else [end])],
            said_by(t, one, num_latents),
            one.steps,
        )
        for one in found
    ]


def make_reasoner(params: LatentReasoning, data: Data, encoded: Sequence[Encoded], arm: str) -> Latents:
    """What an arm trains: its first weights depend on the seed alone, its compressors on the first problems of training: the
    principal components of their states, and of the embeddings of what is said in their chains; its words are those of
    the chains and answers.

    Raises:
        UserError: more numbers than states have.
    """
    lm, some = data.lm, encoded[:LOOKED_AT]
    torch.manual_seed(params.seed)
    ids = torch.tensor(sorted({token for one in encoded for token in one.chain + one.answer}), device=lm.device)
    config = ReasonerConfig.of(
        params,
        lm_size=lm.hidden_size,
        layer=lm.layer,
        num_words=len(ids),
        seq_len=longest(encoded),
    )
    reasoner = (Pause if arm == "pause" else LatentReasoner)(config)
    if arm != "pause":
        states, words = SecondMoment(lm.hidden_size), SecondMoment(lm.hidden_size)
        words.add(lm.embeddings[torch.tensor(sum((one.chain + one.answer for one in some), [])).to(lm.device)].float())
        for first in range(0, len(some), params.batch_size):
            prompt = lm.read(*_prompts(lm, some[first : first + params.batch_size]))
            states.add(prompt.states[prompt.mask])
        reasoner.reads.set_optimum(states)
        reasoner.writes.set_optimum(words)
    reasoner = reasoner.to(lm.device)
    reasoner.begin(ids, lm.embeddings)
    return reasoner


def longest(encoded: Sequence[Encoded]) -> int:
    """Room for latents and prompts: at least `LEAST_ROOM`, and as much as the longest prompt of training needs."""
    return max(LEAST_ROOM, max(len(one.prompt) for one in encoded) + len(encoded[0].said))


def _prompts(lm: FrozenLM, some: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
    ids, mask = padded([one.prompt for one in some], lm.tokenizer.pad_token_id)
    return ids.to(lm.device), mask.to(lm.device)


def keep_states(
    params: LatentReasoning, run: Run, lm: FrozenLM, reasoner: LatentReasoner, encoded: Sequence[Encoded]
) -> StateStore:
    """The compressed states of all prompts, computed once and kept on disk: in the run's folder, or below `cache_dir`, where
    other runs find them."""
    sequences = [np.array(one.prompt, np.int32) for one in encoded]

    def read(ids: Tensor, mask: Tensor) -> Tensor:
        return reasoner.reads.compress(lm.read(ids.to(lm.device), mask.to(lm.device)).states)

    about = {"weights": weights_digest(lm.lm), "layer": lm.layer, "tokens": digest(sequences)}
    about |= {"compressor": weights_digest(reasoner.reads)}
    batches = StateBatches(sequences, read, params.batch_size, lm.tokenizer.pad_token_id)
    with PartialState(cpu=params.device == "cpu").main_process_first(), torch.no_grad():
        folder = StateStore.place(params.cache_dir, run.dir / "states" / "prompts", about)
        return StateStore.find_or_write(folder, batches, about)


def forget_states(run: Run) -> None:
    """Remove the states that this run kept in its own folder."""
    if run.main:
        shutil.rmtree(run.dir / "states", ignore_errors=True)


# --- training ---------------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """An arm after its training: what it trained, the trainer's metrics, and the history."""

    reasoner: Latents
    metrics: dict[str, float]
    history: list[dict]


def train(params: LatentReasoning, run: Run, data: Data, show: Callable | None = None) -> Trained | None:
    """Train the arm that `params` name, and keep its last weights, averaged, in `model/`; None if `time_limit` paused it."""
    own = params.of_arm(params.arm)
    encoded = encode(data.lm, data.parts["train"], own.num_latents)
    reasoner = make_reasoner(own, data, encoded, params.arm)
    store = None if params.arm == "pause" else keep_states(own, run, data.lm, reasoner, encoded)
    asked_from = own.asked_from if own.answers_by == "lm" else None
    pad = data.lm.tokenizer.pad_token_id
    batches = ThoughtBatches(encoded, store, own.batch_size, pad, own.seed, asked_from, own.ask_interval)
    thinker = LatentThinker(reasoner, data.lm, ThinkingLoss.of(own))

    def evaluate(model: LatentThinker) -> dict[str, float]:
        return watch(model, own, data)

    trainer = Trainer(thinker, batches, own, run, evaluate, monitor=("valid/accuracy",), show=show)
    metrics = trainer.fit()
    if trainer.paused:
        return None
    with trainer.ema.averaged() as model, torch.no_grad():
        run.save_model(model, "model")
        kept = {name: value.clone() for name, value in model.reasoner.state_dict().items()}
    reasoner.load_state_dict(kept)
    forget_states(run)
    metrics["model/parameters"] = sum(p.numel() for p in reasoner.parameters() if p.requires_grad)
    return Trained(reasoner.eval(), metrics, run.history())


@torch.no_grad()
def watch(model: LatentThinker, params: LatentReasoning, data: Data) -> dict[str, float]:
    """On the validation part: valid/accuracy of the answers; valid/latent_I, how often the I-th latent says the total of its
    step, over the problems that have so many steps."""
    some = data.parts["valid"]
    way = Thinking(data.lm, model.reasoner, params.max_new_tokens)
    own = params.answers_by == "itself"
    found = {"valid/accuracy": in_batches(way.by_itself if own else way.with_latents, some).accuracy}
    if params.arm == "pause":
        return found
    right = slots(way, encode(data.lm, some, params.num_latents))
    return found | {f"valid/latent_{i}": float(share) for i, share in enumerate(right, 1) if np.isfinite(share)}


def slots(way: Thinking, encoded: Sequence[Encoded]) -> np.ndarray:
    """How often each latent says the total of its own step: (num_latents,), nan where no problem has so many steps."""
    hits, counts = 0.0, 0.0
    for first in range(0, len(encoded), 250):
        some = encoded[first : first + 250]
        nearest = way.said(way.lm.read(*_prompts(way.lm, some))).cpu().numpy()
        said = np.stack([one.said[:, 0] for one in some])
        meant = (said >= 0) & (np.arange(said.shape[1])[None] < np.array([[one.steps] for one in some]))
        hits, counts = hits + ((nearest == said) & meant).sum(0), counts + meant.sum(0)
    with np.errstate(invalid="ignore"):
        return hits / counts


# --- all ways of answering --------------------------------------------------------------------------------------


def shipped(
    data: Data, params: LatentReasoning, names: Sequence[str] = ("thoughts", "direct", "pause")
) -> dict[str, Latents]:
    """The thinkers that ship, by arm.

    Raises:
        UserError: another language model, or another layer, than theirs.
    """
    if params.lm or params.data_path:
        raise UserError(
            "the thinkers that ship are for the model and the stories that ship; with another lm or data_path give "
            "`-p judged trained`"
        )
    found = {}
    for name in names:
        reasoner = load_reasoner(SHIPPED_REASONER / name, data.lm.hidden_size, name == "pause").to(data.lm.device)
        if name != "pause" and reasoner.config.layer != data.lm.layer:
            raise UserError(
                f"the thinkers that ship read layer {reasoner.config.layer}, not {data.lm.layer}; give `-p judged trained`"
            )
        found[name] = reasoner
    return found


def ways(params: LatentReasoning, data: Data, thinkers: dict[str, Latents]) -> dict[str, Way]:
    """Every way of answering there is: without thinking, with a chain, after each arm's latents; read off the last latent of
    `thoughts` (`read_off`); and after what needs no thought: the mean latents of the training problems (`mean`), a ridge
    regression of the latents from the prompt's last state (`ridge`), and the latents of another problem (`shuffled`)."""
    plain = Thinking(data.lm, None, params.max_new_tokens)
    found: dict[str, Way] = {
        "no_thinking": lambda some: plain.without(some, False),
        "chain": lambda some: plain.without(some, True),
    }
    some = data.parts["train"][:LOOKED_AT]
    for name, reasoner in thinkers.items():
        way = Thinking(data.lm, reasoner, params.max_new_tokens)
        found[name] = way.by_itself if LATENT_ARMS[name].get("answers_by") == "itself" else way.with_latents
        if name == "thoughts":
            found |= {"read_off": way.by_itself} | stand_ins(way, some)
    return found


def stand_ins(thinking: Thinking, some: Sequence[Exercise]) -> dict[str, Way]:
    """Ways of answering after what needs no thought; some: training problems, from which mean and ridge are found."""
    known, ridge = guesses(thinking, some)

    def after(change: Callable[[Prompt, Tensor], Tensor]) -> Way:
        return lambda asked: thinking.with_latents(asked, change)

    return {
        "mean": after(lambda prompt, latents: known.mean(0).expand_as(latents)),
        "ridge": after(lambda prompt, latents: ridge(prompt.last)),
        "shuffled": after(lambda prompt, latents: known[torch.arange(len(latents)) % len(known)]),
    }


def guesses(thinking: Thinking, some: Sequence[Exercise]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The latents on some problems (N, num_latents, D), and a ridge regression from the last prompt state (B, D) to them, its
    penalty chosen by leaving out one problem at a time."""
    states, latents = [], []
    for first in range(0, len(some), 250):
        prompt = thinking.read(some[first : first + 250])
        states.append(prompt.last)
        latents.append(thinking.latents(prompt))
    x, y = torch.cat(states).cpu().numpy(), torch.cat(latents)
    shape, device = y.shape[1:], y.device
    ridge = RidgeCV(alphas=np.logspace(-3, 5, 9)).fit(x, y.flatten(1).cpu().numpy())

    def predict(last: Tensor) -> Tensor:
        return torch.from_numpy(ridge.predict(last.cpu().numpy())).to(device, torch.float32).view(-1, *shape)

    return y, predict


def rows(params: LatentReasoning, data: Data, found: dict[str, Way], times: Sequence[str] = ()) -> list[dict]:
    """One row a way: accuracy on the test part, accuracy/N by number of steps, tokens written for an answer; for those in
    `times` also ms/1 and ms/64, milliseconds for an answer with so many problems at once."""
    test = data.parts["test"]
    steps = np.array([one.steps for one in test])
    table = []
    for name, way in found.items():
        answered: Answered = in_batches(way, test)
        row = {"way": name, "seed": params.seed, "accuracy": answered.accuracy, "tokens": float(answered.tokens.mean())}
        row |= {f"accuracy/{n}": float(answered.right[steps == n].mean()) for n in sorted(set(steps.tolist()))}
        if name in times:
            for batch, count in BATCHES.items():
                some = test[: count or params.timed]
                row[f"ms/{batch}"] = 1000 * timed(way, some, min(batch, len(some)))
        table.append(row)
    return table


@torch.no_grad()
def constancy(data: Data, encoded: Sequence[Encoded]) -> dict[str, list[float]]:
    """How much of a state is the same for every problem: the share of its mean square that the mean over problems takes, after
    each block. Of the token `</think>` after a right chain, and of the answer's anchor."""
    prompt, chains = data.lm.read(*_prompts(data.lm, encoded)), [one.chain for one in encoded]
    found = {}
    for name, closed in (("</think>", 1), ("answer's anchor", None)):
        states = data.lm.anchors(prompt, chains, closed)
        share = states.mean(0).square().sum(-1) / states.square().sum(-1).mean(0)  # (layers,)
        found[name] = share.tolist()
    return found


@torch.no_grad()
def nearest_words(
    thinking: Thinking, one: Exercise, H_cycles: int = 0, count: int = 1
) -> list[list[list[tuple[str, float]]]]:
    """What each latent says after each cycle: its nearest words with their shares in the mixture, for each cycle and latent."""
    reasoner, found = thinking.reasoner, []
    for thought in thinking.thoughts(thinking.read([one]), H_cycles):
        best = reasoner.logits(thought)[0, :, 0].softmax(-1).topk(count)  # (n, count)
        texts = [[thinking.lm.tokenizer.decode([i]) for i in row] for row in reasoner.ids[best.indices].tolist()]
        found.append([list(zip(*pair)) for pair in zip(texts, best.values.tolist())])
    return found
