"""A frozen language model in batches and with the cache, against the model itself, row by row."""

import copy
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from transformers import BertTokenizerFast

from trm.errors import UserError
from trm.language.lm import StateReader, load_lm
from trm.language.stories import problems, prompt
from trm.latent.frozen_lm import FrozenLM, chat_prompt, tokens_of

LM, TOKENIZER = load_lm()
ASKED = [next(problems("test", seed, steps, steps)) for seed, steps in enumerate((3, 1, 4, 2))]
IDS = [tokens_of(TOKENIZER, chat_prompt(TOKENIZER, one.question, True)) for one in ASKED]
CHAINS = [tokens_of(TOKENIZER, one.chain) for one in ASKED]
ANSWERS = [[12, 40, 2], [7, 2], [2], [300, 21, 22, 23, 2]]
WORDS = LM.get_input_embeddings().weight.detach()
CLOSE = {"atol": 2e-4, "rtol": 1e-4}


def frozen(anchor=" so ", layer=2, ending=";"):
    return FrozenLM(LM, TOKENIZER, layer, ending, anchor)


def some_latents():
    """(B, 3, D), about as long as embeddings."""
    return WORDS.std() * torch.randn(len(IDS), 3, WORDS.shape[1], generator=torch.Generator().manual_seed(0))


def uncached(row, latents, *more):
    """One pass of the model over a prompt, latents (n, D) and further tokens, nothing padded and nothing kept."""
    parts = [WORDS[IDS[row]], latents, *(WORDS[torch.tensor(ids, dtype=torch.long)] for ids in more)]
    return LM(inputs_embeds=torch.cat(parts)[None], use_cache=False, output_hidden_states=True)


@pytest.mark.parametrize("layer", [1, 2, -1])
def test_prompts_are_read_in_company_as_alone(layer):
    lm, reader = frozen(layer=layer), StateReader(LM, layer)
    found = lm.read_rows(IDS)
    assert len({len(ids) for ids in IDS}) == 4, "several lengths"
    for row, ids in enumerate(IDS):
        n, one = len(ids), torch.tensor([ids])
        states = reader.states(one, torch.ones_like(one))[0]
        logits = LM(input_ids=one, use_cache=False).logits[0, -1]
        alone = lm.read(one, torch.ones_like(one).bool())
        for read, place in ((found, row), (alone, 0)):
            torch.testing.assert_close(read.states[place, :n], states, **CLOSE)
            torch.testing.assert_close(read.last[place], states[-1], **CLOSE)
            torch.testing.assert_close(read.next[place], logits, **CLOSE)


def test_answers_after_latents_are_those_of_one_pass_without_padding():
    lm, latents = frozen(), some_latents()
    read, (given, _) = lm.read_rows(IDS), lm.padded(ANSWERS)
    logits, anchor = lm.after(read, latents, given)
    assert torch.equal(logits, lm.after(read, latents, given)[0]), "what was read serves more than once"
    assert len(lm.closing) > 2 and anchor.shape == (4, LM.config.num_hidden_layers, 192)
    for row, answer in enumerate(ANSWERS):
        out = uncached(row, latents[row], lm.closing, answer[:-1])
        torch.testing.assert_close(logits[row, : len(answer)], out.logits[0, -len(answer) :], **CLOSE)
        place = len(IDS[row]) + 3 + len(lm.closing) - 1
        expected = torch.stack([h[0, place] for h in out.hidden_states[1:]])
        torch.testing.assert_close(anchor[row], expected, **CLOSE)


def test_latents_are_read_and_gradients_reach_them_alone():
    lm = frozen()
    read, (given, mask) = lm.read_rows(IDS), lm.padded(ANSWERS)
    latents = some_latents().requires_grad_()
    said, _ = lm.after(read, latents, given)
    F.cross_entropy(said[mask], given[mask], reduction="sum").backward()
    assert latents.grad.isfinite().all() and (latents.grad.norm(dim=-1) > 0).all(), "each latent of each row"
    assert all(not p.requires_grad and p.grad is None for p in LM.parameters())
    for row, answer in enumerate(ANSWERS):
        alone = latents[row].detach().clone().requires_grad_()
        logits = uncached(row, alone, lm.closing, answer[:-1]).logits[0, -len(answer) :]
        F.cross_entropy(logits, torch.tensor(answer), reduction="sum").backward()
        torch.testing.assert_close(latents.grad[row], alone.grad, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("kind", ["noise", "totals"])
@torch.no_grad()
def test_decoding_with_the_cache_is_decoding_from_scratch(kind):
    totals = WORDS[torch.tensor([tokens_of(TOKENIZER, str(one.answer)) for one in ASKED])]  # (B, 1, D)
    latents = totals if kind == "totals" else some_latents()
    lm, end, pad = frozen(""), TOKENIZER.eos_token_id, TOKENIZER.pad_token_id
    read, rows = lm.read_rows(IDS), []
    for row in range(4):
        written = []
        while len(written) < 7 and end not in written:
            written.append(int(uncached(row, latents[row], lm.closing, written).logits[0, -1].argmax()))
        rows.append(written)
    longest = max(map(len, rows))
    assert lm.generate_greedy(read, latents, 7).tolist() == [row + [pad] * (longest - len(row)) for row in rows]
    assert lm.generate_greedy(read, latents, 1).tolist() == [row[:1] for row in rows], "and what was read serves again"


@torch.no_grad()
def test_decoding_after_the_prompts_alone_is_the_models_own_generation():
    lm, pad = frozen(), TOKENIZER.pad_token_id
    read = lm.read_rows(IDS)
    found = lm.generate_greedy(read, None, 40)
    assert ((found == TOKENIZER.eos_token_id).sum(1) == 1).all()
    assert len(set((found != pad).sum(1).tolist())) > 1, "texts of several lengths"
    longest = max(map(len, IDS))
    left = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in IDS])
    own = LM.generate(input_ids=left, attention_mask=(left != pad).long(), max_new_tokens=40, do_sample=False)
    assert torch.equal(found, own[:, longest:])
    assert torch.equal(lm.generate_greedy(read, None, 4), found[:, :4])


