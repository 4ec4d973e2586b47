"""Official checkpoints: the same logits as the official class, from golden tensors (see make_golden.py)."""

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

import trm.cli
from trm.model import PAPER, TRM, TRMConfig
from trm.puzzles.official import PREFIXES, OfficialCheckpointError, from_official
from trm.puzzles.solve import load_model

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


def test_a_wrong_configuration_is_named_by_the_originals_names():
    weights, config, _ = read(GOLDEN[0])
    with pytest.raises(OfficialCheckpointError, match="'L_level.layers.1.mlp.down_proj.weight' has no place"):
        from_official(weights, config | {"L_layers": 1})
    with pytest.raises(OfficialCheckpointError, match="tensors are missing, first 'L_level.layers.2."):
        from_official(weights, config | {"L_layers": 3})
    with pytest.raises(
        OfficialCheckpointError, match=r"'embed_tokens.embedding_weight' has shape \(\d+, \d+\), and this configuration"
    ):
        from_official(weights, config | {"vocab_size": 99})
    with pytest.raises(OfficialCheckpointError, match="field 'L_layers' = two: Input should be a valid integer"):
        from_official(weights, config | {"L_layers": "two"})
    with pytest.raises(OfficialCheckpointError, match="without hidden_size, L_layers"):
        from_official(weights, {"seq_len": 6})


@pytest.mark.parametrize("prefix", ["_orig_mod.model.inner.", "module.model.inner.", "model.", "inner.", ""])
def test_prefixes_wrappers_and_halves_are_read_as_they_come(prefix):
    weights, config, golden = read(GOLDEN[1])
    bare = {re.sub(PREFIXES, "", name): value.bfloat16() for name, value in weights.items()}
    sizes = {name: config[name] for name in ("vocab_size", "seq_len", "num_puzzle_identifiers")}
    nested = {"arch": {n: v for n, v in config.items() if n not in sizes}, "lr": 1e-4, "seq_len": sizes["seq_len"]}
    model = from_official({"model": {prefix + name: value for name, value in bare.items()}}, nested)
    expected = from_official({name: value.float() for name, value in bare.items()}, config)
    for (name, ours), theirs in zip(model.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs) and ours.dtype == torch.float32, name


@pytest.mark.parametrize("content", [[1, 2], "text", {}, {"a": [1]}, {"model": {"a": "b"}}, {1: torch.ones(1)}])
def test_what_is_no_state_dict_is_refused_in_one_line(content):
    with pytest.raises(OfficialCheckpointError) as error:
        from_official(content, {"arch": {}})
    assert "\n" not in str(error.value)


def test_a_puzzle_embedding_that_is_too_wide_is_not_cut():
    weights, config, _ = read(GOLDEN[1])
    name = next(name for name in weights if name.endswith("puzzle_emb.weights"))
    wide = torch.nn.functional.pad(weights[name], (0, 1000))
    with pytest.raises(OfficialCheckpointError, match="'puzzle_emb.weights' has shape"):
        from_official(weights | {name: wide}, config)


def test_the_command_converts_a_checkpoint_with_its_yaml_and_data(tmp_path, capsys):
    weights, config, golden = read(GOLDEN[3])
    sizes = {name: config.pop(name) for name in ("vocab_size", "seq_len", "num_puzzle_identifiers")}
    torch.save(weights, tmp_path / "step_10")
    (tmp_path / "all_config.yaml").write_text(yaml.safe_dump({"arch": config, "data_paths": ["x"]}), encoding="utf-8")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "dataset.json").write_text(json.dumps(sizes), encoding="utf-8")
    words = [str(tmp_path / "step_10"), str(tmp_path / "out"), "--config", str(tmp_path / "all_config.yaml")]
    assert trm.cli.main(["convert", *words, "--data", str(tmp_path)]) == 0
    model = load_model(tmp_path / "out")
    x = model.embed_question(golden["inputs"].long(), golden["puzzle_ids"].long())
    answers, _ = model.think(x, *model.initial_thought(len(x)))
    torch.testing.assert_close(model.output_logits(answers[-1]), golden["logits_0"], atol=1e-4, rtol=0)
    assert "-p model_path" in capsys.readouterr().out
    (tmp_path / "train" / "dataset.json").write_text("{}", encoding="utf-8")
    assert trm.cli.main(["convert", *words, "--data", str(tmp_path)]) == 1
    assert "dataset.json: field 'vocab_size'" in capsys.readouterr().err
    (tmp_path / "step_10").write_bytes(pickle.dumps({"a": print}))
    assert trm.cli.main(["convert", *words]) == 1 and "holds no tensors alone" in capsys.readouterr().err
