"""States of a pretrained encoder for words: its last layers averaged, subwords pooled to words. The encoder is frozen."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoTokenizer

from trm.errors import UserError
from trm.language.lm import load_lm
from trm.parsing.treebank import Sentence


class WordStates:
    """States of an encoder of `transformers` for the words of sentences.

    name: hub name, path, or package:NAME. layers: how many of the last are averaged. pool: "first" subword, or their "mean".
    Raises UserError where it cannot be loaded, or its tokenizer does not map subwords to words.
    """

    def __init__(self, name: str, layers: int, pool: str, device: str):
        model, tokenizer = load_lm(name, "float32")
        # Words as within a text.
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer.name_or_path, add_prefix_space=True)
        if not self.tokenizer.is_fast:
            raise UserError(f"{name}: its tokenizer does not map subwords to words; take one with a fast tokenizer")
        self.model = model.base_model.eval().requires_grad_(False).to(device)
        self.layers, self.pool = layers, pool
        self.hidden_size = self.model.config.hidden_size
        positions = getattr(self.model.config, "max_position_embeddings", None) or 512
        self.max_length = min(self.tokenizer.model_max_length, positions - 2)  # some count positions from 2

    @torch.no_grad()
    def add_to(self, encoded: Sequence[dict], sentences: Sequence[Sentence], batch_size: int = 64) -> None:
        """Put `states` (n, H) float32 into the arrays of each sentence; zeros for words past the encoder's longest input."""
        order = np.argsort([len(s.words) for s in sentences], kind="stable")
        for start in range(0, len(order), batch_size):
            some = order[start : start + batch_size]
            words = [list(sentences[i].words) for i in some]
            options = {"is_split_into_words": True, "padding": True, "truncation": True, "max_length": self.max_length}
            given = self.tokenizer(words, return_tensors="pt", **options)
            inputs = {name: given[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            layers = self.model(**inputs, output_hidden_states=True).hidden_states[-self.layers :]
            states = torch.stack([layer.float() for layer in layers]).mean(0).cpu().numpy()  # (B, subwords, H)
            for row, i in enumerate(some):
                encoded[i]["states"] = self._pool(states[row], given.word_ids(row), len(sentences[i].words))

    def _pool(self, states: np.ndarray, word_of: list[int | None], n: int) -> np.ndarray:
        """The states of n words from those of their subwords (subwords, H); word_of: index of each subword's word."""
        words, count = np.zeros((n, states.shape[1]), np.float32), np.zeros((n, 1), np.float32)
        for state, word in zip(states, word_of):
            if word is not None and not (self.pool == "first" and count[word]):
                words[word] += state
                count[word] += 1
        return words / np.maximum(count, 1)
