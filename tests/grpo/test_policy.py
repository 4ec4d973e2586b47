"""Policies: samples follow the stated probabilities; shared questions change nothing."""

import copy
from itertools import islice

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import BertTokenizerFast

from trm.errors import UserError
from trm.grpo.policy import LatentPolicy, TokenPolicy, gaussian_log_prob
from trm.grpo.train import EARLY_LM
from trm.language.lm import generate_greedy, load_lm
from trm.language.stories import problems, prompt
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
