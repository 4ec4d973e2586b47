"""The latent reasoner: what the latents look at, against attention written out; batches; gradients; saving."""

import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from trm.checkpoint import PRETRAINED as SHIPPED
from trm.errors import UserError
from trm.latent.reasoner import LatentReasoner, Pause, ReasonerConfig, load_reasoner

SMALL = {
    "lm_size": 12, "d_compressed": 6, "num_latents": 3, "seq_len": 24, "hidden_size": 16, "num_layers": 2,
    "num_heads": 2, "H_cycles": 3, "L_cycles": 2, "num_words": 5,
}  # fmt: skip
IDS = torch.tensor([1, 4, 5, 8, 10])  # of the words
EMBEDDINGS = 3 * torch.randn(11, 12, generator=torch.Generator().manual_seed(9))


def make(kind=LatentReasoner, **options):
    torch.manual_seed(0)
    model = kind(ReasonerConfig(**SMALL | options)).eval()
    model.begin(IDS, EMBEDDINGS)
    return model


def prompts(lengths=(5, 9, 1), size=6):
    """States (B, T, size) of prompts, and their mask; what stands in the pads is not zero."""
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return torch.randn(*mask.shape, size, generator=torch.Generator().manual_seed(1)), mask


# --- the same in float64, one row, one head and one position at a time --------------------------------------------


def turned(x, position, theta):
    """A head's vector at a position: its halves are the parts of complex numbers, each turned by an angle."""
    half = len(x) // 2
    angles = position * torch.tensor([theta ** (-i / half) for i in range(half)], dtype=torch.float64)
    z = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((z.real, z.imag))


def attended(attention, z, x, theta=10000.0):
    """Latents z (n, D) at 0 to n - 1 look at each other and at tokens x (T, D), of which the j-th stands at n + j."""
    weight, out = attention.qkv_proj.weight.detach().double(), []
    wq, wk, wv = weight.chunk(3)
    everything = torch.cat((z, x))
    for i, one in enumerate(z):
        heads = []
        for q, k, v in zip(*(w.chunk(attention.num_heads) for w in (wq, wk, wv))):
            query = turned(q @ one, i, theta)
            scores = [float(query @ turned(k @ other, j, theta)) for j, other in enumerate(everything)]
            share = torch.tensor(scores, dtype=torch.float64).div(math.sqrt(len(query))).softmax(0)
            heads.append(sum(s * (v @ other) for s, other in zip(share, everything)))
        out.append(attention.o_proj.weight.detach().double() @ torch.cat(heads))
    return torch.stack(out)


def normed(x, eps):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def thought_by_hand(model, states):
    """All thoughts about one prompt without pads, states (T, K)."""
    c, D = model.config, model.config.hidden_size
    x = normed(states.double() @ model.project.weight.detach().double().T, torch.finfo(torch.float32).eps)
    places = model.places.detach().double()

    def net(z):
        for block in model.blocks:
            z = normed(z + attended(block.mixer, z, x), c.norm_eps)
            gate, up = (z @ block.mlp.gate_up_proj.weight.detach().double().T).chunk(2, -1)
            z = normed(z + (gate * gate.sigmoid() * up) @ block.mlp.down_proj.weight.detach().double().T, c.norm_eps)
        return z

    z_H, z_L, found = model.H_init.double().expand(3, D), model.L_init.double().expand(3, D), []
    for _ in range(c.H_cycles):
        for _ in range(c.L_cycles):
            z_L = net(z_L + z_H + places)
        z_H = net(z_H + z_L)
        found.append(z_H)
    return found


