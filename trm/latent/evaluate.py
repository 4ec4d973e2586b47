"""Methods of answering compared, their times, and what single latents and states hold."""

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor

from trm.errors import UserError
from trm.latent.continued import continued
from trm.latent.data import Data, Encoded, Exercise
from trm.latent.frozen_lm import Prompt
from trm.latent.params import LatentReasoning
from trm.latent.reasoner import SHIPPED_REASONER, Latents, load_reasoner
from trm.latent.thinking import FIT_ON, Method, Thinking, in_batches

SHIPPED = ("thoughts", "direct", "pause", "totals")


def shipped(data: Data, params: LatentReasoning) -> dict[str, Latents]:
    """The reasoners that ship, by arm.

    Raises:
        UserError: another language model, layer or ending than theirs.
    """
    lm, found, advice = data.lm, {}, "give `-p eval_checkpoint trained`"
    if params.lm or params.data_path:
        raise UserError(f"the reasoners that ship are for the model and the stories that ship; {advice}")
    for name in SHIPPED:
        found[name] = load_reasoner(SHIPPED_REASONER / name, lm.hidden_size, name == "pause").to(lm.device)
        layer, ending = found[name].config.layer, found[name].config.ending
        if (layer, ending) != (lm.layer, params.ending):
            raise UserError(f"the reasoners that ship are for layer {layer} and ending {ending!r}; {advice}")
    return found


def answering(thinking: Thinking) -> Method:
    """The method that a reasoner was trained for; if it was taught no answer, a chain that goes on after half of the steps."""
    return thinking.answer if thinking.reasoner.config.teach_answer else partial(continued, thinking)


def methods(params: LatentReasoning, data: Data, reasoners: dict[str, Latents]) -> dict[str, Method]:
    """Every method by name: no_thinking, chain, each reasoner by the readout it was trained for, and for `thoughts` also
    read_off (the word nearest to its last latent) and `baselines`."""
    limits = params.max_new_tokens, params.max_answer_tokens
    without = Thinking(data.lm, None, *limits).without
    found: dict[str, Method] = {name: partial(without, thinking=name == "chain") for name in ("no_thinking", "chain")}
    for name, reasoner in reasoners.items():
        thinking = Thinking(data.lm, reasoner, *limits)
        found[name] = answering(thinking)
        if name == "thoughts":
            found["read_off"] = thinking.direct
            found |= baselines(thinking, data.parts["train"][:FIT_ON], params.batch_size)
    return found


def baselines(thinking: Thinking, some: Sequence[Exercise], batch: int) -> dict[str, Method]:
    """Answers after latents that were not computed for the problem: mean over the training problems `some`; ridge regression
    from the prompt's last state (penalty by leave-one-out cross-validation); shuffled, those of `some`."""
    states, latents = [], []
    for first in range(0, len(some), batch):
        prompt = thinking.read(some[first : first + batch])
        states.append(prompt.last.cpu())
        latents.append(thinking.latents(prompt))
    known = torch.cat(latents)  # (N, num_latents, D)
    fitted = RidgeCV(alphas=np.logspace(-3, 5, 9)).fit(torch.cat(states).numpy(), known.flatten(1).cpu().numpy())

    def mean(prompt: Prompt, own: Tensor) -> Tensor:
        return known.mean(0).expand_as(own)

    def ridge(prompt: Prompt, own: Tensor) -> Tensor:
        return torch.from_numpy(fitted.predict(prompt.last.cpu().numpy())).to(own.device, torch.float32).view_as(own)

    def shuffled(prompt: Prompt, own: Tensor) -> Tensor:
        return known[torch.arange(len(own)) % len(known)]

    return {change.__name__: partial(thinking.with_latents, change=change) for change in (mean, ridge, shuffled)}


