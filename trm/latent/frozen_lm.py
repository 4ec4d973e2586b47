"""A frozen language model: the hidden states of a prompt, and its answer after latents in the place of a chain of thought.

    question /think<think> | latent latent ... | ;</think> | answer

The prompt is read once into the cache. The `closing` ends the chain: `ending`, `</think>`, and words before the answer
(`anchor`). The state of its last token is the answer's anchor, the target of CODI's distillation (arXiv 2502.21074).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers import PreTrainedTokenizerFast as Tokenizer

from trm.errors import UserError
from trm.language.lm import StateReader, end_ids
from trm.losses import pad

DATE = "01 January 2025"  # the date in templates that ask for today's, so that prompts are the same every day


def chat_prompt(tokenizer: Tokenizer, question: str, thinking: bool) -> str:
    """The prompt by the model's own chat template, without which UserError: the question and, if `thinking`, `<think>`."""
    if not tokenizer.chat_template:
        raise UserError("the language model has no chat template with a thinking mode; give one that can think")
    frozen = "{% macro strftime_now(form) %}" + DATE + "{% endmacro %}\n"  # the name by which templates get the date
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True, enable_thinking=thinking,
        chat_template=frozen + tokenizer.get_chat_template(),
    )  # fmt: skip
    return text + ("<think>" if thinking and not text.rstrip().endswith("<think>") else "")


def tokens_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text, nothing added."""
    return tokenizer.encode(text, add_special_tokens=False)


@dataclass
class Prompt:
    """Prompts that were read: states (B, T, D) of a layer, mask (B, T), the cache, and logits (B, V) of the next token."""

    states: Tensor
    mask: Tensor
    cache: Cache
    next: Tensor

    @property
    def last(self) -> Tensor:
        """The state of each prompt's last token: (B, D)."""
        return self.states[torch.arange(len(self.mask)), self.mask.sum(1) - 1]


