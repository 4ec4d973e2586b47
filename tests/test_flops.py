"""FLOPs from the configuration against torch's own counter, which sees the products that are really computed."""

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trm.flops import answer_flops, applications, network_flops, step_flops, training_flops
from trm.model import PAPER, TRM, TRMConfig
from trm.parsing.batches import AFFIXES
from trm.parsing.evaluate import decode
from trm.parsing.model import Parser, ParserConfig, parser_flops
from trm.puzzles.solve import solve
from trm.puzzles.unrolled import UnrolledTRM
from trm.recursive_lm.model import LMConfig, RecursiveLanguageModel, lm_flops

BASE = {"vocab_size": 6, "seq_len": 16, "hidden_size": 32, "num_layers": 1, "expansion": 2.0, "inner_multiple": 8,
        "num_heads": 2, "H_cycles": 2, "L_cycles": 2, "halt_max_steps": 3}  # fmt: skip
CASES = {
    "the paper's way": {},
    "three layers": {"num_layers": 3},
    "attention": {"mixer": "attention"},
    "puzzle tokens": {"puzzle_tokens": 4, "mixer": "attention"},
    "full": {"backprop": "full", "schedule": "linear", "supervision_weight": 1.0},
    "full, but the last answer alone is graded": {"backprop": "full"},
    "per cycle": {"backprop": "per_cycle", "schedule": "linear", "H_cycles": 3},
    "per cycle, the last alone": {"backprop": "per_cycle"},
    "last, all answers graded": {"schedule": "uniform", "H_cycles": 3},
    "computed again": {"activation_checkpointing": True, "backprop": "full"},
    "one step ahead": {"halting": "q_continue"},
    "act": {"halting": "act"},
    "ponder": {"halting": "ponder", "schedule": "linear"},
    "graves": {"halting": "graves"},
    "houses": {"mixer": "houses", "box": (2, 2), "backprop": "full", "schedule": "linear"},
    "adaptive": {"schedule": "adaptive", "backprop": "full"},
}


def model_and_batch(B=4, **changes):
    config = TRMConfig(**PAPER | BASE | changes)
    model = (UnrolledTRM if config.halting in ("act", "ponder", "graves") else TRM)(config)
    tokens = torch.from_numpy(np.random.default_rng(0).integers(1, 6, (B, 16)))
    return model, {"inputs": tokens, "labels": tokens}


def counted(function) -> int:
    # the plain kernel: the fused one computes products again in the backward pass, which the model does not need
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_counts_as_torch_counts(name):
    model, batch = model_and_batch(**CASES[name])
    assert counted(lambda: model.loss(batch).loss.backward()) == 4 * step_flops(model.config)


@pytest.mark.parametrize("mixer", ["mlp", "attention", "houses"])
def test_answers_count_as_torch_counts(mixer):
    model, batch = model_and_batch(mixer=mixer, box=(2, 2))
    with torch.no_grad():
        assert counted(lambda: solve(model, batch["inputs"], 5)) == 4 * answer_flops(model.config, 5)
        assert counted(lambda: model.net(model.initial_thought(4)[0])) == 4 * network_flops(model.config)


@pytest.mark.parametrize(
    "changes",
    [
        {"H_cycles": 3, "L_cycles": 4, "depth_stages": [[0, 1, 1], [2, 2, 2], [3, 3, 4]]},
        {"schedule": "linear", "backprop": "full", "curriculum_enabled": True, "curriculum_start_step": 1,
         "curriculum_end_step": 3},
    ],
)  # fmt: skip
def test_stages_and_the_curriculum_change_the_count_while_training(changes):
    model, batch = model_and_batch(**changes)

    def train():
        state = None
        for _ in range(5):
            out = model.loss(batch, state)
            out.loss.backward()
            state = out.state

    total = counted(train)
    assert total == training_flops(model.config, batch_size=4, max_steps=5)
    assert total == 4 * sum(step_flops(model.config, i) for i in range(5)) < 4 * 5 * step_flops(model.config)


