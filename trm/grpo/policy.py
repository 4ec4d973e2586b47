"""Policies: what reinforcement learning samples from a language model, and the log-probability of it.

`sample(problems, draws)` tries each problem `group_size` times: tensors of B = problems * group_size rows, groups side by side,
with at least `mask` (B, A): where there is an action. `log_probs(batch)` is the log-probability of each action (B, A) under the
present weights, with gradients. A group's question is read once; its answers share the cache.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers import PreTrainedTokenizerFast as Tokenizer
from transformers.utils.logging import disable_progress_bar, enable_progress_bar

from trm.errors import UserError
from trm.language.lm import Generations, completion_text, end_ids, generate_greedy, up_to_end
from trm.language.stories import Problem, prompt, read_answer
from trm.latent.frozen_lm import FrozenLM
from trm.latent.reasoner import Latents

Batch = dict[str, Tensor]
EVAL_BATCH = 250  # problems that are answered together


class TokenPolicy(nn.Module):
    """A causal language model that writes. temperature: divides the logits, in sampling and in log-probabilities. Raises
    UserError: the tokenizer lacks the tokens of a prompt."""

    def __init__(
        self, lm: nn.Module, tokenizer: Tokenizer, group_size: int, max_new_tokens: int, temperature: float = 1
    ):
        super().__init__()
        if missing := [token for token in ("<think>", "</think>", "<eos>") if token not in tokenizer.get_vocab()]:
            advice = "give a model that `python -m trm.language.pretrain` has trained"
            raise UserError(f"the tokenizer has no token {', '.join(missing)}; {advice}")
        self.lm, self.tokenizer, self.group_size = lm, tokenizer, group_size
        self.temperature, self.max_new_tokens = temperature, max_new_tokens
        self.ends = end_ids(lm, tokenizer)

    def save_pretrained(self, folder) -> None:
        """Keep the language model in `folder` as transformers does."""
        disable_progress_bar()
        self.lm.save_pretrained(folder)
        enable_progress_bar()

    @property
    def max_actions(self) -> int:
        """The most actions that an answer can have."""
        return self.max_new_tokens

    def draws(self, rng: np.random.Generator, problems: int) -> dict[str, np.ndarray]:
        """Pre-drawn uniform noise (B, max_new_tokens), one number per token."""
        return {"uniforms": rng.random((problems * self.group_size, self.max_new_tokens), dtype=np.float32)}

    @torch.no_grad()
    def sample(self, problems: Sequence[Problem], draws: dict[str, np.ndarray]) -> Batch:
        """`group_size` answers per problem: prompt, prompt_mask (B, P), padded on the left; tokens, mask (B, A)."""
        question = self._questions(problems)
        first, cache = self._read(question)
        uniforms = torch.from_numpy(draws["uniforms"]).to(first.device)
        return question | self._write(first, cache, question["prompt_mask"], uniforms)

    def log_probs(self, batch: Batch) -> Tensor:
        """Log-probability of each token (B, A), in nats."""
        first, cache = self._read(batch)
        return self._token_log_probs(first, cache, batch["prompt_mask"], batch)

    def greedy(self, problems: Sequence[Problem]) -> Generations:
        """Greedy answers, after a chain of thought."""
        return generate_greedy(self.lm, self.tokenizer, problems, thinking=True)

    def texts(self, batch: Batch) -> list[str]:
        """The text of each row."""
        lengths = batch["mask"].sum(1).tolist()
        rows = [row[:n] for row, n in zip(batch["tokens"].tolist(), lengths)]
        return [completion_text(self.tokenizer, row, self.ends) for row in rows]

    def _questions(self, problems: Sequence[Problem]) -> Batch:
        given = self.tokenizer(
            [prompt(problem, thinking=True) for problem in problems],
            add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt",
        ).to(self.lm.device)  # fmt: skip
        names = {"prompt": "input_ids", "prompt_mask": "attention_mask"}
        return {name: given[theirs].repeat_interleave(self.group_size, 0) for name, theirs in names.items()}

    def _one_per_group(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Prompts and their mask (G, P)."""
        return batch["prompt"][:: self.group_size], batch["prompt_mask"][:: self.group_size]

    def _read(self, batch: Batch) -> tuple[Tensor, Cache]:
        """Read each question once: logits of the first token (B, V), and the cache, both repeated for its answers."""
        ids, mask = self._one_per_group(batch)
        logits, cache = self._forward(mask, DynamicCache(), input_ids=ids)
        cache.batch_repeat_interleave(self.group_size)
        return logits[:, -1].repeat_interleave(self.group_size, 0), cache

    def _forward(self, mask: Tensor, cache: Cache, **given: Tensor) -> tuple[Tensor, Cache]:
        """Logits (B, T, V) of T more tokens or vectors. mask: (B, all so far and these)."""
        length = next(iter(given.values())).shape[1]
        positions = (mask.cumsum(1) - 1).clamp_min(0)[:, -length:]
        out = self.lm(attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, **given)
        return out.logits.float(), cache

    def _write(self, logits: Tensor, cache: Cache, before: Tensor, uniforms: Tensor) -> Batch:
        """Sample tokens and mask (B, A) by inverting the cumulative distribution, until one ends the answer. Rows that end
        leave the batch."""
        B, pad = len(logits), self.tokenizer.pad_token_id
        tokens = torch.full((B, self.max_new_tokens), pad, device=logits.device)
        mask, ends = torch.zeros_like(tokens), torch.tensor(self.ends, device=logits.device)
        rows = torch.arange(B, device=logits.device)  # those still writing
        for i in range(self.max_new_tokens):
            cumulative = (logits / self.temperature).softmax(-1).cumsum(-1)  # (rows, V)
            drawn = torch.searchsorted(cumulative, uniforms[rows, i, None] * cumulative[:, -1:], right=True)[:, 0]
            drawn = drawn.clamp_max(logits.shape[1] - 1)
            tokens[rows, i], mask[rows, i] = drawn, 1
            going = ~torch.isin(drawn, ends)
            if i + 1 == self.max_new_tokens or not going.any():
                break
            if not going.all():
                cache.batch_select_indices(going.nonzero()[:, 0])
                rows, drawn = rows[going], drawn[going]
            seen = torch.cat((before[rows], mask[rows, : i + 1]), 1)
            logits = self._forward(seen, cache, input_ids=drawn[:, None])[0][:, -1]
        return {"tokens": tokens[:, : i + 1], "mask": mask[:, : i + 1]}

    def _token_log_probs(self, first: Tensor, cache: Cache, before: Tensor, batch: Batch) -> Tensor:
        """Log-probability of each token (B, A), after the content of the cache; first: logits of the first token."""
        tokens = batch["tokens"]
        written = batch["mask"][:, -tokens.shape[1] :]
        logits = first[:, None]  # (B, 1, V)
        if tokens.shape[1] > 1:
            rest, _ = self._forward(torch.cat((before, written[:, :-1]), 1), cache, input_ids=tokens[:, :-1])
            logits = torch.cat((logits, rest), 1)  # (B, A, V)
        logits = logits / self.temperature
        return logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