def latency(methods: dict[str, Method], some: Sequence[Exercise], batch: int, rounds: int = 5) -> dict[str, float]:
    """Seconds per answer of each method, prompt included: median over rounds in which the methods answer all of `some`, `batch`
    at a time, in turn; after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for round_ in range(rounds + 1):
        for name, method in methods.items():
            asked = some if round_ else some[:batch]
            started = time.perf_counter()
            in_batches(method, asked, batch)
            seconds[name].append((time.perf_counter() - started) / len(asked))
    return {name: float(np.median(taken[1:])) for name, taken in seconds.items()}


def rows(params: LatentReasoning, data: Data, found: dict[str, Method], timed: Sequence[str] = ()) -> list[dict]:
    """One row per method: accuracy on the test part, accuracy/N by number of steps, tokens generated per answer; for those in
    `timed` also ms/1 and ms/64, milliseconds per answer in batches of 1 and of 64."""
    test = data.parts["test"]
    steps, table = np.array([one.steps for one in test]), []
    for name, method in found.items():
        answers = in_batches(method, test, params.batch_size)
        row = {"way": name, "seed": params.seed, "accuracy": answers.accuracy, "tokens": float(answers.tokens.mean())}
        row |= {f"accuracy/{n}": float(answers.right[steps == n].mean()) for n in sorted(set(steps.tolist()))}
        table.append(row)
    measured = {name: method for name, method in found.items() if name in timed}
    for batch, count in ((1, params.timed // 8), (64, params.timed)):
        seconds = latency(measured, test[: max(count, 1)], batch)
        for row in table:
            if row["way"] in seconds:
                row[f"ms/{batch}"] = 1000 * seconds[row["way"]]
    return table


def chapter_metrics(table: Sequence[dict]) -> dict[str, float]:
    """latent/accuracy_<method> of a run's rows; for `thoughts` latent/accuracy, latent/gap_recovered (the share of the gap from
    no_thinking to chain that it closes) and latent/speedup (ms of chain over ms of thoughts, one problem at a time)."""
    by = {row["way"]: row for row in table}
    found = {f"latent/accuracy_{name}": row["accuracy"] for name, row in by.items() if name != "thoughts"}
    if own := by.get("thoughts"):
        none, chain = by["no_thinking"]["accuracy"], by["chain"]["accuracy"]
        found["latent/accuracy"] = own["accuracy"]
        found["latent/speedup"] = by["chain"]["ms/1"] / own["ms/1"]
        if chain != none:
            found["latent/gap_recovered"] = (own["accuracy"] - none) / (chain - none)
    return found


def step_accuracy(thinking: Thinking, encoded: Sequence[Encoded], batch: int) -> np.ndarray:
    """Share of problems in which the word nearest to a latent is the total of its own step: (num_latents,), nan where no
    problem has so many steps."""
    hits, counts = 0.0, 0.0
    for first in range(0, len(encoded), batch):
        some = encoded[first : first + batch]
        nearest = thinking.nearest_tokens(thinking.lm.read_rows([one.prompt for one in some])).cpu().numpy()
        labels = np.stack([one.step_labels[:, 0] for one in some])
        own = (labels >= 0) & (np.arange(labels.shape[1])[None] < np.array([[one.steps] for one in some]))
        hits, counts = hits + ((nearest == labels) & own).sum(0), counts + own.sum(0)
    with np.errstate(invalid="ignore"):
        return hits / counts


@torch.no_grad()
def constant_share(data: Data, encoded: Sequence[Encoded], batch: int) -> dict[str, list[float]]:
    """The share of a state's mean square that its mean over problems has, after each block: of the token `</think>` after a
    correct chain, and of the answer's anchor."""
    found = {"</think>": [], "answer's anchor": []}
    for first in range(0, len(encoded), batch):
        some = encoded[first : first + batch]
        prompt, chains = data.lm.read_rows([one.prompt for one in some]), [one.chain for one in some]
        for name, closed in zip(found, (1, None)):
            found[name].append(data.lm.anchors(prompt, chains, closed).cpu())
    states = {name: torch.cat(parts) for name, parts in found.items()}  # (N, layers, D) each
    return {name: (x.mean(0).square().sum(-1) / x.square().sum(-1).mean(0)).tolist() for name, x in states.items()}