@pytest.mark.parametrize("options", [{}, {"H_cycles": 2, "num_layers": 1, "L_cycles": 1}], ids=str)
def test_thoughts_are_those_of_the_recursion_written_out(options):
    """Two layers with a context each; prompts of several lengths, whose padding changes nothing."""
    model, (states, mask) = make(**options), prompts()
    with torch.no_grad():
        found = model.think(states, mask)
    assert len(found) == model.config.H_cycles
    for row, length in enumerate(mask.sum(1)):
        for z, expected in zip(found, thought_by_hand(model, states[row, :length]), strict=True):
            torch.testing.assert_close(z[row].double(), expected, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_what_is_written_is_a_mixture_of_words_each_by_how_near_it_is():
    model, (states, mask) = make(sharpness=7.0), prompts()
    model.writes.bias.normal_()
    thought = model.think(states, mask)[-1]
    logits, latents = model.logits(thought), model.latents(thought)
    assert thought.shape == (3, 3, 16) and logits.shape == (3, 3, 4, 5) and latents.shape == (3, 3, 12)
    assert torch.equal(latents, model.latents(thought, logits))
    for row in range(3):
        for i in range(3):
            wanted = (thought[row, i] @ model.out.weight.T).view(4, 6) @ model.writes.encoder + model.writes.bias
            near = torch.stack([7 * F.cosine_similarity(wanted, EMBEDDINGS[j], dim=-1) for j in IDS], -1)  # (4, 5)
            torch.testing.assert_close(logits[row, i], near, atol=1e-4, rtol=1e-4)
            shares = near[0].exp() / near[0].exp().sum()
            expected = sum(share * EMBEDDINGS[j] for share, j in zip(shares, IDS))
            torch.testing.assert_close(latents[row, i], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [LatentReasoner, Pause])
def test_labels_are_places_among_the_words(kind):
    model = make(kind)
    given = torch.tensor([[1, 10, 5], [0, 4, 99], [-100, 9, 8]])
    assert model.labels(given).tolist() == [[0, 4, 2], [-100, 1, -100], [-100, -100, 3]]
    assert torch.equal(model.ids, IDS) and torch.equal(model.words, EMBEDDINGS[IDS])


@pytest.mark.parametrize("backprop", ["last", "per_cycle", "full"])
def test_gradients_reach_all_but_the_compressors(backprop):
    model, (states, mask) = make(backprop=backprop), prompts()
    thoughts = model.think(states, mask)
    said = torch.stack([model.logits(z) for z in thoughts])
    (said * torch.randn_like(said)).sum().backward()
    for name, parameter in model.named_parameters():
        if name.startswith(("reads.", "writes.")):
            assert not parameter.requires_grad and parameter.grad is None, name
        else:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@pytest.mark.parametrize("kind", [LatentReasoner, Pause])
@torch.no_grad()
def test_what_is_saved_comes_back(kind, tmp_path):
    model, (states, mask) = make(kind, notes=2), prompts()
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    again = load_reasoner(tmp_path, 12, pause=kind is Pause)
    assert type(again) is kind and again.config == model.config and not again.training
    assert model.state_dict().keys() == again.state_dict().keys()
    for a, b in zip(model.think(states, mask), again.think(states, mask), strict=True):
        assert torch.equal(model.latents(a), again.latents(b))
    if kind is LatentReasoner:
        assert not again.reads.encoder.requires_grad


def test_folders_that_hold_none_or_another_are_refused(tmp_path):
    """What a file lacks must not be left at random."""

    def refused(folder, pause=False, lm_size=12, message="no latent reasoner: .* holds no model"):
        with pytest.raises(UserError, match=message):
            load_reasoner(folder, lm_size, pause)

    refused("no/where", message="no latent reasoner: .*no/where: no such folder")
    for folder in (tmp_path, SHIPPED / "sudoku_6x6", SHIPPED / "reasoning_lm"):
        refused(folder)
    make(Pause).save_pretrained(tmp_path)
    refused(tmp_path)
    make().save_pretrained(tmp_path)
    refused(tmp_path, pause=True)
    refused(tmp_path, lm_size=13, message="for a language model of width 12, and this one has 13")
    weights = load_file(tmp_path / "model.safetensors")
    del weights["project.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    refused(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not at all")
    refused(tmp_path)


def test_a_prompt_that_is_too_long_is_refused():
    model = make()
    assert len(model.think(*prompts((21, 4)))) == 3
    with pytest.raises(UserError, match="22 tokens and 3 latents exceed seq_len 24"):
        model.think(*prompts((22, 4)))


def test_a_pause_says_the_same_whatever_is_asked():
    model, (states, mask) = make(Pause), prompts()
    (thought,) = model.think(states, mask)
    said = model.latents(thought)
    assert said.shape == (3, 3, 12) and torch.equal(said[0], said[1]) and torch.equal(said[0], said[2])
    ratio = said[0].detach().norm(dim=-1) / EMBEDDINGS[IDS].norm(dim=-1).square().mean().sqrt()
    assert (ratio > 0.3).all() and (ratio < 2).all(), "as long as words, about"
    said.sum().backward()
    assert torch.equal(model.vectors.grad, torch.full_like(model.vectors, 3.0)), "one gradient a prompt"
