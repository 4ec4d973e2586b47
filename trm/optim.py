"""Update rules, learning rates, and the exponential moving average of the weights.

Tables of embeddings with sparse gradients (`nn.Embedding(sparse=True)`), such as a vector for each of 100,000s of puzzles, are
learned apart: by sign-SGD, in the rows of the batch alone. They have no moments, no average and no share in clipping.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from accelerate.utils import gather
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from trm.training_params import Training

FUSED = ("cpu", "cuda")  # device types with a fused AdamW; elsewhere its step counter lives on the device


class _WithMoments(Optimizer):
    """What the optimizers below share: a step counter and two moments of each tensor, and the loop over the tensors, whose
    update is their `_update(tensor, its state, its group)`."""

    @torch.no_grad()
    def step(self, closure=None):
        """One update; `closure`, if given, computes the loss again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["step"] = torch.zeros((), device=p.device if group["capturable"] else "cpu")
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
                state["step"] += 1
                state["exp_avg"].lerp_(p.grad, 1 - group["betas"][0])
                self._update(p, state, group)
        return loss


class AdamATan2(_WithMoments):
    r"""Adam with atan2 in place of a division and its epsilon (arXiv 2407.05872), as in the kernel that HRM and TRM install:

    $p \leftarrow (1 - \mathrm{lr} \cdot \mathrm{weight\_decay})\, p$, then $p \leftarrow p - \frac{\mathrm{lr}}{1 - \beta_1^t}
    \operatorname{atan2}(m, \sqrt{v / (1 - \beta_2^t)})$. The paper corrects m inside of atan2, and multiplies by 1.27.
    `capturable` is torch's word for a step counter on the device.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 1.0,
        capturable: bool = False,
    ):
        defaults = dict(lr=lr, betas=betas, weight_decay=weight_decay, capturable=capturable)
        super().__init__(params, defaults)

    def _update(self, p: Tensor, state: dict[str, Tensor], group: dict) -> None:
        beta1, beta2 = group["betas"]
        state["exp_avg_sq"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
        step = state["step"] if group["capturable"] else state["step"].item()  # never waits for the device
        root_v = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt_()
        p.mul_(1 - group["lr"] * group["weight_decay"])
        update, size = torch.atan2(state["exp_avg"], root_v), group["lr"] / (1 - beta1**step)
        if isinstance(size, Tensor):
            p.sub_(update * size)
        else:
            p.sub_(update, alpha=size)


class SOAP(_WithMoments):
    r"""Adam in the eigenbasis of Shampoo's preconditioner (arXiv 2409.11321, algorithm 3).

    For a matrix W (m, n) with gradient G, averages of $G G^\top$ (m, m) and $G^\top G$ (n, n) are kept, and Adam's update is
    computed in their eigenbases Q_rows and Q_cols: of $Q_{rows}^\top G Q_{cols}$, turned back. The bases are refreshed every
    `frequency` steps by one step of the power iteration and a QR decomposition. Tensors that are not matrices, and those with
    a side larger than `max_side`, take Adam's own update. Of the original, the first step is not skipped here, and the
    averages decay with beta2 as the second moments do.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.1,
        frequency: int = 5,
        max_side: int = 1024,
        eps: float = 1e-8,
    ):
        options = dict(lr=lr, betas=betas, weight_decay=weight_decay, frequency=frequency, max_side=max_side, eps=eps)
        super().__init__(params, options | {"capturable": False})

    def _update(self, p: Tensor, state: dict[str, Tensor], group: dict) -> None:
        (beta1, beta2), step, grad = group["betas"], int(state["step"]), p.grad
        turned = grad.dim() == 2 and min(grad.shape) > 1 and max(grad.shape) <= group["max_side"]
        if not turned:
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.sub_(_adam(state, grad, state["exp_avg"], group), alpha=group["lr"] / (1 - beta1**step))
            return
        squares = {"rows": grad @ grad.mT, "cols": grad.mT @ grad}
        if step == 1:
            for name, square in squares.items():
                state[name], state[f"{name}_basis"] = square.clone(), torch.linalg.eigh(square)[1].contiguous()
        update = _adam(state, _turn(state, grad), _turn(state, state["exp_avg"]), group)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(state["rows_basis"] @ update @ state["cols_basis"].mT, alpha=group["lr"] / (1 - beta1**step))
        for name, square in squares.items():
            state[name].lerp_(square, 1 - beta2)
        if step % group["frequency"] == 0:
            _refresh_bases(state)


def _adam(state: dict[str, Tensor], grad: Tensor, average: Tensor, group: dict) -> Tensor:
    """Adam's update, without the rate and the correction of `average`; `grad` enters the second moments."""
    beta2 = group["betas"][1]
    square = state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    return average / (square / (1 - beta2 ** int(state["step"]))).sqrt_().add_(group["eps"])


def _turn(state: dict[str, Tensor], x: Tensor) -> Tensor:
    return state["rows_basis"].mT @ x @ state["cols_basis"]


def _refresh_bases(state: dict[str, Tensor]) -> None:
    """A step of the power iteration for both bases, their vectors ordered by eigenvalue; the second moments move along."""
    for axis, name in enumerate(("rows", "cols")):
        product = state[name] @ state[f"{name}_basis"]
        order = (state[f"{name}_basis"] * product).sum(0).argsort(descending=True)
        state["exp_avg_sq"] = state["exp_avg_sq"].index_select(axis, order)
        state[f"{name}_basis"] = torch.linalg.qr(product[:, order])[0].contiguous()


