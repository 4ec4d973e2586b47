"""Weights of the official code (SamsungSAILMontreal/TinyRecursiveModels, models/recursive_reasoning/trm.py) as a `TRM`.

The original's names map one to one, without their prefixes. Two things differ in form: the puzzle embedding has
`puzzle_emb_ndim` numbers per puzzle, padded with zeros to whole tokens; of the two outputs of `q_head` only "halt" is used.

    weights = torch.load("step_65104", map_location="cpu", weights_only=True)
    model = from_official(weights, config["arch"] | {"vocab_size": 11, "seq_len": 81})
"""

import re

import torch
from torch import Tensor

from trm.errors import UserError
from trm.model import PAPER, TRM, TRMConfig

REQUIRED = ("vocab_size", "seq_len", "hidden_size", "L_layers", "H_cycles", "L_cycles")
DEFAULTS = {
    "expansion": 4, "num_heads": 8, "halt_max_steps": 16, "halt_exploration_prob": 0.1, "num_puzzle_identifiers": 1,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
}  # fmt: skip
NAMES = {"L_layers": "num_layers", "num_puzzle_identifiers": "num_puzzles", "rms_norm_eps": "norm_eps"}  # theirs: ours


class OfficialCheckpointError(UserError):
    """A state dict or configuration that is not of the official TRM class."""


def official_config(config: dict) -> TRMConfig:
    """The `TRMConfig` of an official configuration (its `arch` block with vocab_size and seq_len)."""
    if missing := [name for name in REQUIRED if name not in config]:
        raise OfficialCheckpointError(f"official configuration without {', '.join(missing)}")
    mlp = config.get("mlp_t", False)
    if not mlp and config.get("pos_encodings", "rope") != "rope":
        raise OfficialCheckpointError(f"pos_encodings {config['pos_encodings']!r}: only 'rope' is supported")
    ndim, tokens = config.get("puzzle_emb_ndim", 0), config.get("puzzle_emb_len", 16)
    if ndim == 0 and tokens:
        raise OfficialCheckpointError("puzzle_emb_ndim 0 requires puzzle_emb_len 0, as in the official class")
    if ndim and not tokens:
        tokens = -(-ndim // config["hidden_size"])
    ours = {
        NAMES.get(name, name): value for name, value in (DEFAULTS | config).items() if name in (*REQUIRED, *DEFAULTS)
    }
    return TRMConfig(**PAPER | ours | {"mixer": "mlp" if mlp else "attention", "puzzle_tokens": tokens})


def from_official(state_dict: dict[str, Tensor], config: dict) -> TRM:
    """A `TRM` that computes what the official class computes with these weights, in evaluation mode.

    Raises:
        OfficialCheckpointError: a field or tensor is missing, left over or does not fit; the message names it.
    """
    model = TRM(official_config(config))
    theirs = {re.sub(r"^(_orig_mod\.|model\.|inner\.)+", "", name): value for name, value in state_dict.items()}
    weights = {}
    for name, value in theirs.items():
        if name == "puzzle_emb.weights" and model.config.puzzle_tokens:
            rows, width = len(value), model.config.puzzle_tokens * model.config.hidden_size
            padded = torch.nn.functional.pad(value.float(), (0, width - value.shape[1]))
            weights["puzzle_embed"] = padded.view(rows, model.config.puzzle_tokens, -1)
        elif name.startswith("q_head."):
            weights[name] = value[:1]
        else:
            name = name.replace("embed_tokens.embedding_weight", "embed").replace("L_level.layers.", "net.")
            weights[re.sub(r"\.(mlp_t|self_attn)\.", ".mixer.", name)] = value
    try:
        model.load_state_dict({name: value.float() for name, value in weights.items()})
    except RuntimeError as error:  # names every tensor that is missing, left over or of another shape
        what = " ".join(str(error).split())
        raise OfficialCheckpointError(f"not the weights of this configuration: {what}") from None
    return model
