"""Official checkpoints: the same logits as the official class, from golden tensors (see make_golden.py)."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from trm.model import PAPER, TRM, TRMConfig
from trm.puzzles.official import OfficialCheckpointError, from_official

CASES = ("attention_plain", "attention_puzzle", "mlp_plain", "mlp_puzzle")
GOLDEN = [Path(__file__).parent.parent / "golden" / f"official_{case}.safetensors" for case in CASES]
RESULTS = ("inputs", "puzzle_ids", "logits_", "q_halt_")


def read(path):
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    weights = {name: t for name, t in tensors.items() if not name.startswith(RESULTS)}
    return weights, config, {name: t for name, t in tensors.items() if name.startswith(RESULTS)}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: p.stem)
def test_logits_agree_over_supervision_steps(path):
    weights, config, golden = read(path)
    model = from_official(weights, config).eval()
    x = model.embed_question(golden["inputs"].long(), golden["puzzle_ids"].long())
    z_H, z_L = model.initial_thought(len(x))
    with torch.no_grad():
        for step in range(3):
            answers, z_L = model.think(x, z_H, z_L)
            z_H = answers[-1]
            torch.testing.assert_close(model.output_logits(z_H), golden[f"logits_{step}"], atol=1e-4, rtol=0)
            torch.testing.assert_close(model.q_logits(z_H)[0], golden[f"q_halt_{step}"], atol=1e-4, rtol=0)


def test_published_parameter_counts():
    """4,855,298 and 6,828,034 of the paper's Sudoku models count both outputs of q_head, of which we keep one."""
    for mixer, published in (("mlp", 4_855_298), ("attention", 6_828_034)):
        assert sum(p.numel() for p in TRM(TRMConfig(**PAPER, mixer=mixer)).parameters()) + 513 == published


def test_a_wrong_configuration_is_named():
    weights, config, _ = read(GOLDEN[0])
    with pytest.raises(OfficialCheckpointError, match="net.1.mlp.down_proj.weight"):
        from_official(weights, config | {"L_layers": 1})
    with pytest.raises(OfficialCheckpointError, match="vocab_size"):
        from_official(weights, {"seq_len": 6})
