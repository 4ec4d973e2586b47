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
from pydantic import ValidationError
from torch import Tensor

from trm.errors import UserError
from trm.model import PAPER, TRM, TRMConfig
from trm.params import read_yaml
from trm.puzzles.token_set import Metadata

REQUIRED = ("vocab_size", "seq_len", "hidden_size", "L_layers", "H_cycles", "L_cycles")
DEFAULTS = {
    "expansion": 4, "num_heads": 8, "halt_max_steps": 16, "halt_exploration_prob": 0.1, "num_puzzle_identifiers": 1,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
}  # fmt: skip
NAMES = {"L_layers": "num_layers", "num_puzzle_identifiers": "num_puzzles", "rms_norm_eps": "norm_eps"}  # theirs: ours
PREFIXES = r"^(_orig_mod\.|module\.|model\.|inner\.)+"


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
    try:
        vectors = -(-ndim // config["hidden_size"])
    except (TypeError, ZeroDivisionError):
        raise OfficialCheckpointError("puzzle_emb_ndim and hidden_size must be integers, the latter above 0") from None
    tokens = tokens or vectors
    ours = {NAMES.get(k, k): v for k, v in (DEFAULTS | config).items() if k in (*REQUIRED, *DEFAULTS)}
    try:
        puzzle = {"puzzle_tokens": tokens, "puzzle_vectors": 0 if vectors == tokens else vectors}
        return TRMConfig(**PAPER | ours | puzzle | {"mixer": "mlp" if mlp else "attention"})
    except ValidationError as error:
        fault = error.errors()[0]
        own = ".".join(map(str, fault["loc"]))
        name = next((theirs for theirs, ours in NAMES.items() if ours == own), own)
        raise OfficialCheckpointError(f"field {name!r} = {str(fault['input']):.80}: {fault['msg']}") from None


def from_official(state_dict: Mapping[str, Any], config: Mapping[str, Any]) -> TRM:
    """A `TRM` that computes what the official class computes with these weights, in evaluation mode.

    state_dict: tensors by name, of any float type, perhaps under `model` or `state_dict`, and with prefixes. config: see
    `official_config`; vocab_size and the number of puzzle identifiers may be missing: the weights have them.

    Raises:
        OfficialCheckpointError: a field or tensor is missing, left over or does not fit; it is named as in the original.
    """
    theirs = {re.sub(PREFIXES, "", name): value for name, value in tensors_of(state_dict).items()}
    sizes = {"embed_tokens.embedding_weight": "vocab_size", "puzzle_emb.weights": "num_puzzle_identifiers"}
    found = {field: len(theirs[name]) for name, field in sizes.items() if name in theirs}
    model = TRM(official_config(found | dict(config)))
    expected = {original_name(own, model.config.mixer): own for own in model.state_dict()}
    for name, value in theirs.items():
        if name not in expected:
            raise OfficialCheckpointError(f"tensor {name!r} has no place in the configuration; is it of another class?")
        theirs[name] = _in_our_form(name, value, model.config)
        if (own := theirs[name].shape) != (ours := model.state_dict()[expected[name]].shape):
            shapes = f"{tuple(own)}, and this configuration makes it {tuple(ours)}"
            raise OfficialCheckpointError(f"tensor {name!r} has shape {shapes}; give its own configuration")
    if missing := [name for name in expected if name not in theirs]:
        raise OfficialCheckpointError(f"{len(missing)} tensors are missing, first {missing[0]!r}")
    model.load_state_dict({expected[name]: value.float() for name, value in theirs.items()})
    return model.eval()


def original_name(own: str, mixer: str) -> str:
    """The original's name, without prefixes, of a tensor of `TRM`."""
    whole = {"embed": "embed_tokens.embedding_weight", "puzzle_embed.weight": "puzzle_emb.weights"}
    own = re.sub(r"^net\.", "L_level.layers.", whole.get(own, own))
    return own.replace(".mixer.", ".mlp_t." if mixer == "mlp" else ".self_attn.")


def _in_our_form(name: str, value: Tensor, config: TRMConfig) -> Tensor:
    """A tensor of the original as `TRM` has it, where its shape allows: puzzle embeddings as whole tokens, one output of
    q_head."""
    if name == "puzzle_emb.weights" and value.ndim == 2:
        width = (config.puzzle_vectors or config.puzzle_tokens) * config.hidden_size
        if value.shape[1] <= width:
            return torch.nn.functional.pad(value.float(), (0, width - value.shape[1]))
    return value[:1] if name.startswith("q_head.") and value.ndim else value


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
    parser = argparse.ArgumentParser(prog="trm convert", description="Convert weights of the original TRM code.")
    parser.add_argument("checkpoint", type=Path, help="file of weights, such as step_65104 or model.safetensors")
    parser.add_argument("out", type=Path, help="folder to write config.json and model.safetensors into")
    parser.add_argument("--config", type=Path, required=True, help="the run's all_config.yaml")
    parser.add_argument("--data", type=Path, help="the data set's folder, whose dataset.json has the sizes")
    args = parser.parse_args(words)
    config = dict(read_yaml(args.config))
    if args.data:
        about = Metadata.read(args.data / "train")
        names = ("vocab_size", "seq_len", "num_puzzle_identifiers")
        config |= {name: getattr(about, name) for name in names}
    model = from_official(read_checkpoint(args.checkpoint), config)
    model.save_pretrained(args.out)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters in {args.out}; read by -p model_path {args.out}")
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
