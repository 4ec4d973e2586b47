"""The training of chapter 07: problems, the states of their prompts, and one arm trained."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from trm.arms import ArmResult
from trm.compressor.optimum import SecondMoment
from trm.compressor.states import StateBatches, StateStore, digest
from trm.errors import UserError
from trm.language import gsm8k
from trm.language.lm import load_lm, weights_digest
from trm.language.stories import SPLITS, problems
from trm.latent.data import Data, Encoded, Exercise, ThoughtBatches, encode, from_problem
from trm.latent.evaluate import answering, step_accuracy
from trm.latent.frozen_lm import FrozenLM, chat_prompt, tokens_of
from trm.latent.params import LatentReasoning
from trm.latent.reasoner import LatentReasoner, Latents, LatentThinker, Pause, ReasonerConfig, ReasonerParams
from trm.latent.state_map import state_distances, states_after
from trm.latent.thinking import FIT_ON, Thinking, in_batches
from trm.progress import Progress
from trm.run import Run, write_atomically
from trm.trainer import Trainer, resolve_device
from trm.training_params import subset

MIN_POSITIONS = 256  # of a reasoner


def load(params: LatentReasoning, run: Run | None) -> Data:
    """The language model and the exercises. No problem occurs in two parts: stories are separated by their arithmetic, GSM8K's
    problems by their text. The chains of GSM8K are the language model's own, kept in `run`. Raises UserError: a model or a file
    that cannot be used, or a part without problems."""
    model, tokenizer = load_lm(params.lm, params.precision if params.lm else "float32")
    lm = FrozenLM(model.to(resolve_device(params)), tokenizer, params.layer, params.ending, params.anchor)
    sizes = dict(zip(SPLITS, (params.num_samples, params.valid_size, params.test_size)))
    if not params.data_path:
        steps = params.min_steps, params.max_problem_steps
        stories = {part: islice(problems(part, 0, *steps), size) for part, size in sizes.items()}
        return Data(lm, {part: [from_problem(one) for one in some] for part, some in stories.items()})
    parts = {part: list(islice(gsm8k.exercises(params.data_path, part), size)) for part, size in sizes.items()}
    parts["train"] = self_generated_chains(params, run, lm, parts["train"])
    for part, some in parts.items():
        if not some:
            raise UserError(f"{params.data_path}: no problem for {part}; give more, or a model that solves some")
    return Data(lm, parts)


def self_generated_chains(params: LatentReasoning, run: Run, lm: FrozenLM, some: Sequence[Exercise]) -> list[Exercise]:
    """The exercises that the language model solves after a chain of its own, each with that chain. Its texts are generated once
    and saved batch by batch as JSON lines; UserError where these cannot be read, or are of another model or other problems."""
    prompts = [tokens_of(lm.tokenizer, chat_prompt(lm.tokenizer, one.question, True)) for one in some]
    about = {"weights": weights_digest(lm.lm), "prompts": digest(prompts), "most": params.max_new_tokens}
    file = StateStore.place(params.cache_dir, run.dir / "chains", about) / "chains.jsonl"
    thinking = Thinking(lm, None, params.max_new_tokens)
    with PartialState(cpu=params.device == "cpu").main_process_first():  # the first writes, the others read
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = kept_chains(file, about) if file.exists() else []
        for first in range(len(kept), len(some), params.batch_size):
            found = thinking.without(some[first : first + params.batch_size], True)
            kept += [{"text": text, "right": bool(right)} for text, right in zip(found.texts, found.right)]
            write_atomically(file, "\n".join(json.dumps(line) for line in (about, *kept)) + "\n")
    chains = [line["text"].split("</think>")[0] for line in kept]
    return [replace(one, chain=chain) for one, chain, line in zip(some, chains, kept, strict=True) if line["right"]]


def kept_chains(file: Path, about: dict) -> list[dict]:
    """The lines of a file of chains; its first says of what it is."""
    try:
        head, *lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        whole = all(isinstance(line["text"], str) and isinstance(line["right"], bool) for line in lines)
    except (OSError, ValueError, KeyError, TypeError):
        head, whole = None, False
    if head != about or not whole:
        raise UserError(f"{file} is broken or holds chains of something else; remove it, and they are generated again")
    return lines


def make_reasoner(params: LatentReasoning, data: Data, encoded: Sequence[Encoded], arm: str) -> Latents:
    """The untrained model of an arm. Its compressors are the principal components of the prompts' states and of the embeddings
    of chains and answers, whose tokens are its words. Raises UserError: a bottleneck wider than the states."""
    lm = data.lm
    torch.manual_seed(params.seed)
    ids = torch.tensor(sorted({token for one in encoded for token in one.chain + one.answer}), device=lm.device)
    longest = max((one.question for some in data.parts.values() for one in some), key=len)  # in letters
    tokens = len(tokens_of(lm.tokenizer, chat_prompt(lm.tokenizer, longest, True)))
    T = max(
        MIN_POSITIONS, params.num_latents + 5 * tokens // 4
    )  # a quarter more, as it may not be the longest in tokens
    shared = subset(ReasonerParams, params, layer=lm.layer).model_dump()
    config = ReasonerConfig(**shared, lm_size=lm.hidden_size, num_words=len(ids), seq_len=T)
    reasoner = (Pause if arm == "pause" else LatentReasoner)(config)
    if arm != "pause":
        states, words = SecondMoment(lm.hidden_size), SecondMoment(lm.hidden_size)
        for first in range(0, len(encoded[:FIT_ON]), params.batch_size):
            few = encoded[:FIT_ON][first : first + params.batch_size]
            prompt = lm.read_rows([one.prompt for one in few])
            states.add(prompt.states[prompt.mask])
            tokens = torch.tensor([token for one in few for token in one.chain + one.answer], device=lm.device)
            words.add(lm.embeddings[tokens].float())
        reasoner.reads.set_optimum(states)
        reasoner.writes.set_optimum(words)
    reasoner = reasoner.to(lm.device)
    reasoner.begin(ids, lm.embeddings)
    return reasoner


def compressed_states(
    params: LatentReasoning, run: Run, lm: FrozenLM, reasoner: LatentReasoner, encoded: Sequence[Encoded]
) -> StateStore:
    """The compressed states of all prompts, computed once and stored on disk, in `cache_dir` or the run's folder."""
    sequences = [np.array(one.prompt, np.int32) for one in encoded]

    def read(ids: Tensor, mask: Tensor) -> Tensor:
        return reasoner.reads.compress(lm.read(ids.to(lm.device), mask.to(lm.device)).states)

    about = {"weights": weights_digest(lm.lm), "layer": lm.layer, "tokens": digest(sequences)}
    about["compressor"] = weights_digest(reasoner.reads)
    batches = StateBatches(sequences, read, params.batch_size, lm.tokenizer.pad_token_id)
    with PartialState(cpu=params.device == "cpu").main_process_first(), torch.no_grad():
        folder = StateStore.place(params.cache_dir, run.dir / "states" / "prompts", about)
        return StateStore.find_or_write(folder, batches, about)


