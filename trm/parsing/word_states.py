"""What a pretrained encoder says of words: its last layers averaged, and subwords put together to words. It is not trained."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoTokenizer

from trm.errors import UserError
from trm.language.lm import load_lm
from trm.parsing.treebank import Sentence


class WordStates:
    """States of an encoder of `transformers` for the words of sentences.

    Args:
        name: hub name, path, or package:NAME. layers: so many of the last are averaged. pool: "first" subword of a word, or
            their "mean".

    Raises:
        UserError: it cannot be loaded, or its tokenizer cannot tell which subword belongs to which word.
    """

    def __init__(self, name: str, layers: int = 4, pool: str = "mean", device: str = "cpu", precision: str = "float32"):
        model, tokenizer = load_lm(name, precision)
        where = tokenizer.name_or_path
        self.tokenizer = AutoTokenizer.from_pretrained(where, add_prefix_space=True)  # words stand apart, as in a text
        if not self.tokenizer.is_fast:
            raise UserError(
                f"{name}: its tokenizer does not say which subword belongs to which word (no fast tokenizer)"
            )
        self.model = model.base_model.eval().requires_grad_(False).to(device)
        self.layers, self.pool = layers, pool
        self.hidden_size = self.model.config.hidden_size
        positions = getattr(self.model.config, "max_position_embeddings", None) or 512
        self.longest = min(self.tokenizer.model_max_length, positions - 2)  # some count positions from 2

    @torch.no_grad()
    def __call__(self, sentences: Sequence[Sentence], batch_size: int = 64) -> list[np.ndarray]:
        """An array (n, H) float32 for each sentence of n words; zeros for words past the longest input of the encoder."""
        order = np.argsort([len(s.words) for s in sentences], kind="stable")
        found: list[np.ndarray] = [np.zeros(0)] * len(sentences)
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            given = self.tokenizer(
                [list(sentences[i].words) for i in some],
                is_split_into_words=True,
                padding=True,
                truncation=True,
                max_length=self.longest,
                return_tensors="pt",
            )
            inputs = {name: given[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            layers = self.model(**inputs, output_hidden_states=True).hidden_states[-self.layers :]
            states = torch.stack([layer.float() for layer in layers]).mean(0).cpu().numpy()  # (B, pieces, H)
            for row, i in enumerate(some):
                found[i] = self._words(states[row], given.word_ids(row), len(sentences[i].words))
        return found

    def _words(self, states: np.ndarray, word_of: list[int | None], n: int) -> np.ndarray:
        pieces = [(place, word) for place, word in enumerate(word_of) if word is not None]
        if self.pool == "first":
            pieces = [pair for k, pair in enumerate(pieces) if k == 0 or pieces[k - 1][1] != pair[1]]
        words, count = np.zeros((n, states.shape[1]), np.float32), np.zeros(n)
        for place, word in pieces:
            words[word] += states[place]
            count[word] += 1
        return words / np.maximum(count, 1)[:, None].astype(np.float32)
