"""A language model that is read and asked, but never trained: what a prompt looks like from inside, and what it answers once
latents stand where its own thoughts would stand.

    question /think<think> | latent latent ... | ;</think> | answer

What is to the left of the first bar is read once and stands in the cache of keys and values; latents enter as `inputs_embeds`.
The `closing` ends the thoughts: what the model's chains end with (`ending`), `</think>`, and the words that it has before its
answer (`anchor`). The state of its last token, from which the answer is read, is the answer's anchor: what CODI (arXiv
2502.21074) holds latents to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache, PreTrainedTokenizerFast

from trm.errors import UserError
from trm.language.lm import StateReader
from trm.latent.data import right_padded

DATE = "01 January 2025"  # what a template that asks for today's date is told, so that prompts are the same every day


def chat_prompt(tokenizer: PreTrainedTokenizerFast, question: str, thinking: bool) -> str:
    """What a language model is given, by its own chat template: the question and, where it is to think, `<think>`.

    Raises:
        UserError: it has no chat template.
    """
    if not tokenizer.chat_template:
        raise UserError(
            "the language model has no chat template, which tells thinking from not; give one that can think"
        )
    frozen = "{% macro strftime_now(form) %}" + DATE + "{% endmacro %}\n"  # templates ask for the day by this name
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True, enable_thinking=thinking,
        chat_template=frozen + tokenizer.get_chat_template(),
    )  # fmt: skip
    return text + ("<think>" if thinking and not text.rstrip().endswith("<think>") else "")


def tokens_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a text, nothing added."""
    return tokenizer.encode(text, add_special_tokens=False)


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Rows of token ids padded on the right: ids and mask, (B, T) each."""
    ids = torch.from_numpy(right_padded(rows, pad))
    return ids, torch.arange(ids.shape[1])[None] < torch.tensor([len(row) for row in rows])[:, None]


@dataclass
class Prompt:
    """Prompts that were read: states (B, T, D) of a layer, mask (B, T), the cache, and logits (B, V) of what comes next."""

    states: Tensor
    mask: Tensor
    cache: Cache
    next: Tensor

    @property
    def last(self) -> Tensor:
        """The state of each prompt's last token: (B, D)."""
        return self.states[torch.arange(len(self.mask)), self.mask.sum(1) - 1]


@dataclass
class Said:
    """What was said after latents: logits (B, A, V) of the answer's tokens; anchor (B, layers, D), the state from which the
    first of them is read, after every block."""

    logits: Tensor
    anchor: Tensor


