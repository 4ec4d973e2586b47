"""What a compressor loses, against numpy and hand-worked cases."""

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, SmolLM3Config, SmolLM3ForCausalLM

from trm.compressor.evaluate import OUTLIER, OutputErrors, StateErrors, evaluate, following_tokens
from trm.compressor.states import StateBatches
from trm.language.lm import StateReader

SIZES = {"vocab_size": 60, "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
SEQUENCES = [[5, 6, 7, 20, 21], [8, 9], [1, 2, 3, 4], [4, 4, 30]]


@pytest.fixture(scope="module")
def states():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(200, 7)) * [1, 2, 3, 1, 1, 1, 40] + [3, 0, 0, 0, 0, 0, 0]
    return x, x + draw.normal(size=x.shape) * 0.3


def test_the_numbers_are_numpys(states):
    x, back = states
    mean = x[:100].mean(0)
    loss = StateErrors(torch.from_numpy(mean))
    for part in (slice(0, 30), slice(30, 31), slice(31, 200)):
        loss.add(torch.from_numpy(x[part]), torch.from_numpy(back[part]))

    def cosine(a, b):
        return ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()

    expected = {
        "mse": ((x - back) ** 2).mean(),
        "cosine_similarity": cosine(x, back),
        "relative_error": (np.linalg.norm(x - back, axis=1) / np.linalg.norm(x, axis=1)).mean(),
        "variance_ratio": back.var(0).sum() / x.var(0).sum(),
        "r2": 1 - ((x - back) ** 2).sum() / ((x - mean) ** 2).sum(),
        "centred_cosine": cosine(x - mean, back - mean),
        "mean_mse": ((x - mean) ** 2).mean(),
        "mean_cosine": cosine(x, np.broadcast_to(mean, x.shape)),
        "outlier_energy": (x[:, 6] ** 2).sum() / (x**2).sum(),  # one dimension in seven is 40 times as large
    }
    assert OUTLIER < 40 / 3
    found = loss.metrics()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-9), name


def test_for_a_projection_squared_cosine_and_squared_relative_error_sum_to_one(states):
    x = torch.from_numpy(states[0][:1])
    loss = StateErrors(torch.zeros(7))
    basis = torch.linalg.qr(torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    loss.add(x, x @ basis @ basis.T)
    found = loss.metrics()
    assert found["cosine_similarity"] ** 2 + found["relative_error"] ** 2 == pytest.approx(1)


def test_what_is_said_by_hand():
    real, back = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, np.log(3.0)], [2.0, 0.0]])
    said = OutputErrors()
    said.add(real, back, torch.tensor([0, -100]))
    found = said.metrics()
    kl = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)  # of the first; the second says the same as before
    assert found["kl"] == pytest.approx(kl / 2, rel=1e-5)
    assert found["ce_change"] == pytest.approx(np.log(0.5) - np.log(0.25), rel=1e-5)
    assert found["top1_agreement"] == 0.5


def test_following_tokens_by_hand():
    batch = {"input_ids": np.array([[7, 8, 9], [5, 6, 0]]), "attention": np.array([[1, 1, 1], [1, 1, 0]], bool)}
    assert following_tokens(batch).tolist() == [[8, 9, -100], [6, -100, -100]]


@pytest.mark.parametrize("layer", [2, -1])
def test_what_is_said_after_a_replacement_is_what_the_whole_model_says(layer):
    torch.manual_seed(0)
    config = SmolLM3Config(**SIZES, num_key_value_heads=1, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    reader = StateReader(SmolLM3ForCausalLM(config), layer)
    batches = StateBatches(SEQUENCES, reader.states, 3, 0, skip_first=1)
    found = evaluate(lambda x: x / 2, batches.in_order(), torch.zeros(32), reader)
    assert evaluate(lambda x: x, batches.in_order(), torch.zeros(32), reader)["kl"] == pytest.approx(0, abs=1e-6)
    kl, n = 0.0, 0
    for sequence in SEQUENCES:  # one by one, without pads
        ids = torch.tensor([sequence])
        attention = torch.ones_like(ids)

        def change(x):
            return torch.cat([x[:, :1], x[:, 1:] / 2], 1)  # the first token does not count

        p = reader.logits(ids, attention)[0, 1:].log_softmax(-1)
        q = reader.logits(ids, attention, change)[0, 1:].log_softmax(-1)
        kl, n = kl + float((p.exp() * (p - q)).sum()), n + len(p)
    assert found["kl"] == pytest.approx(kl / n, rel=1e-4)
    assert found["relative_error"] == pytest.approx(0.5, rel=1e-5)


def test_an_encoder_without_a_head_has_no_output_errors():
    reader = StateReader(BertModel(BertConfig(**SIZES)))
    batches = StateBatches(SEQUENCES, reader.states, 3, 0)
    found = evaluate(lambda x: x, batches.in_order(), torch.zeros(32), reader)
    assert "kl" not in found and found["mse"] == 0
