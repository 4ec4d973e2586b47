"""Policies: what reinforcement learning samples from a language model, and how likely that was.

A policy gives two things. `sample(problems, draws)` tries each problem `group_size` times and returns a batch of tensors
(B = problems * group_size rows, those of one problem beside each other) with at least `mask` (B, A): where there is an
action. `log_probs(batch)` is the log-probability of each action (B, A) under the present weights, with gradients; what the
policy was and what a reference would say are the same function of other weights.

`TokenPolicy` writes; its actions are tokens. `LatentPolicy` first thinks in vectors drawn around the output of a module,
each of which is an action, and then writes; `ReasonerPolicy` thinks with chapter 07's reasoner. A group's question is read
once, for sampling and for learning alike, and stands in the cache that its answers share.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from trm.errors import UserError
from trm.language.lm import Generations, generate_greedy
from trm.language.stories import Problem, prompt, read_answer
from trm.latent.frozen_lm import FrozenLM
from trm.latent.reasoner import Latents

Batch = dict[str, Tensor]
TOGETHER = 250  # problems that are answered together


class TokenPolicy(nn.Module):
    """A language model that writes.

    Args:
        lm: a causal language model of transformers, with a cache of keys and values. group_size: answers to each problem.
        temperature: divides the logits, in sampling and in the log-probabilities. max_new_tokens: of an answer.
        thinking: whether the prompt asks for a chain of thought.

    Raises:
        UserError: the tokenizer does not know the tokens of a prompt.
    """

    def __init__(
        self,
        lm: nn.Module,
        tokenizer: PreTrainedTokenizerFast,
        group_size: int,
        temperature: float = 1.0,
        max_new_tokens: int = 48,
        thinking: bool = True,
    ):
        super().__init__()
        missing = [token for token in ("<think>", "</think>", "<eos>") if token not in tokenizer.get_vocab()]
        if missing:
            raise UserError(
                f"the tokenizer has no token {', '.join(missing)}, which the problems' prompts are made of; give a model "
                "that `python -m trm.language.pretrain` has trained"
            )
        self.lm, self.tokenizer, self.group_size = lm, tokenizer, group_size
        self.temperature, self.max_new_tokens, self.thinking = temperature, max_new_tokens, thinking

    def save_pretrained(self, folder) -> None:
        """Keep the language model in `folder` as transformers does."""
        disable_progress_bar()  # of a file a shard
        self.lm.save_pretrained(folder)
        enable_progress_bar()

    @property
    def max_actions(self) -> int:
        """The most actions that an answer can have."""
        return self.max_new_tokens

    def draws(self, rng: np.random.Generator, problems: int) -> dict[str, np.ndarray]:
        """What chance has to say for so many problems: uniform numbers (B, max_new_tokens), one for each token."""
        return {"uniforms": rng.random((problems * self.group_size, self.max_new_tokens), dtype=np.float32)}

    @torch.no_grad()
    def sample(self, problems: Sequence[Problem], draws: dict[str, np.ndarray]) -> Batch:
        """`group_size` answers to each problem: prompt, prompt_mask (B, P), padded on the left; tokens, mask (B, A)."""
        question = self._questions(problems)
        first, cache = self._read(question)
        return question | self._write(first, cache, question["prompt_mask"], self._on_device(draws["uniforms"]))

    def log_probs(self, batch: Batch) -> Tensor:
        """Log-probability of each token (B, A), in nats."""
        first, cache = self._read(batch)
        return self._of_tokens(first, cache, batch["prompt_mask"], batch)

    def greedy(self, problems: Sequence[Problem]) -> Generations:
        """The most likely token again and again."""
        return generate_greedy(self.lm, self.tokenizer, problems, self.thinking)

    def texts(self, batch: Batch) -> list[str]:
        """What each row has written."""
        lengths = batch["mask"].sum(1).tolist()
        return [self.tokenizer.decode(row[:n]) for row, n in zip(batch["tokens"].tolist(), lengths)]

    # --- parts ------------------------------------------------------------------------------------------------

    def _on_device(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.lm.device)

    def _questions(self, problems: Sequence[Problem]) -> Batch:
        prompts = [prompt(problem, self.thinking) for problem in problems]
        given = self.tokenizer(
            prompts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt"
        )
        n = self.group_size
        return {
            "prompt": given["input_ids"].to(self.lm.device).repeat_interleave(n, 0),
            "prompt_mask": given["attention_mask"].to(self.lm.device).repeat_interleave(n, 0),
        }

    def _read(self, batch: Batch) -> tuple[Tensor, Cache]:
        """Read each question once: logits of the first token (B, V), and the cache, both repeated for its answers."""
        ids, mask = batch["prompt"][:: self.group_size], batch["prompt_mask"][:: self.group_size]  # (G, P)
        logits, cache = self._go_on(mask, DynamicCache(), input_ids=ids)
        cache.batch_repeat_interleave(self.group_size)
        return logits[:, -1].repeat_interleave(self.group_size, 0), cache

    def _go_on(self, mask: Tensor, cache: Cache, **given: Tensor) -> tuple[Tensor, Cache]:
        """What the model says (B, T, V) of T more tokens or vectors. mask: (B, all so far and these)."""
        length = next(iter(given.values())).shape[1]
        places = (mask.cumsum(1) - 1).clamp_min(0)[:, -length:]
        out = self.lm(attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True, **given)
        return out.logits.float(), cache

    def _write(self, logits: Tensor, cache: Cache, before: Tensor, uniforms: Tensor) -> Batch:
        """Tokens and mask (B, A): the token at which the cumulative probability passes the uniform number, until <eos>.
        Rows that have ended leave the batch."""
        B, pad = len(logits), self.tokenizer.pad_token_id
        tokens = torch.full((B, self.max_new_tokens), pad, device=logits.device)
        mask = torch.zeros_like(tokens)
        rows = torch.arange(B, device=logits.device)  # those still writing
        for place in range(self.max_new_tokens):
            reached = (logits / self.temperature).softmax(-1).cumsum(-1)  # (rows, V)
            drawn = torch.searchsorted(reached, uniforms[rows, place, None] * reached[:, -1:], right=True)[:, 0]
            drawn = drawn.clamp_max(logits.shape[1] - 1)
            tokens[rows, place], mask[rows, place] = drawn, 1
            going = drawn != self.tokenizer.eos_token_id
            if place + 1 == self.max_new_tokens or not going.any():
                break
            if not going.all():
                cache.batch_select_indices(going.nonzero()[:, 0])
                rows, drawn = rows[going], drawn[going]
            seen = torch.cat((before[rows], mask[rows, : place + 1]), 1)
            logits = self._go_on(seen, cache, input_ids=drawn[:, None])[0][:, -1]
        return {"tokens": tokens[:, : place + 1], "mask": mask[:, : place + 1]}

    def _of_tokens(self, first: Tensor, cache: Cache, before: Tensor, batch: Batch) -> Tensor:
        """Log-probability of each token (B, A), after what the cache holds and `first` says of the first."""
        tokens = batch["tokens"]
        written = batch["mask"][:, -tokens.shape[1] :]
        logits = first[:, None]  # (B, 1, V)
        if tokens.shape[1] > 1:
            rest, _ = self._go_on(torch.cat((before, written[:, :-1]), 1), cache, input_ids=tokens[:, :-1])
            logits = torch.cat((logits, rest), 1)  # (B, A, V)
        logits = logits / self.temperature
        return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


def gaussian_log_prob(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """Log density of vectors drawn around `mean` with deviation `std` in every dimension. (..., D) -> (...)."""
    squares = ((x - mean) / std).square().sum(-1)
    return -0.5 * squares - x.shape[-1] * (math.log(std) + 0.5 * math.log(2 * math.pi))


class LatentPolicy(TokenPolicy):
    """Thinks in vectors, then writes: latents are drawn around what `think` says, and enter the language model as inputs
    after the prompt. Its actions are the latents, each with its Gaussian density, and the tokens of the answer.

    Or (`through`) only the tokens are actions, and what was drawn is added to what `think` says now: then the gradient of their
    log-probabilities reaches `think` through the language model, and no density is needed.

    Args:
        think: (prompt ids, mask), (G, P) each -> (G, K, D), in the space of the language model's input embeddings.
        num_latents: K. std: of a latent around it, in every dimension. through: see above. closing: tokens between the
            latents and the answer.
        Others: see `TokenPolicy`.

    Raises:
        UserError: no latents, or no deviation.
    """

    def __init__(
        self,
        lm,
        tokenizer,
        group_size: int,
        think: nn.Module,
        num_latents: int,
        std: float,
        closing=(),
        through: bool = False,
        **others,
    ):
        super().__init__(lm, tokenizer, group_size, **others)
        if num_latents < 1 or not std > 0:
            raise UserError(f"num_latents = {num_latents} must be 1 or more, and std = {std} above 0")
        self.think, self.num_latents, self.std, self.closing = think, num_latents, std, list(closing)
        self.through = through

    def save_pretrained(self, folder) -> None:
        """Keep what thinks in `folder`; the language model is as it was."""
        self.think.save_pretrained(folder)

    @property
    def max_actions(self) -> int:
        """The most actions that an answer can have."""
        return self.max_new_tokens + (0 if self.through else self.num_latents)

    def draws(self, rng: np.random.Generator, problems: int) -> dict[str, np.ndarray]:
        """Uniform numbers for the tokens, and normal ones (B, K, D) for the latents."""
        uniform = super().draws(rng, problems)
        shape = (problems * self.group_size, self.num_latents, self.lm.config.hidden_size)
        return uniform | {"normals": rng.standard_normal(shape, dtype=np.float32)}

    @torch.no_grad()
    def sample(self, problems: Sequence[Problem], draws: dict[str, np.ndarray]) -> Batch:
        """As `TokenPolicy.sample`, and latents (B, K, D); the mask (B, K + A) begins with the latents'."""
        question = self._questions(problems)
        normals = self._on_device(draws["normals"])
        latents = self._mean(question) + self.std * normals
        first, cache, seen = self._after(question, latents)
        written = self._write(first, cache, seen, self._on_device(draws["uniforms"]))
        thought = torch.full_like(written["mask"][:, :1], int(not self.through)).expand(-1, self.num_latents)
        mask = torch.cat((thought, written["mask"]), 1)
        return question | written | {"latents": latents, "normals": normals, "mask": mask}

    def log_probs(self, batch: Batch) -> Tensor:
        """Log density of each latent (`through`: zeros), then log-probability of each token: (B, K + A), in nats."""
        mean, latents = self._mean(batch), batch["latents"]
        if self.through:
            latents = mean + self.std * batch["normals"]
            thought = torch.zeros_like(mean[..., 0])
        else:
            thought = gaussian_log_prob(latents, mean, self.std)
        first, cache, seen = self._after(batch, latents)
        return torch.cat((thought, self._of_tokens(first, cache, seen, batch)), 1)

    def texts(self, batch: Batch) -> list[str]:
        """What each row has written."""
        return super().texts(batch | {"mask": batch["mask"][:, self.num_latents :]})

    def _mean(self, batch: Batch) -> Tensor:
        """What `think` says (B, K, D), thought once for each group."""
        n = self.group_size
        return self.think(batch["prompt"][::n], batch["prompt_mask"][::n]).repeat_interleave(n, 0)

    def _after(self, batch: Batch, latents: Tensor) -> tuple[Tensor, Cache, Tensor]:
        """Logits of the first token, the cache and the mask, after the prompt, the latents and what closes them."""
        _, cache = self._read(batch)
        closing = torch.tensor(self.closing, dtype=torch.long, device=latents.device).expand(len(latents), -1)
        given = torch.cat((latents, self.lm.get_input_embeddings()(closing)), 1)
        seen = torch.cat((batch["prompt_mask"], batch["prompt_mask"].new_ones(given.shape[:2])), 1)
        logits, cache = self._go_on(seen, cache, inputs_embeds=given)
        return logits[:, -1], cache, seen