def train(params: LatentReasoning, run: Run, data: Data, show: Progress | None = None) -> ArmResult | None:
    """Train the arm that `params` name, and save its averaged last weights in `model/`; None if `time_limit` paused it."""
    if show:
        show.start()
    with run.resumable():
        trainer = make_trainer(params, run, data, show)
    metrics = trainer.fit()
    if trainer.paused:
        return None
    reasoner = trainer.plain_model.reasoner
    with trainer.ema.averaged() as model, torch.no_grad():
        run.save_model(model, "model")
        kept = {name: value.clone() for name, value in model.reasoner.state_dict().items()}
    reasoner.load_state_dict(kept)
    if run.main:
        shutil.rmtree(run.dir / "states", ignore_errors=True)
    metrics["model/parameters"] = sum(p.numel() for p in reasoner.parameters() if p.requires_grad)
    return ArmResult(params.arm or "own", trainer.params, run.dir, metrics, run.history(), reasoner.eval())


def make_trainer(params: LatentReasoning, run: Run, data: Data, show: Progress | None = None) -> Trainer:
    """The trainer of a new reasoner. The states of all prompts are computed first, which takes a while."""
    own = params.of_arm(params.arm)
    encoded = encode(data.lm, data.parts["train"], own.num_latents, own.teach_answer)
    reasoner = make_reasoner(own, data, encoded, params.arm)
    store = None if params.arm == "pause" else compressed_states(own, run, data.lm, reasoner, encoded)
    start = own.lm_loss_start if own.readout == "lm" and own.answer_weight + own.distill_weight else None
    pad_id = data.lm.tokenizer.pad_token_id
    after = None
    if own.readout == "state":
        states = states_after(data.lm, encoded, own.batch_size)
        reasoner.set_target(states)
        after = states.cpu().numpy()
    batches = ThoughtBatches(encoded, store, own.batch_size, pad_id, own.seed, start, own.lm_loss_every, after)
    thinker = LatentThinker(reasoner, data.lm)
    evaluate = partial(validate, params=own, data=data)
    return Trainer(thinker, batches, own, run, evaluate, monitor=("valid/accuracy",), show=show)


@torch.no_grad()
def validate(model: LatentThinker, params: LatentReasoning, data: Data) -> dict[str, float]:
    """valid/accuracy of the answers (`evaluate.answering`); valid/latent_I, the accuracy of the I-th latent's word as the total
    of its step, or valid/distance to the state after thinking."""
    some = data.parts["valid"]
    thinking = Thinking(data.lm, model.reasoner, params.max_new_tokens, params.max_answer_tokens)
    own = params.of_arm(params.arm)
    found = {"valid/accuracy": in_batches(answering(thinking), some, params.batch_size).accuracy}
    if params.arm == "pause":
        return found
    encoded = encode(data.lm, some, params.num_latents, own.teach_answer)
    if own.readout == "state":
        return found | {"valid/distance": state_distances(thinking, encoded, params.batch_size)[-1]}
    right = step_accuracy(thinking, encoded, params.batch_size)
    return found | {f"valid/latent_{i}": float(share) for i, share in enumerate(right, 1) if np.isfinite(share)}
