"""Make tests/golden/official_*.safetensors from a checkout of the official repository.

    python tests/puzzles/make_golden.py PATH/TO/TinyRecursiveModels

Tiny random weights, inputs, and what the official class answers over three supervision steps in evaluation mode, for
`mlp_t` on and off, with and without puzzle tokens. The names carry the prefixes that official checkpoints have.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

CASES = {
    "mlp_puzzle": dict(mlp_t=True, puzzle_emb_ndim=40, puzzle_emb_len=2, prefix="_orig_mod.model.inner."),
    "mlp_plain": dict(mlp_t=True, puzzle_emb_ndim=0, puzzle_emb_len=0, prefix="model.inner."),
    "attention_puzzle": dict(mlp_t=False, puzzle_emb_ndim=24, puzzle_emb_len=2, prefix="model.inner."),
    "attention_plain": dict(mlp_t=False, puzzle_emb_ndim=0, puzzle_emb_len=0, prefix="_orig_mod.model.inner."),
}
STEPS = 3


def main(checkout: str) -> None:
    """Write the four files."""
    sys.path.insert(0, checkout)
    from models.recursive_reasoning.trm import TinyRecursiveReasoningModel_ACTV1 as Official

    for seed, (name, case) in enumerate(CASES.items()):
        prefix = case.pop("prefix")
        config = dict(
            batch_size=3, seq_len=6, num_puzzle_identifiers=4, vocab_size=7, H_cycles=2, L_cycles=2, H_layers=0,
            L_layers=2, hidden_size=24, expansion=1.0, num_heads=3, pos_encodings="none" if case["mlp_t"] else "rope",
            halt_max_steps=8, halt_exploration_prob=0.1, forward_dtype="float32", **case,
        )  # fmt: skip
        torch.manual_seed(seed)
        model = Official(config).eval()
        with torch.no_grad():  # away from the zero start of these two, so that the test can see them
            model.inner.q_head.weight.normal_()
            model.inner.q_head.bias.normal_()
            if config["puzzle_emb_ndim"]:
                model.inner.puzzle_emb.weights.normal_()
        batch = {name: torch.randint(0, 7, (3, 6), dtype=torch.int32) for name in ("inputs", "labels")}
        batch["puzzle_identifiers"] = torch.tensor([0, 3, 1], dtype=torch.int32)
        carry = model.initial_carry(batch)
        tensors = {prefix + key.removeprefix("inner."): value for key, value in model.state_dict().items()}
        tensors |= {"inputs": batch["inputs"], "puzzle_ids": batch["puzzle_identifiers"]}
        with torch.no_grad():
            for step in range(STEPS):
                carry, out = model(carry, batch)
                tensors[f"logits_{step}"], tensors[f"q_halt_{step}"] = out["logits"], out["q_halt_logits"]
        path = Path(__file__).parent.parent / "golden" / f"official_{name}.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata={"config": json.dumps(config)})


if __name__ == "__main__":
    main(sys.argv[1])