def test_applications_by_hand():
    # H=3, L=6: 21 forward; backward twice through 21 (full) or through the last 7 (last)
    assert applications(3, 6, "full") == 21 + 42
    assert applications(3, 6, "last") == 21 + 14


def test_the_papers_model_by_hand():
    # two blocks, 81 cells, D = 512; inner widths 2/3 * 4 * 81 = 216 -> 256 and 2/3 * 4 * 512 = 1365 -> 1536
    config = TRMConfig(**PAPER)
    assert network_flops(config) == 2 * 2 * 3 * (512 * 81 * 256 + 81 * 512 * 1536)


PARSERS = {
    "standard": {},
    "one iteration": {"max_inner_iters": 1},
    "deep supervision": {"deep_supervision": True},
    "expected loss": {"act_halting": True, "halting_mode": "halting"},
    "recurrent": {"controller": "recurrent"},
    "plain layers": {"block": "layers", "plain_layers": 2},
    "nothing after the convolutions": {"block": "none", "conv_width": 5},
    "tags given": {"use_upos": True, "state_size": 7},
}


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_counts_as_torch_counts(name):
    """But for the halting head, which reads one mean a sentence and is left out."""
    sizes = {
        "num_words": 9,
        "num_tags": 5,
        "num_labels": 4,
        "hidden_size": 32,
        "num_heads": 2,
        "arc_size": 20,
        "label_size": 6,
    }
    config = ParserConfig(**sizes | PARSERS[name])
    model, B, T = Parser(config), 3, 11
    draw = torch.Generator().manual_seed(0)
    batch = {key: torch.randint(1, 4, (B, T), generator=draw) for key in ("words", "tags", "heads", "labels")}
    batch["affixes"] = torch.ones(B, T, AFFIXES, dtype=torch.long)
    if config.state_size:
        batch["states"] = torch.randn(B, T, config.state_size, requires_grad=True)
    found = counted(lambda: model.loss(batch).loss.backward())
    assert found == pytest.approx(B * parser_flops(config, T, training=True), rel=2e-3)
    with torch.no_grad():
        found = counted(lambda: decode(model, (unrolled := model.unroll(batch)).states[-1], unrolled.mask))
    assert found == pytest.approx(B * parser_flops(config, T), rel=2e-3)


LANGUAGE_MODELS = {
    "recursive, the last answer graded": {},
    "recursive, all graded": {"schedule": "linear"},
    "the paper's way": {"schedule": "linear", "backprop": "last", "H_cycles": 3},
    "per cycle": {"schedule": "linear", "backprop": "per_cycle"},
    "looped": {"body": "looped", "schedule": "linear"},
    "plain": {"body": "plain", "num_layers": 4},
    "frozen embeddings": {"embed_size": 12},
}


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_counts_as_torch_counts(name):
    sizes = {"vocab_size": 21, "hidden_size": 32, "num_heads": 2, "seq_len": 20, "H_cycles": 2, "schedule": "none"}
    config, draw = LMConfig(**sizes | LANGUAGE_MODELS[name]), torch.Generator().manual_seed(0)
    model, B, T, M = RecursiveLanguageModel(config), 3, 12, 4
    ids = torch.randint(1, 21, (B, T), generator=draw)
    weights = torch.zeros(B, T).index_fill(1, torch.arange(T - M, T), 1.0)
    batch = {
        "input_ids": ids,
        "labels": ids,
        "weights": weights,
        "places": torch.arange(T - M - 1, T - 1).expand(B, -1),
    }
    assert counted(lambda: model.loss(batch).loss.backward()) == B * lm_flops(config, T - 1, learned=M)
    with torch.no_grad():
        found = counted(lambda: model.lm_head(model.think(ids, 5)[-1][:, -1]))
        assert found == B * lm_flops(config, T, H_cycles=5)