class FrozenLM:
    """See the top of this file. No module: its weights are no part of what is trained, saved or averaged.

    Args:
        lm: a causal language model. layer: whose states are read: 1 the first block's, -1 what the head reads.
        ending: what its chains end with. anchor: words between `</think>` and the answer.

    Raises:
        UserError: no such layer, no head, no chat template, or no token `<think>`.
    """

    def __init__(
        self, lm: nn.Module, tokenizer: PreTrainedTokenizerFast, layer: int, ending: str = "", anchor: str = ""
    ):
        chat_prompt(tokenizer, "", True)
        known = tokenizer.get_vocab()
        if missing := [token for token in ("<think>", "</think>") if token not in known]:
            raise UserError(
                f"the language model has no token {' and '.join(missing)}, between which thoughts stand; give one that has"
            )
        if lm.get_output_embeddings() is None:
            raise UserError(f"{type(lm).__name__} has no head to answer with; give a causal language model")
        self.layer = StateReader(lm, layer).layer  # which also freezes it
        self.lm, self.tokenizer, self.anchor = lm, tokenizer, anchor
        self.closing = tokens_of(tokenizer, ending + "</think>" + anchor)  # after latents
        self.end_of_chain = tokens_of(tokenizer, "</think>" + anchor)  # after a chain, which has its ending
        table = lm.get_input_embeddings()  # some models scale what they look up
        with torch.no_grad():
            self.embeddings = table(torch.arange(table.num_embeddings, device=table.weight.device))  # (V, D)

    @property
    def hidden_size(self) -> int:
        """D."""
        return self.embeddings.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.embeddings.device

    @torch.no_grad()
    def read(self, ids: Tensor, mask: Tensor) -> Prompt:
        """Read prompts, (B, T) each, padded on the right."""
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        ends, rows = (mask.sum(1) - 1).unique(return_inverse=True)  # what comes next is asked at these places alone
        out = self._run(mask, places, DynamicCache(), ends, input_ids=ids)
        following = out.logits[torch.arange(len(ids), device=ids.device), rows]
        return Prompt(out.hidden_states[self.layer].float(), mask, out.past_key_values, following)

    def after(self, prompt: Prompt, latents: Tensor, answers: Tensor) -> Said:
        """Go on after prompts with latents (B, n, D), the closing, and answers (B, A), whose pads come last; gradients reach
        the latents."""
        known = self._embedded(torch.cat((self._closing(len(answers)), answers[:, :-1]), 1))
        given = torch.cat((latents.to(known.dtype), known), 1)  # (B, n + C + A - 1, D)
        mask, places = _longer(prompt.mask, given.shape[1])
        out = self._run(mask, places, _copied(prompt.cache), answers.shape[1], inputs_embeds=given)
        first = given.shape[1] - answers.shape[1]  # the anchor's place
        states = torch.stack([h[:, first] for h in out.hidden_states[1:]], 1)
        return Said(out.logits.float(), states.float())

    @torch.no_grad()
    def anchors(self, prompt: Prompt, chains: Sequence[Sequence[int]], closed: int | None = None) -> Tensor:
        """The answer's anchor after prompts and written chains (token ids): its state after every block, (B, layers, D).

        closed: how many of the tokens after the chain are written, where not all: 1 stops at `</think>`.
        """
        rows = [[*chain, *self.end_of_chain[:closed]] for chain in chains]
        ids, more = (x.to(self.device) for x in padded(rows, self.tokenizer.pad_token_id))
        _, places = _longer(prompt.mask, ids.shape[1])
        out = self._run(torch.cat((prompt.mask, more), 1), places, _copied(prompt.cache), 1, input_ids=ids)
        last, rows = more.sum(1) - 1, torch.arange(len(ids), device=ids.device)
        return torch.stack([h[rows, last] for h in out.hidden_states[1:]], 1).float()

    @torch.no_grad()
    def write(self, prompt: Prompt, latents: Tensor | None, max_new_tokens: int) -> Tensor:
        """The most likely token again and again, until all rows have ended: (B, written), pads after the end. It goes on after
        prompts with latents (B, n, D) and the closing, or (None) after the prompts alone."""
        pad, end = self.tokenizer.pad_token_id, self.tokenizer.eos_token_id
        mask, cache, logits = prompt.mask, _copied(prompt.cache), prompt.next
        if latents is not None:
            closing = self._embedded(self._closing(len(latents)))
            given = torch.cat((latents.to(closing.dtype), closing), 1)
            mask, places = _longer(mask, given.shape[1])
            logits = self._run(mask, places, cache, 1, states=False, inputs_embeds=given).logits[:, -1]
        written, done = [], torch.zeros(len(mask), dtype=torch.bool, device=self.device)
        while True:
            token = torch.where(done, pad, logits.argmax(-1))
            written.append(token)
            done = done | (token == end)
            if done.all() or len(written) == max_new_tokens:
                return torch.stack(written, 1)
            mask, places = _longer(mask, 1)
            logits = self._run(mask, places, cache, 1, states=False, input_ids=token[:, None]).logits[:, -1]

    def _closing(self, rows: int) -> Tensor:
        return torch.tensor(self.closing, device=self.device).expand(rows, -1)

    def _embedded(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.embeddings)

    def _run(self, mask: Tensor, places: Tensor, cache: Cache, logits_to_keep, states: bool = True, **given: Tensor):
        """The model's outputs, with logits of the last so many positions, or of those named, alone."""
        return self.lm(
            attention_mask=mask.long(), position_ids=places.expand(len(mask), -1), past_key_values=cache, use_cache=True,
            output_hidden_states=states, logits_to_keep=logits_to_keep, **given,
        )  # fmt: skip


def _longer(mask: Tensor, more: int) -> tuple[Tensor, Tensor]:
    """The mask with so many more positions, and their places in the text, which go on where a row's own tokens end."""
    places = mask.sum(1, keepdim=True) + torch.arange(more, device=mask.device)
    return torch.cat((mask, torch.ones_like(mask[:, :1]).expand(-1, more)), 1), places


def _copied(cache: Cache) -> Cache:
    """Another cache that holds the same: one that is written to no longer serves a second answer."""
    copy = DynamicCache()
    for i, layer in enumerate(cache.layers):
        copy.update(layer.keys, layer.values, i)
    return copy