def sparse_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The tables of embeddings whose gradients are sparse, by the names that `named_parameters` gives them."""
    found = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse}
    return {name: p for name, p in model.named_parameters() if id(p) in found}


def dense_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """All other parameters, by name."""
    sparse = sparse_weights(model)
    return {name: p for name, p in model.named_parameters() if name not in sparse}


def make_optimizer(model: nn.Module, params: Training) -> Optimizer:
    """The optimizer that `params.optimizer` names, at the peak rate. Where the model has tables with sparse gradients they are
    its last group, which `sign_sgd_rows` updates with the rate `params.puzzle_lr`; it keeps no state."""
    dense, sparse = (list(weights(model).values()) for weights in (dense_weights, sparse_weights))
    fused = all(p.device.type in FUSED for p in dense)
    options = dict(
        lr=params.lr, betas=(params.beta1, params.beta2), weight_decay=params.weight_decay, capturable=not fused
    )
    if params.optimizer == "soap":
        optimizer = SOAP(dense, params.lr, (params.beta1, params.beta2), params.weight_decay)
    elif params.optimizer == "adam_atan2":
        optimizer = AdamATan2(dense, **options)
    else:
        optimizer = AdamW(dense, **options, fused=fused)
    if sparse:
        ratio = params.puzzle_lr / params.lr
        group = {"lr": params.puzzle_lr, "lr_ratio": ratio, "weight_decay": params.puzzle_weight_decay}
        optimizer.add_param_group({"params": sparse} | group)
        optimizer.register_step_pre_hook(sign_sgd_rows)
    return optimizer


@torch.no_grad()
def sign_sgd_rows(optimizer: Optimizer, *_) -> None:
    r"""Update the tables in the last group of `optimizer`, each in the rows that its sparse gradient names, and take the
    gradient away, so that the optimizer's own rule passes them over:

    $p_i \leftarrow (1 - \mathrm{lr} \cdot \mathrm{weight\_decay})\, p_i - \mathrm{lr} \cdot \operatorname{sign}(g_i)$, with
    $g_i$ the sum over all occurrences of row i in the batch of all processes (the rule of HRM and TRM for puzzle embeddings).
    """
    if getattr(optimizer, "found_inf", 0):  # a fused optimizer is called in float16 also for steps that it then skips
        return
    group = optimizer.param_groups[-1]
    for p in group["params"]:
        if p.grad is not None:
            rows, values = gather(p.grad._indices()[0]), gather(p.grad._values())  # one per example, before any sum
            grad = torch.sparse_coo_tensor(rows[None], values, p.shape, check_invariants=False).coalesce()
            kept = p[grad.indices()[0]] * (1 - group["lr"] * group["weight_decay"])
            p[grad.indices()[0]] = kept - group["lr"] * grad.values().sign()
            p.grad = None


def learning_rate(params: Training, step: int) -> float:
    """The rate of step `step` (from 0): linear warm-up, then constant or a cosine down to lr * lr_min_ratio.

    Not torch's LambdaLR: it writes a plain number into the optimizer, which on XLA compiles a new program every step, and
    keeps a counter that a resumed run would have to restore.
    """
    if step < params.warmup_steps:
        return params.lr * (step + 1) / params.warmup_steps
    if params.lr_schedule == "constant":
        return params.lr
    progress = (step - params.warmup_steps) / max(params.max_steps - params.warmup_steps, 1)
    wave = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return params.lr * (params.lr_min_ratio + (1 - params.lr_min_ratio) * wave)


class EMA:
    """shadow <- d shadow + (1 - d) weights after every step, d = min(decay, (1 + n) / (10 + n)) at update n.

    The smaller d at first keeps a short run from averaging in its random start. decay 0 switches averaging off.
    Tables with sparse gradients are used as they are, as in the original, whose average leaves puzzle embeddings out.
    Not torch's AveragedModel: it reads its counter back from the device in every step, and keeps a second module.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.model = model
        self.weights = dense_weights(model) if decay else {}
        self.shadow = {name: p.detach().clone() for name, p in self.weights.items()}

    def next_weight(self) -> float:
        """1 - d of the next update."""
        n = self.updates + 1
        return 1 - min(self.decay, (1 + n) / (10 + n))

    @torch.no_grad()
    def update(self, weight: float | Tensor | None = None) -> None:
        """Average in the model's present weights; `weight` is `next_weight` where it must lie on the device."""
        weight = self.next_weight() if weight is None else weight
        self.updates += 1
        if isinstance(weight, Tensor):
            for shadow, p in zip(self.shadow.values(), self.weights.values()):
                shadow.lerp_(p, weight)
        elif self.shadow:
            torch._foreach_lerp_(list(self.shadow.values()), list(self.weights.values()), weight)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """The model with the averaged weights for the length of a `with` block, in evaluation mode."""
        training = self.model.training
        kept = {name: p.data for name, p in self.weights.items()}
        for name, p in self.weights.items():
            p.data = self.shadow[name]
        try:
            yield self.model.eval()
        finally:
            for name, p in self.weights.items():
                p.data = kept[name]
            self.model.train(training)