def padded_right(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids and mask (B, T) with the padding moved to the right; the mask is bool."""
    order = torch.argsort(mask.long(), dim=1, descending=True, stable=True)
    return ids.gather(1, order), mask.gather(1, order).bool()


class Reasoning(nn.Module):
    """A latent reasoner as `LatentPolicy` asks it: prompts to latents.

    Args:
        reasoner: what is trained. lm: the language model whose states it reads.
    """

    def __init__(self, reasoner: Latents, lm: FrozenLM):
        super().__init__()
        self.reasoner, self.lm = reasoner, lm

    def save_pretrained(self, folder) -> None:
        """Keep the reasoner in `folder`."""
        self.reasoner.save_pretrained(folder)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Prompts (G, P), padded on the left -> latents (G, K, D)."""
        prompt = self.lm.read(*padded_right(ids, mask))
        thoughts = self.reasoner.think(self.reasoner.reads.compress(prompt.states), prompt.mask)
        return self.reasoner.latents(self.reasoner.chosen(thoughts))


class ReasonerPolicy(LatentPolicy):
    """A `LatentPolicy` whose thoughts are those of a latent reasoner.

    Args:
        lm: the frozen language model. std: of a latent, as a share of that of the words' embeddings. Others: see
            `TokenPolicy`.
    """

    def __init__(self, lm: FrozenLM, reasoner: Latents, group_size: int, std: float, **others):
        deviation = std * float(reasoner.words.square().mean().sqrt())
        super().__init__(
            lm.lm, lm.tokenizer, group_size, Reasoning(reasoner, lm), reasoner.config.num_latents, deviation, lm.closing,
            **others,
        )  # fmt: skip

    @torch.no_grad()
    def greedy(self, problems: Sequence[Problem]) -> Generations:
        """The most likely token again and again, after the latents as they are thought."""
        lm, texts, tokens = self.think.lm, [], []
        for first in range(0, len(problems), TOGETHER):
            asked = self._questions(problems[first : first + TOGETHER])
            ids, mask = (asked[name][:: self.group_size] for name in ("prompt", "prompt_mask"))
            written = lm.generate_greedy(lm.read(*padded_right(ids, mask)), self.think(ids, mask), self.max_new_tokens)
            kept = [[token for token in row if token != self.tokenizer.pad_token_id] for row in written.tolist()]
            texts += [self.tokenizer.decode(row) for row in kept]
            tokens += map(len, kept)
        return Generations(texts, [read_answer(text) for text in texts], tokens)
