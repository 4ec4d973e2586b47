"""The work of chapter 07 as functions: problems and the states of their prompts, arms trained, all ways of answering judged."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from sklearn.linear_model import RidgeCV
from torch import Tensor

from trm.compressor.optimum import SecondMoment
from trm.compressor.states import StateBatches, StateStore, digest
from trm.errors import UserError
from trm.language import gsm8k
from trm.language.lm import load_lm, weights_digest
from trm.language.stories import SPLITS, problems
from trm.latent.data import Encoded, Exercise, ThoughtBatches, from_problem, said_by
from trm.latent.evaluate import Thinking, Way, in_batches, race
from trm.latent.frozen_lm import FrozenLM, Prompt, chat_prompt, padded, tokens_of
from trm.latent.params import LatentReasoning
from trm.latent.reasoner import SHIPPED_REASONER, LatentReasoner, Latents, Pause, ReasonerConfig, load_reasoner
from trm.latent.thinker import LatentThinker, ThinkingLoss
from trm.run import Run, write_atomically
from trm.trainer import Trainer, place

LEAST_ROOM = 256  # positions of a reasoner
LOOKED_AT = 2000  # problems from which compressors, means and regressions are found


@dataclass(frozen=True)
class Data:
    """A frozen language model, and the exercises of each part."""

    lm: FrozenLM
    parts: dict[str, list[Exercise]]


def load(params: LatentReasoning, run: Run | None) -> Data:
    """The language model and the exercises that `params` name; run: where chains are kept, if some are written. No problem of
    one part occurs in another: stories are told apart by their arithmetic, GSM8K's by their text. What a real model should
    think is what it wrote itself (`own_chains`).

    Raises:
        UserError: a model or a file that cannot be used, or a part without problems.
    """
    model, tokenizer = load_lm(params.lm, params.precision if params.lm else "float32")
    lm = FrozenLM(model.to(place(params)), tokenizer, params.layer, params.ending, params.anchor)
    sizes = dict(zip(SPLITS, (params.num_samples, params.valid_size, params.test_size)))
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


def own_chains(params: LatentReasoning, run: Run, lm: FrozenLM, asked: Sequence[Exercise]) -> list[Exercise]:
    """The exercises that the language model answers right after a chain of its own, each with that chain. What it wrote is kept
    as lines of JSON, batch by batch, below `cache_dir` or in the run's folder, and not written again.

    Raises:
        UserError: what is kept cannot be read, or belongs to another model or other problems.
    """
    prompts = [tokens_of(lm.tokenizer, chat_prompt(lm.tokenizer, one.question, True)) for one in asked]
    about = {"weights": weights_digest(lm.lm), "prompts": digest(prompts), "most": params.max_new_tokens}
    file = StateStore.place(params.cache_dir, run.dir / "chains", about) / "chains.jsonl"
    thinking = Thinking(lm, None, params.max_new_tokens)
    with PartialState(cpu=params.device == "cpu").main_process_first():  # the first writes, the others read
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = _kept_chains(file, about) if file.exists() else []
        for first in range(len(kept), len(asked), params.batch_size):
            found = thinking.without(asked[first : first + params.batch_size], True)
            kept += [{"text": text, "right": bool(right)} for text, right in zip(found.texts, found.right)]
            write_atomically(file, "\n".join(json.dumps(line) for line in (about, *kept)) + "\n")
    return [
        replace(one, chain=line["text"].split("</think>")[0])
        for one, line in zip(asked, kept, strict=True)
        if line["right"]
    ]


def _kept_chains(file: Path, about: dict) -> list[dict]:
    try:
        head, *lines = [json.loads(line) for line in file.read_text().splitlines()]
        whole = all(isinstance(line["text"], str) and isinstance(line["right"], bool) for line in lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} holds no chains ({error}); remove it, and they are written again") from None
    if head != about or not whole:
        raise UserError(f"{file} holds chains of something else; remove it, and they are written again")
    return lines


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
        params, lm_size=lm.hidden_size, layer=lm.layer, num_words=len(ids), seq_len=room(data, params.num_latents)
    )
    reasoner = (Pause if arm == "pause" else LatentReasoner)(config)
    if arm != "pause":
        states, words = SecondMoment(lm.hidden_size), SecondMoment(lm.hidden_size)
        for first in range(0, len(some), params.batch_size):
            few = some[first : first + params.batch_size]
            prompt = lm.read(*_prompts(lm, few))
            states.add(prompt.states[prompt.mask])
            said = torch.tensor([token for one in few for token in one.chain + one.answer], device=lm.device)
            words.add(lm.embeddings[said].float())
        reasoner.reads.set_optimum(states)
        reasoner.writes.set_optimum(words)
    reasoner = reasoner.to(lm.device)
    reasoner.begin(ids, lm.embeddings)
    return reasoner


def room(data: Data, num_latents: int) -> int:
    """Positions that a reasoner needs: at least `LEAST_ROOM`, and enough for the longest prompt of any part."""
    t, every = data.lm.tokenizer, (one for some in data.parts.values() for one in some)
    longest = max((one.question for one in every), key=len)  # in letters, which is near enough with a quarter more
    return max(LEAST_ROOM, num_latents + 5 * len(tokens_of(t, chat_prompt(t, longest, True))) // 4)


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
    way = Thinking(data.lm, model.reasoner, params.max_new_tokens, params.max_answer_tokens)
    found = {"valid/accuracy": in_batches(answering(way), some, params.batch_size).accuracy}
    if params.arm == "pause":
        return found
    right = slots(way, encode(data.lm, some, params.num_latents), params.batch_size)
    return found | {f"valid/latent_{i}": float(share) for i, share in enumerate(right, 1) if np.isfinite(share)}


def slots(way: Thinking, encoded: Sequence[Encoded], batch: int) -> np.ndarray:
    """How often each latent says the total of its own step: (num_latents,), nan where no problem has so many steps."""
    hits, counts = 0.0, 0.0
    for first in range(0, len(encoded), batch):
        some = encoded[first : first + batch]
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
        UserError: another language model, layer or ending than theirs.
    """
    if params.lm or params.data_path:
        raise UserError(
            "the thinkers that ship are for the model and the stories that ship; with another lm or data_path give "
            "`-p judged trained`"
        )
    found = {}
    for name in names:
        found[name] = load_reasoner(SHIPPED_REASONER / name, data.lm.hidden_size, name == "pause").to(data.lm.device)
        theirs = found[name].config
        if (theirs.layer, theirs.ending) != (data.lm.layer, params.ending):
            raise UserError(
                f"the thinkers that ship read layer {theirs.layer}, not {data.lm.layer}, and end with {theirs.ending!r}, not "
                f"{params.ending!r}; give `-p judged trained`"
            )
    return found