def test_anchors_are_where_a_chain_written_out_leads():
    lm = frozen()
    read = lm.read_rows(IDS)
    found, thought = lm.anchors(read, CHAINS), lm.anchors(read, CHAINS, closed=1)
    assert len({len(chain) for chain in CHAINS}) == 4 and lm.closing == [*tokens_of(TOKENIZER, ";"), *lm.end_of_chain]
    assert tokens_of(TOKENIZER, "</think>") == lm.end_of_chain[:1] and len(lm.end_of_chain) > 1
    none = torch.empty(0, 192)
    for row, chain in enumerate(CHAINS):
        for states, closing in ((found, lm.end_of_chain), (thought, lm.end_of_chain[:1])):
            with torch.no_grad():
                out = uncached(row, none, chain, closing)
            expected = torch.stack([h[0, -1] for h in out.hidden_states[1:]])
            torch.testing.assert_close(states[row], expected, **CLOSE)
    assert torch.equal(found, lm.anchors(read, CHAINS)), "and what was read serves again"


# --- prompts ------------------------------------------------------------------------------------------------------


def template(text):
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.chat_template = text
    return tokenizer


@pytest.mark.parametrize("thinking", [True, False])
def test_prompts_are_those_that_the_shipped_model_learned_from(thinking):
    for one in islice(problems("train", 5), 5):
        assert chat_prompt(TOKENIZER, one.question, thinking) == prompt(one, thinking)


def test_templates_of_other_models():
    """The think token is added once; a date is the same every day."""
    for end, expected in (("", "q<think>"), ("<think>", "q<think>"), ("<think>\n", "q<think>\n")):
        with_end = template("{{ messages[0].content }}{% if add_generation_prompt %}" + end + "{% endif %}")
        assert chat_prompt(with_end, "q", True) == expected
    assert chat_prompt(template("{{ messages[0].content }}"), "q", False) == "q"
    dated = template("{{ strftime_now('%d %B %Y') }}: {{ messages[0].content }}")
    assert chat_prompt(dated, "q", False) == "01 January 2025: q"


def test_models_and_tokenizers_that_cannot_think_are_refused(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", encoding="utf-8")
    other = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    other.chat_template = "{{ messages[0].content }}"
    faults = (
        (template(None), 2, "has no chat template"),
        (other, 2, "no token <think>"),
        (TOKENIZER, 9, "layer 9: .*1 to 4"),
    )
    for tokenizer, layer, message in faults:
        with pytest.raises(UserError, match=message):
            FrozenLM(LM, tokenizer, layer)


def test_greedy_answers_do_not_depend_on_which_token_pads_or_on_a_second_end():
    lm, tokenizer = load_lm()
    before = FrozenLM(lm, tokenizer, 2, ";")
    whole = before.generate_greedy(before.read_rows(IDS), None, 40)
    tokenizer.pad_token = tokenizer.eos_token
    same = FrozenLM(lm, tokenizer, 2, ";")
    again = same.generate_greedy(same.read_rows(IDS), None, 40)
    end, first = tokenizer.eos_token_id, []
    for row, other in zip(whole.tolist(), again.tolist()):
        first.append(row.index(end))
        assert other[: first[-1] + 1] == row[: first[-1] + 1] and set(other[first[-1] :]) == {end}
    lm.generation_config.eos_token_id = [end, tokens_of(tokenizer, "</think>")[0]]
    two = FrozenLM(lm, tokenizer, 2, ";")
    cut = two.generate_greedy(two.read_rows(IDS), None, 40)
    assert cut.shape[1] == max(first) - 1, "the answer, of one token, and its end are no longer written"
