"""Layers against independent computations."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from trm.layers import (
    Attention,
    Block,
    HouseBlock,
    SwiGLU,
    inner_width,
    residual_norm,
    rotary_table,
    rotate,
    truncated_normal_,
)


def test_residual_norm_is_rms_norm_of_the_sum_with_its_gradient():
    x, y = (torch.randn(3, 4, 10, requires_grad=True) for _ in range(2))
    z = (x + y).detach().requires_grad_()
    expected = F.rms_norm(z, (10,), eps=1e-5)
    torch.testing.assert_close(residual_norm(x, y), expected)
    g = torch.randn_like(z)
    residual_norm(x, y).backward(g)
    expected.backward(g)
    torch.testing.assert_close(x.grad, z.grad)
    torch.testing.assert_close(y.grad, z.grad)


def test_residual_norm_against_finite_differences():
    x, y = (torch.randn(2, 7, requires_grad=True, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: residual_norm(a, b), (x, y), eps=1e-3, atol=1e-2, rtol=1e-2)


def test_swiglu_by_hand():
    layer = SwiGLU(4, 6)
    x = torch.randn(2, 4)
    w, v = layer.gate_up_proj.weight[:6], layer.gate_up_proj.weight[6:]
    a, b = x @ w.T, x @ v.T
    torch.testing.assert_close(layer(x), (a / (1 + torch.exp(-a)) * b) @ layer.down_proj.weight.T)


def test_rotary_positions_are_complex_rotations_and_relative():
    cos, sin = rotary_table(12, 8)
    x = torch.randn(1, 1, 12, 8)
    z = torch.complex(x[..., :4], x[..., 4:])
    angle = torch.outer(torch.arange(12.0), 10000.0 ** (-torch.arange(4.0) / 4))
    expected = z * torch.polar(torch.ones_like(angle), angle)
    got = rotate(x, cos, sin)
    torch.testing.assert_close(got, torch.cat((expected.real, expected.imag), -1))
    q, k = (torch.randn(8).expand(1, 1, 12, 8) for _ in range(2))
    scores = rotate(q, cos, sin)[0, 0] @ rotate(k, cos, sin)[0, 0].T
    torch.testing.assert_close(scores[3, 1], scores[9, 7])


def test_attention_by_hand():
    layer = Attention(8, 2, seq_len=5)
    x = torch.randn(1, 5, 8)
    qkv = (x @ layer.qkv_proj.weight.T)[0].view(5, 3, 2, 4)
    cos, sin = rotary_table(5, 4)
    out = []
    for head in range(2):
        q, k = (rotate(qkv[:, i, head][None, None], cos, sin)[0, 0] for i in (0, 1))
        out.append(torch.softmax(q @ k.T / math.sqrt(4), -1) @ qkv[:, 2, head])
    torch.testing.assert_close(layer(x)[0], torch.cat(out, -1) @ layer.o_proj.weight.T)


def test_attention_block_is_causal_when_asked():
    layer = Attention(8, 2, seq_len=6, causal=True)
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] += 1
    torch.testing.assert_close(layer(x)[:, :4], layer(changed)[:, :4])


def test_inner_widths_of_the_paper():
    assert inner_width(512, 4, 256) == 1536
    assert inner_width(97, 4, 256) == 512
    assert inner_width(81, 4, 256) == 256


def test_truncated_normal_has_the_deviation_asked_for():
    torch.manual_seed(0)
    x = truncated_normal_(torch.empty(400_000), 0.5)
    assert abs(x.std().item() - 0.5) < 0.004
    assert x.abs().max() < 2 * 0.5 / 0.8796 + 1e-3  # cut at two deviations of the wider normal


def test_block_mixes_positions_and_keeps_shapes():
    for mixer in ("mlp", "attention"):
        block = Block(8, 5, mixer, 2.0, 4, 2)
        x = torch.randn(2, 5, 8)
        changed = x.clone()
        changed[:, 0] += 1
        assert block(x).shape == x.shape
        assert (block(x)[:, 4] != block(changed)[:, 4]).any()
        rms = block(x).detach().square().mean(-1).sqrt().numpy()
        np.testing.assert_allclose(rms, 1, rtol=1e-3)


def test_house_block_against_loops_over_cells_and_symbols():
    torch.manual_seed(0)
    block = HouseBlock(4, (2, 3), 2.0, 1).double()  # 6x6
    x = torch.randn(2, 36, 6, 4, dtype=torch.float64)
    weights = block.gate_up_proj.weight.view(-1, 11, 4)
    expected = torch.empty_like(x)
    for cell in range(36):
        row, col = divmod(cell, 6)
        houses = {
            "row": [c for c in range(36) if c // 6 == row],
            "column": [c for c in range(36) if c % 6 == col],
            "box": [c for c in range(36) if (c // 6 // 2, c % 6 // 3) == (row // 2, col // 3)],
        }
        assert all(len(cells) == 6 for cells in houses.values())
        common = [[c for c in houses["box"] if c in houses[name]] for name in ("row", "column")]
        assert [len(cells) for cells in common] == [3, 2]
        for symbol in range(6):
            z = x[:, cell, symbol]
            among = [*(x[:, cells, symbol] for cells in houses.values()), x[:, cell]]
            seen = [z, *(f(v) for v in among for f in (lambda v: v.mean(1), lambda v: v.max(1).values))]
            seen += [x[:, cells, symbol].mean(1) for cells in common]
            gate, up = sum(v @ weights[:, i].T for i, v in enumerate(seen)).chunk(2, -1)
            out = z + block.down_proj(torch.nn.functional.silu(gate) * up)
            expected[:, cell, symbol] = out / (out.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(block(x.flatten(2)), expected.flatten(2))