class FrozenLM:
    """See the top of this file. Not an nn.Module: its weights are not trained, saved or averaged.

    layer: block whose hidden states are read, 1 the first, -1 what the head reads. ending, anchor: text at the end of its
    chains, and between `</think>` and the answer. Raises UserError: no such layer, no chat template, or no token `<think>`.
    """

    def __init__(self, lm: nn.Module, tokenizer: Tokenizer, layer: int, ending: str = "", anchor: str = ""):
        chat_prompt(tokenizer, "", True)
        known = tokenizer.get_vocab()
        if missing := [token for token in ("<think>", "</think>") if token not in known]:
            raise UserError(f"the language model has no token {' and '.join(missing)}; give one that can think")
        self.layer = StateReader(lm, layer).layer  # which also freezes it
        self.lm, self.tokenizer = lm, tokenizer
        self.anchor, self.ends = anchor, end_ids(lm, tokenizer)
        self.closing = tokens_of(tokenizer, ending + "</think>" + anchor)  # after latents
        self.end_of_chain = tokens_of(tokenizer, "</think>" + anchor)  # after a chain, which has its ending
        table = lm.get_input_embeddings()  # some models scale what they look up
        with torch.no_grad():
            self.embeddings = table(torch.arange(table.num_embeddings, device=table.weight.device))  # (V, D)
        self.hidden_size, self.device = self.embeddings.shape[1], self.embeddings.device

    @torch.no_grad()
    def read(self, ids: Tensor, mask: Tensor) -> Prompt:
        """Read prompts: token ids and mask (B, T), padded on the right."""
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        ends, rows = (mask.sum(1) - 1).unique(return_inverse=True)  # logits are computed at these positions alone
        out = self._run(mask, positions, DynamicCache(), ends, input_ids=ids)
        following = out.logits[torch.arange(len(ids), device=ids.device), rows]
        return Prompt(out.hidden_states[self.layer].float(), mask, out.past_key_values, following)

    def read_rows(self, rows: Sequence[Sequence[int]]) -> Prompt:
        """Read prompts that are rows of token ids."""
        return self.read(*self.padded(rows))

    def padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Rows of token ids padded on the right: ids and mask, (B, T) each, on the model's device."""
        ids = torch.from_numpy(pad(rows, self.tokenizer.pad_token_id))
        mask = torch.arange(ids.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]
        return ids.to(self.device), mask.to(self.device)

    def after(self, prompt: Prompt, latents: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Continue prompts with latents (B, n, D), which gradients reach, the closing, and answers (B, A), padded on the right:
        logits (B, A, V) of the answers' tokens, and the anchor (B, layers, D)."""
        known = F.embedding(torch.cat((self._closing(len(answers)), answers[:, :-1]), 1), self.embeddings)
        given = torch.cat((latents.to(known.dtype), known), 1)  # (B, n + C + A - 1, D)
        mask, positions = _longer(prompt.mask, given.shape[1])
        out = self._run(mask, positions, _copied(prompt.cache), answers.shape[1], inputs_embeds=given)
        first = given.shape[1] - answers.shape[1]  # the anchor's position
        states = torch.stack([h[:, first] for h in out.hidden_states[1:]], 1)
        return out.logits.float(), states.float()

    @torch.no_grad()
    def anchors(self, prompt: Prompt, chains: Sequence[Sequence[int]], closed: int | None = None) -> Tensor:
        """The answer's anchor after prompts and written chains (token ids): its state after every block, (B, layers, D).

        closed: how many of the tokens after the chain are read (None: all): 1 stops at `</think>`.
        """
        rows = [[*chain, *self.end_of_chain[:closed]] for chain in chains]
        ids, more = self.padded(rows)
        _, positions = _longer(prompt.mask, ids.shape[1])
        out = self._run(torch.cat((prompt.mask, more), 1), positions, _copied(prompt.cache), 1, input_ids=ids)
        last, rows = more.sum(1) - 1, torch.arange(len(ids), device=ids.device)
        return torch.stack([h[rows, last] for h in out.hidden_states[1:]], 1).float()

    @torch.no_grad()
    def generate_greedy(
        self, prompt: Prompt, latents: Tensor | None, max_new_tokens: int, closed: bool = True
    ) -> Tensor:
        """Greedy decoding until all rows have ended: token ids (B, generated), pads after the end. It continues prompts with
        latents (B, n, D) and, if `closed`, the closing, or (None) the prompts alone."""
        pad_id, ends = self.tokenizer.pad_token_id, torch.tensor(self.ends, device=self.device)
        mask, cache, logits = prompt.mask, _copied(prompt.cache), prompt.next
        if latents is not None:
            closing = F.embedding(self._closing(len(latents)), self.embeddings)
            given = torch.cat((latents.to(closing.dtype), closing[:, : None if closed else 0]), 1)
            mask, positions = _longer(mask, given.shape[1])
            logits = self._run(mask, positions, cache, 1, states=False, inputs_embeds=given).logits[:, -1]
        written, done = [], torch.zeros(len(mask), dtype=torch.bool, device=self.device)
        while True:
            token = torch.where(done, pad_id, logits.argmax(-1))
            written.append(token)
            done = done | torch.isin(token, ends)
            if done.all() or len(written) == max_new_tokens:
                return torch.stack(written, 1)
            mask, positions = _longer(mask, 1)
            logits = self._run(mask, positions, cache, 1, states=False, input_ids=token[:, None]).logits[:, -1]

    def head(self, states: Tensor) -> Tensor:
        """Logits (B, V) of states of the last block, (B, D); UserError where the head alone does not give the logits."""
        return self._last_block.lm_head(states)

    @cached_property
    def _last_block(self) -> StateReader:
        return StateReader(self.lm)

    def _closing(self, rows: int) -> Tensor:
        return torch.tensor(self.closing, device=self.device).expand(rows, -1)

    def _run(self, mask: Tensor, positions: Tensor, cache: Cache, logits_to_keep, states: bool = True, **given: Tensor):
        """The model's outputs; logits_to_keep: number of last positions, or indices of positions, that have logits."""
        return self.lm(
            attention_mask=mask.long(), position_ids=positions.expand(len(mask), -1), past_key_values=cache, use_cache=True,
            output_hidden_states=states, logits_to_keep=logits_to_keep, **given,
        )  # fmt: skip


def _longer(mask: Tensor, more: int) -> tuple[Tensor, Tensor]:
    """The mask extended by `more` positions, and their position ids, which continue those of each row's own tokens."""
    positions = mask.sum(1, keepdim=True) + torch.arange(more, device=mask.device)
    return torch.cat((mask, torch.ones_like(mask[:, :1]).expand(-1, more)), 1), positions


def _copied(cache: Cache) -> Cache:
    """A copy of a cache; generating writes into the cache it is given."""
    copy = DynamicCache()
    for i, layer in enumerate(cache.layers):
        copy.update(layer.keys, layer.values, i)
    return copy