def gaussian_log_prob(x: Tensor, mean: Tensor, std: float) -> Tensor:
    """Log density of a normal distribution with standard deviation `std` in every dimension. (..., D) -> (...)."""
    squares = ((x - mean) / std).square().sum(-1)
    return -0.5 * squares - x.shape[-1] * (math.log(std) + 0.5 * math.log(2 * math.pi))


class LatentPolicy(TokenPolicy):
    """A frozen language model and a latent reasoner (chapter 07) that is trained: latents drawn around the reasoner's output
    enter as inputs after the prompt. Actions are the latents, each with its Gaussian density, and the tokens of the answer.

    Or (`through`) only the tokens are actions, and the noise that was drawn is added to the reasoner's present output: then the
    gradient of their log-probabilities reaches the reasoner through the language model, and no density is needed.
    std: of a latent in every dimension, as a share of that of the words' embeddings. others: see `TokenPolicy`.
    """

    def __init__(
        self, lm: FrozenLM, reasoner: Latents, group_size: int, std: float, through: bool = False, **others: float
    ):
        super().__init__(lm.lm, lm.tokenizer, group_size, **others)
        self.frozen, self.reasoner, self.through = lm, reasoner, through
        self.num_latents = reasoner.config.num_latents
        self.std = std * float(reasoner.words.square().mean().sqrt())

    def save_pretrained(self, folder) -> None:
        """Keep the reasoner in `folder`; the language model does not change."""
        self.reasoner.save_pretrained(folder)

    @property
    def max_actions(self) -> int:
        """The most actions that an answer can have."""
        return self.max_new_tokens + (0 if self.through else self.num_latents)

    def draws(self, rng: np.random.Generator, problems: int) -> dict[str, np.ndarray]:
        """Pre-drawn noise: uniform for the tokens, and normal (B, K, D) for the latents."""
        uniform = super().draws(rng, problems)
        shape = (problems * self.group_size, self.num_latents, self.lm.config.hidden_size)
        return uniform | {"normals": rng.standard_normal(shape, dtype=np.float32)}

    @torch.no_grad()
    def sample(self, problems: Sequence[Problem], draws: dict[str, np.ndarray]) -> Batch:
        """As `TokenPolicy.sample`, and latents, normals (B, K, D); the mask (B, K + A) begins with the latents'."""
        question = self._questions(problems)
        uniforms, normals = (torch.from_numpy(draws[name]).to(self.lm.device) for name in ("uniforms", "normals"))
        latents = self._mean(question) + self.std * normals
        first, cache, seen = self._after_latents(question, latents)
        written = self._write(first, cache, seen, uniforms)
        actions = torch.full_like(written["mask"][:, :1], int(not self.through)).expand(-1, self.num_latents)
        written["mask"] = torch.cat((actions, written["mask"]), 1)
        return {**question, **written, "latents": latents, "normals": normals}

    def log_probs(self, batch: Batch) -> Tensor:
        """Log density of each latent (`through`: zeros), then log-probability of each token: (B, K + A), in nats."""
        mean, latents = self._mean(batch), batch["latents"]
        if self.through:
            latents = mean + self.std * batch["normals"]
            densities = torch.zeros_like(mean[..., 0])
        else:
            densities = gaussian_log_prob(latents, mean, self.std)
        first, cache, seen = self._after_latents(batch, latents)
        return torch.cat((densities, self._token_log_probs(first, cache, seen, batch)), 1)

    def texts(self, batch: Batch) -> list[str]:
        """The text of each row."""
        return super().texts(batch | {"mask": batch["mask"][:, self.num_latents :]})

    @torch.no_grad()
    def greedy(self, problems: Sequence[Problem]) -> Generations:
        """Greedy answers after latents without noise."""
        texts, tokens = [], []
        for start in range(0, len(problems), EVAL_BATCH):
            ids, mask = self._one_per_group(self._questions(problems[start : start + EVAL_BATCH]))
            asked = self.frozen.read(*padded_right(ids, mask))
            for row in self.frozen.generate_greedy(asked, self.think(ids, mask), self.max_new_tokens).tolist():
                kept = up_to_end(row, self.ends)
                texts.append(completion_text(self.tokenizer, kept, self.ends))
                tokens.append(len(kept))
        return Generations(texts, [read_answer(text) for text in texts], tokens)

    def think(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The reasoner's output for prompts (G, P), padded on the left -> latents (G, K, D)."""
        asked = self.frozen.read(*padded_right(ids, mask))
        thoughts = self.reasoner.think(self.reasoner.reads.compress(asked.states), asked.mask)
        return self.reasoner.latents(thoughts[-1])

    def _mean(self, batch: Batch) -> Tensor:
        """The reasoner's output (B, K, D), computed once per group."""
        return self.think(*self._one_per_group(batch)).repeat_interleave(self.group_size, 0)

    def _after_latents(self, batch: Batch, latents: Tensor) -> tuple[Tensor, Cache, Tensor]:
        """Logits of the first token, the cache and the mask, after the prompt, the latents and the closing tokens."""
        _, cache = self._read(batch)
        closing = torch.tensor(self.frozen.closing, dtype=torch.long, device=latents.device).expand(len(latents), -1)
        given = torch.cat((latents, self.lm.get_input_embeddings()(closing)), 1)
        seen = torch.cat((batch["prompt_mask"], batch["prompt_mask"].new_ones(given.shape[:2])), 1)
        logits, cache = self._forward(seen, cache, inputs_embeds=given)
        return logits[:, -1], cache, seen


def padded_right(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids and mask (B, T) with the padding moved to the right; the mask is bool."""
    order = torch.argsort(mask.long(), dim=1, descending=True, stable=True)
    return ids.gather(1, order), mask.gather(1, order).bool()
