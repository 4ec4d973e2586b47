"""Weights of the official code (SamsungSAILMontreal/TinyRecursiveModels, models/recursive_reasoning/trm.py) as a `TRM`.

    trm convert step_65104 --config all_config.yaml --data data/sudoku-extreme OUT

The original's names map one to one, without their prefixes. Two things differ in form: the puzzle embedding has
`puzzle_emb_ndim` numbers per puzzle, padded with zeros to whole tokens; of the two outputs of `q_head` only "halt" is used.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trm.errors import UserError
from trm.model import PAPER, TRM, TRMConfig
from trm.params import read_yaml
from trm.puzzles.token_set import Metadata
from trm.text_files import read_json

REQUIRED = ("vocab_size", "seq_len", "hidden_size", "L_layers", "H_cycles", "L_cycles")
DEFAULTS = {
    "expansion": 4, "num_heads": 8, "halt_max_steps": 16, "halt_exploration_prob": 0.1, "num_puzzle_identifiers": 1,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
}  # fmt: skip
NAMES = {"L_layers": "num_layers", "num_puzzle_identifiers": "num_puzzles", "rms_norm_eps": "norm_eps"}  # theirs: ours


class OfficialCheckpointError(UserError):
    """A state dict or configuration that is not of the official TRM class."""


def official_config(config: dict) -> TRMConfig:
    """The `TRMConfig` of an official configuration: `all_config.yaml` as it is, with its `arch` block, or that block alone;
    with vocab_size, seq_len and num_puzzle_identifiers, which the original takes from dataset.json."""
    outer = {name: config[name] for name in ("vocab_size", "seq_len", "num_puzzle_identifiers") if name in config}
    if isinstance(config.get("arch"), Mapping):
        config = {**config["arch"], **outer}
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


PREFIXES = r"^(_orig_mod\.|module\.|model\.|inner\.)+"


def from_official(state_dict: Mapping[str, Any], config: Mapping[str, Any]) -> TRM:
    """A `TRM` that computes what the official class computes with these weights, in evaluation mode.

    state_dict: tensors by name, of any float type, perhaps under `model` or `state_dict`, and with prefixes. config: see
    `official_config`; vocab_size and the number of puzzle identifiers may be missing: the weights have them.

    Raises:
        OfficialCheckpointError: a field or tensor is missing, left over or does not fit; it is named as in the original.
    """
    theirs = {re.sub(PREFIXES, "", name): value for name, value in tensors_of(state_dict).items()}
    rows = {"embed_tokens.embedding_weight": "vocab_size", "puzzle_emb.weights": "num_puzzle_identifiers"}
    found = {field: len(theirs[name]) for name, field in rows.items() if name in theirs}
    model = TRM(official_config(found | dict(config)))
    weights, names = {}, {}
    for name, value in theirs.items():
        own = name.replace("embed_tokens.embedding_weight", "embed").replace("L_level.layers.", "net.")
        own = re.sub(r"\.(mlp_t|self_attn)\.", ".mixer.", own)
        if name == "puzzle_emb.weights" and model.config.puzzle_tokens:
            own, width = "puzzle_embed", model.config.puzzle_tokens * model.config.hidden_size
            value = torch.nn.functional.pad(value.float(), (0, width - value.shape[1]))
            value = value.view(len(value), model.config.puzzle_tokens, -1)
        weights[own], names[own] = value[:1] if name.startswith("q_head.") else value, name
    expected = model.state_dict()
    for own, value in weights.items():
        if own not in expected:
            raise OfficialCheckpointError(
                f"tensor {names[own]!r} has no place in this configuration; is it of another class?"
            )
        if value.shape != expected[own].shape:
            shapes = f"{tuple(value.shape)}, and this configuration makes it {tuple(expected[own].shape)}"
            raise OfficialCheckpointError(
                f"tensor {names[own]!r} has shape {shapes}; give the configuration it was trained with"
            )
    if missing := [own for own in expected if own not in weights]:
        raise OfficialCheckpointError(f"{len(missing)} tensors are missing, first that of {missing[0]!r}")
    model.load_state_dict({own: value.float() for own, value in weights.items()})
    return model.eval()


def tensors_of(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint, which may lie under `model` or `state_dict`. OfficialCheckpointError: anything else."""
    for name in ("model", "state_dict"):
        if isinstance(state_dict, Mapping) and isinstance(state_dict.get(name), Mapping):
            state_dict = state_dict[name]
    if not isinstance(state_dict, Mapping) or not state_dict:
        raise OfficialCheckpointError(f"a checkpoint is a dict of tensors, not {type(state_dict).__name__}")
    for name, value in state_dict.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise OfficialCheckpointError(f"entry {name!r} is {type(value).__name__}, and only tensors are read")
    return dict(state_dict)


def main(words: list[str]) -> int:
    """`trm convert`: a checkpoint of the original in this book's format."""
    parser = argparse.ArgumentParser(
        prog="trm convert", description="Weights of the original TRM code in this book's format."
    )
    parser.add_argument("checkpoint", type=Path, help="file of weights, such as step_65104 or model.safetensors")
    parser.add_argument("out", type=Path, help="folder to write config.json and model.safetensors into")
    parser.add_argument("--config", type=Path, required=True, help="the run's all_config.yaml")
    parser.add_argument("--data", type=Path, help="the data set's folder, whose dataset.json has the sizes")
    args = parser.parse_args(words)
    config = dict(read_yaml(args.config))
    if args.data:
        about = Metadata(**read_json(args.data / "train" / "dataset.json"))
        names = ("vocab_size", "seq_len", "num_puzzle_identifiers")
        config |= {name: getattr(about, name) for name in names}
    model = from_official(read_checkpoint(args.checkpoint), config)
    model.save_pretrained(args.out)
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters in {args.out}; -p model_path {args.out} reads them"
    )
    return 0


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of torch or of safetensors; nothing is unpickled but tensors."""
    if not path.is_file():
        raise OfficialCheckpointError(f"{path.absolute()}: no such file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, safetensors and the restricted unpickler each raise their own
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OfficialCheckpointError(f"{path}: holds no tensors alone ({why[:100]})") from None