def ways(params: LatentReasoning, data: Data, thinkers: dict[str, Latents]) -> dict[str, Way]:
    """Every way of answering there is: without thinking, with a chain, and after each thinker's latents (or by itself); of the
    arm `thoughts` also read off its last latent (`read_off`), and after what needs no thought: the mean latents of training
    problems (`mean`), a ridge regression of the latents from the prompt's last state (`ridge`), and the latents of other
    problems (`shuffled`)."""
    most = params.max_new_tokens, params.max_answer_tokens
    plain, some = Thinking(data.lm, None, *most), data.parts["train"][:LOOKED_AT]
    found: dict[str, Way] = {
        "no_thinking": lambda asked: plain.without(asked, False),
        "chain": lambda asked: plain.without(asked, True),
    }
    for name, reasoner in thinkers.items():
        way = Thinking(data.lm, reasoner, *most)
        found[name] = answering(way)
        if name == "thoughts":
            found |= {"read_off": way.by_itself} | stand_ins(way, some, params.batch_size)
    return found


def answering(way: Thinking) -> Way:
    """How a thinker answers: by itself, if it was trained to, else through the language model."""
    return way.by_itself if way.reasoner.config.answers_by == "itself" else way.with_latents


def stand_ins(thinking: Thinking, some: Sequence[Exercise], batch: int) -> dict[str, Way]:
    """Ways of answering after what needs no thought; some: training problems, from which mean and ridge are found."""
    known, ridge = guesses(thinking, some, batch)

    def after(change: Callable[[Prompt, Tensor], Tensor]) -> Way:
        return lambda asked: thinking.with_latents(asked, change)

    return {
        "mean": after(lambda prompt, latents: known.mean(0).expand_as(latents)),
        "ridge": after(lambda prompt, latents: ridge(prompt.last)),
        "shuffled": after(lambda prompt, latents: known[torch.arange(len(latents)) % len(known)]),
    }


def guesses(thinking: Thinking, some: Sequence[Exercise], batch: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The latents on some problems (N, num_latents, D), and a ridge regression from the last prompt state (B, D) to them, its
    penalty chosen by leaving out one problem at a time."""
    states, latents = [], []
    for first in range(0, len(some), batch):
        prompt = thinking.read(some[first : first + batch])
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
    steps, table = np.array([one.steps for one in test]), []
    for name, way in found.items():
        answered = in_batches(way, test, params.batch_size)
        row = {"way": name, "seed": params.seed, "accuracy": answered.accuracy, "tokens": float(answered.tokens.mean())}
        table.append(
            row | {f"accuracy/{n}": float(answered.right[steps == n].mean()) for n in sorted(set(steps.tolist()))}
        )
    racing = {name: way for name, way in found.items() if name in times}
    for batch, count in ((1, params.timed // 8), (64, params.timed)):
        seconds = race(racing, test[: max(count, 1)], batch)
        for row in table:
            if row["way"] in seconds:
                row[f"ms/{batch}"] = 1000 * seconds[row["way"]]
    return table


@torch.no_grad()
def constancy(data: Data, encoded: Sequence[Encoded], batch: int) -> dict[str, list[float]]:
    """How much of a state is the same for every problem: the share of its mean square that the mean over problems takes, after
    each block. Of the token `</think>` after a right chain, and of the answer's anchor."""
    found = {"</think>": [], "answer's anchor": []}
    for first in range(0, len(encoded), batch):
        some = encoded[first : first + batch]
        prompt, chains = data.lm.read(*_prompts(data.lm, some)), [one.chain for one in some]
        for name, closed in zip(found, (1, None)):
            found[name].append(data.lm.anchors(prompt, chains, closed).cpu())
    states = {name: torch.cat(parts) for name, parts in found.items()}  # (N, layers, D) each
    return {name: (x.mean(0).square().sum(-1) / x.square().sum(-1).mean(0)).tolist() for name, x in states.items()}


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
