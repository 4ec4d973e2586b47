"""Policies: samples follow the stated probabilities; shared questions change nothing."""

import copy
from itertools import islice

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import BertTokenizerFast

from trm.errors import UserError
from trm.grpo import train as job
from trm.grpo.params import Grpo
from trm.grpo.policy import LatentPolicy, TokenPolicy, gaussian_log_prob
from trm.grpo.train import EARLY_LM
from trm.language.lm import generate_greedy, load_lm
from trm.language.stories import problems, prompt, read_answer
from trm.latent.frozen_lm import FrozenLM, tokens_of
from trm.latent.reasoner import LatentReasoner, ReasonerConfig

EARLY, TOKENIZER = load_lm(str(EARLY_LM))
ASKED = list(islice(problems("train", 3, 2, 4), 3))


def policy(group_size=4, **options):
    """With the model that chapter 08 begins with: unsure of what to write, and of how long to go on."""
    return TokenPolicy(copy.deepcopy(EARLY), TOKENIZER, group_size, **{"max_new_tokens": 30} | options)


def sampled(chosen, seed=0):
    return chosen.sample(ASKED, chosen.draws(np.random.default_rng(seed), len(ASKED)))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_log_probabilities_are_those_of_each_answer_alone(temperature):
    """Without the shared question, the padding and the cache: one row after the other, in one piece."""
    chosen = policy(temperature=temperature)
    batch = sampled(chosen)
    found = chosen.log_probs(batch)
    lengths = batch["mask"].sum(1).tolist()
    assert len(set(lengths)) > 1, "answers of several lengths"
    for row, length in enumerate(lengths):
        question = tokens_of(TOKENIZER, prompt(ASKED[row // 4], True))
        answer = batch["tokens"][row, :length].tolist()
        logits = chosen.lm(torch.tensor([question + answer])).logits[0, len(question) - 1 : -1] / temperature
        expected = logits.log_softmax(-1)[range(length), answer]
        torch.testing.assert_close(found[row, :length], expected, atol=2e-4, rtol=0)
    assert (batch["mask"].diff(dim=1) <= 0).all() and len(chosen.texts(batch)) == 12
    found.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in chosen.lm.parameters())


def test_tokens_come_as_often_as_they_are_likely():
    """Uniform numbers that lie evenly: each token comes as often as its probability says, to one."""
    n = 500
    chosen = policy(group_size=n, max_new_tokens=1, temperature=3.0)
    even = {"uniforms": ((np.arange(n) + 0.5) / n).astype(np.float32)[:, None]}
    batch = chosen.sample(ASKED[:1], even)
    counts = torch.bincount(batch["tokens"][:, 0], minlength=len(TOKENIZER))
    ids = torch.tensor([tokens_of(TOKENIZER, prompt(ASKED[0], True))])
    expected = n * (chosen.lm(ids).logits[0, -1] / 3).softmax(-1)
    assert chosen.log_probs(batch).shape == (n, 1)
    assert (counts - expected).abs().max() <= 1 and (counts > 0).sum() > 5


def test_answers_do_not_depend_on_the_company():
    """Rows that end leave the batch; the others write on as if nothing had been."""
    chosen = policy()
    draws = chosen.draws(np.random.default_rng(0), 3)
    together = chosen.texts(chosen.sample(ASKED, draws))
    for i, problem in enumerate(ASKED):
        own = {"uniforms": draws["uniforms"][4 * i : 4 * i + 4]}
        assert chosen.texts(chosen.sample([problem], own)) == together[4 * i : 4 * i + 4]
    assert len(set(together)) > 6
    cold = policy(temperature=1e-4, max_new_tokens=40)
    greedy = generate_greedy(cold.lm, TOKENIZER, ASKED, thinking=True).texts
    for text, expected in zip(cold.texts(sampled(cold))[::4], greedy):
        assert expected.startswith(text) or text == expected


def test_a_tokenizer_of_other_prompts_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", encoding="utf-8")
    other = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    with pytest.raises(UserError, match="no token <think>, </think>, <eos>"):
        TokenPolicy(EARLY, other, 4, 30)


def reloaded(folder, change):
    """The policy of the same model with another tokenizer, from files, as a reader would give it."""
    lm, tokenizer = copy.deepcopy(EARLY), copy.deepcopy(TOKENIZER)
    change(lm, tokenizer)
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return job.load_policy(Grpo.create({"lm": str(folder), "group_size": 4, "max_new_tokens": 30}))


@pytest.mark.parametrize("lacks", ["pad", "pad of its own", "template"])
def test_padding_is_masked_whatever_token_pads(tmp_path, lacks):
    """No padding token, one that is also the end, no chat template: the same answers, probabilities and greedy texts."""

    def change(lm, tokenizer):
        if lacks == "template":
            tokenizer.chat_template = None
        else:
            tokenizer.pad_token = None if lacks == "pad" else tokenizer.eos_token
            lm.generation_config.pad_token_id = lm.config.pad_token_id = None

    plain, other = policy(), reloaded(tmp_path, change)
    assert lacks == "template" or other.tokenizer.pad_token_id == other.tokenizer.eos_token_id != TOKENIZER.pad_token_id
    one, two = sampled(plain), sampled(other)
    assert torch.equal(one["mask"], two["mask"]) and (one["prompt_mask"] == 0).any()
    assert torch.equal(one["tokens"] * one["mask"], two["tokens"] * two["mask"])
    torch.testing.assert_close(plain.log_probs(one) * one["mask"], other.log_probs(two) * two["mask"])
    assert plain.texts(one) == other.texts(two) and plain.greedy(ASKED) == other.greedy(ASKED)


def test_each_of_several_end_tokens_ends_an_answer(tmp_path):
    """Here also the sign after a sum, which is written early: nothing follows it, and it is an action like the others."""
    semicolon = TOKENIZER.convert_tokens_to_ids(";")

    def change(lm, tokenizer):
        lm.generation_config.eos_token_id = [tokenizer.eos_token_id, semicolon]

    chosen = reloaded(tmp_path, change)
    whole, short = sampled(policy()), sampled(chosen)
    for row, tokens in enumerate(whole["tokens"].tolist()):
        length = tokens.index(semicolon) + 1
        assert short["mask"][row].sum() == length and short["tokens"][row, :length].tolist() == tokens[:length]
    found, expected = chosen.log_probs(short), policy().log_probs(whole)[:, : short["mask"].shape[1]]
    torch.testing.assert_close(found * short["mask"], expected * short["mask"], atol=1e-5, rtol=1e-5)
    assert all(";" not in text for text in chosen.texts(short)), "the end itself is left out"
    assert all(text.find(";") == len(text) - 1 for text in chosen.greedy(ASKED).texts)


def test_an_answer_before_another_end_token_is_read():
    """It earns its reward as one before <eos> does, sampled or greedy."""
    chosen, other = policy(), TOKENIZER.convert_tokens_to_ids("/no_think")
    chosen.ends = [TOKENIZER.eos_token_id, other]
    rows = [tokens_of(TOKENIZER, "12+5=17;</think>17") + [end] for end in chosen.ends]
    batch = {"tokens": torch.tensor(rows), "mask": torch.ones(2, len(rows[0]), dtype=torch.long)}
    assert chosen.texts(batch) == ["12+5=17;</think>17<eos>", "12+5=17;</think>17"]
    assert [read_answer(text) for text in chosen.texts(batch)] == [17, 17]


# --- latents ---------------------------------------------------------------------------------------------------


def test_the_density_of_a_latent_is_scipys():
    draw = np.random.default_rng(0)
    x, mean = draw.normal(size=(2, 5, 3, 8))
    expected = stats.norm.logpdf(x, mean, 0.7).sum(-1)
    found = gaussian_log_prob(torch.from_numpy(x), torch.from_numpy(mean), 0.7)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def latent_policy(std=0.2):
    lm, tokenizer = load_lm()
    frozen = FrozenLM(lm, tokenizer, 2, ";")
    torch.manual_seed(0)
    reasoner = LatentReasoner(ReasonerConfig(num_words=50, num_latents=3, d_compressed=8, hidden_size=16, num_heads=2))
    reasoner.begin(torch.arange(50), frozen.embeddings)
    return LatentPolicy(frozen, reasoner, 4, std, max_new_tokens=4)


def test_a_reasoner_is_rewarded_through_its_latents():
    """Questions of different length and padding: each row's latents and answer are those of it alone, after the closing; and
    the answer reads the latents."""
    chosen = latent_policy()
    batch = sampled(chosen)
    found = chosen.log_probs(batch)
    frozen, embed = chosen.frozen, chosen.lm.get_input_embeddings()
    closing = embed(torch.tensor(frozen.closing))
    assert len(frozen.closing) == 2 and batch["latents"].shape == (12, 3, 192) and chosen.max_actions == 7
    assert batch["mask"].shape[1] == 3 + batch["tokens"].shape[1] and len(chosen.texts(batch)) == 12
    mean = chosen.think(batch["prompt"], batch["prompt_mask"])
    normals = torch.from_numpy(chosen.draws(np.random.default_rng(0), 3)["normals"])
    torch.testing.assert_close((batch["latents"] - mean) / chosen.std, normals, atol=1e-3, rtol=0)
    density = stats.norm.logpdf(batch["latents"].numpy(), mean.detach().numpy(), chosen.std).sum(-1)
    np.testing.assert_allclose(found[:, :3].detach().numpy(), density, rtol=1e-4)
    for row in (0, 5, 11):
        question = batch["prompt"][row][batch["prompt_mask"][row] == 1]
        mean = chosen.think(question[None], torch.ones_like(question)[None])[0]
        thought = gaussian_log_prob(batch["latents"][row], mean, chosen.std)
        torch.testing.assert_close(found[row, :3], thought, atol=1e-2, rtol=1e-4)
        length = int(batch["mask"][row, 3:].sum())
        answer = batch["tokens"][row, :length]
        inputs = torch.cat((embed(question), batch["latents"][row], closing, embed(answer)))[None]
        logits = chosen.lm(inputs_embeds=inputs).logits[0, len(question) + 4 : -1]
        torch.testing.assert_close(
            found[row, 3 : 3 + length], logits.log_softmax(-1)[range(length), answer], atol=2e-4, rtol=0
        )
    other = chosen.log_probs(batch | {"latents": batch["latents"].flip(1)})[:, 3:]
    assert (other - found[:, 3:]).abs().max() > 0.01
    found.sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in chosen.lm.parameters())
    assert chosen.reasoner.out.weight.grad.abs().max() > 0


def test_the_gradient_through_the_answer_is_that_of_finite_differences():
    """Latents are not actions then; the noise stays, and the latents move with the reasoner's output."""
    chosen = latent_policy()
    chosen.through = True
    batch = sampled(chosen)
    assert (batch["mask"][:, :3] == 0).all() and chosen.max_actions == 4
    weight = chosen.reasoner.out.weight

    def total():
        return (chosen.log_probs(batch) * batch["mask"]).sum()

    found = chosen.log_probs(batch)
    assert (found[:, :3] == 0).all()
    total().backward()
    direction = weight.grad / weight.grad.norm()
    with torch.no_grad():
        weight += 2e-3 * direction
        above = total()
        weight -= 4e-3 * direction
        slope = (above - total()) / 4e-3
    assert float(slope) == pytest.approx(float(weight.grad.norm()), rel=0.05)


def test_a_reasoner_that_is_not_drawn_answers_greedily():
    chosen = latent_policy(std=1e-6)
    chosen.temperature = 1e-4
    drawn, greedy = chosen.texts(sampled(chosen))[::4], chosen.greedy(ASKED)
    assert drawn == greedy.texts and greedy.tokens == [len(tokens_of(TOKENIZER, text)) for text in greedy.texts]
