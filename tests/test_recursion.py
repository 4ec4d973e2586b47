"""The recursion, written out by hand."""

import pytest
import torch

from trm.recursion import checkpointed, recurse


def net_and_inputs():
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 4).double()
    x, z_H, z_L = (torch.randn(2, 3, 4, dtype=torch.float64) for _ in range(3))
    return layer, (lambda z: torch.tanh(layer(z))), x, z_H, z_L


def test_the_recursion_written_out():
    _, f, x, z_H, z_L = net_and_inputs()
    a = f(z_L + z_H + x)
    a = f(a + z_H + x)
    h = f(z_H + a)
    b = f(a + h + x)
    b = f(b + h + x)
    answers, last = recurse(f, x, z_H, z_L, H_cycles=2, L_cycles=2, backprop="full")
    for got, expected in zip([*answers, last], [h, f(h + b), b]):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("backprop", ["last", "per_cycle", "full"])
def test_values_do_not_depend_on_backprop_and_gradients_do(backprop):
    layer, f, x, z_H, z_L = net_and_inputs()
    answers, _ = recurse(f, x, z_H, z_L, 2, 2, backprop)
    (gradient,) = torch.autograd.grad(answers[-1].sum(), layer.weight, retain_graph=True)

    with torch.set_grad_enabled(backprop == "full"):  # the first cycle by hand, with or without gradient
        first, latent = recurse(f, x, z_H, z_L, 1, 2, "full")
    (expected,) = torch.autograd.grad(recurse(f, x, first[0], latent, 1, 2, "full")[0][0].sum(), layer.weight)
    torch.testing.assert_close(gradient, expected)
    assert answers[0].requires_grad == (backprop != "last")


def test_gradient_through_everything_against_finite_differences():
    _, f, x, z_H, z_L = net_and_inputs()
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: recurse(f, q, z_H, z_L, 2, 2, "full")[0][-1], (x,))


def test_activation_checkpointing_changes_no_number():
    layer, f, x, z_H, z_L = net_and_inputs()
    gradients = []
    for net in (f, checkpointed(f)):
        answers, _ = recurse(net, x, z_H, z_L, 2, 2, "full")
        gradients.append(torch.autograd.grad(sum(a.sum() for a in answers), layer.weight)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
