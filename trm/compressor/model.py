r"""Compressors of hidden states: (B, T, D) -> compress -> (B, T, K) -> decompress -> (B, T, D), position by position.

tied        z = W x,         x^ = W' z         LLM-TRM's DimensionCompressor
affine      z = W (x - m),   x^ = W' z + m
linear      z = E (x - m),   x^ = D z + m      two matrices, as a metric other than the mean square requires
nonlinear   as linear, plus an MLP on either side whose output starts at zero
"""

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from trm.compressor.optimum import LogitMetric, SecondMoment
from trm.errors import UserError
from trm.protocol import StepOutput

KINDS = ("tied", "affine", "linear", "nonlinear")


class Compressor(nn.Module, PyTorchModelHubMixin):
    """A compressor of one of `KINDS` from D = hidden_size to K = d_compressed; config.json holds the arguments.

    expansion: inner width of the MLPs as a multiple of D.
    """

    def __init__(self, hidden_size: int, d_compressed: int, kind: str = "tied", expansion: float = 2.0):
        super().__init__()
        if kind not in KINDS:
            raise UserError(f"no compressor {kind!r}; there are {', '.join(KINDS)}")
        self.check_size(hidden_size, d_compressed)
        self.kind, self.d_compressed = kind, d_compressed
        self.encoder = nn.Parameter(torch.randn(d_compressed, hidden_size) * hidden_size**-0.5)  # (K, D)
        self.bias = None if kind == "tied" else nn.Parameter(torch.zeros(hidden_size))
        self.own_decoder = None  # (D, K)
        if kind in ("linear", "nonlinear"):
            self.own_decoder = nn.Parameter(self.encoder.detach().T.clone())
        if kind == "nonlinear":
            inner = int(expansion * hidden_size)
            self.before, self.after = _mlp(hidden_size, inner, d_compressed), _mlp(d_compressed, inner, hidden_size)
        self.read_states: Callable[[Tensor, Tensor], Tensor] | None = None  # for batches without states
        self.lm_head: Callable[[Tensor], Tensor] | None = None  # states -> logits: to train on the KL of the outputs

    @staticmethod
    def check_size(hidden_size: int, d_compressed: int) -> None:
        """Raise UserError unless 1 <= K <= D."""
        if not 1 <= d_compressed <= hidden_size:
            raise UserError(f"d_compressed {d_compressed} is not between 1 and the size of the states, {hidden_size}")

    def compress(self, states: Tensor) -> Tensor:
        """(..., D) -> (..., K)."""
        x = states if self.bias is None else states - self.bias
        z = x @ self.encoder.T
        return z + self.before(x) if self.kind == "nonlinear" else z

    def decompress(self, z: Tensor) -> Tensor:
        """(..., K) -> (..., D)."""
        x = z @ (self.encoder if self.own_decoder is None else self.own_decoder.T)
        x = x + self.after(z) if self.kind == "nonlinear" else x
        return x if self.bias is None else x + self.bias

    def forward(self, batch, state: None = None, detail: bool = False):
        """Reconstructed states (..., D) of states (..., D); of a batch (a dict), its loss."""
        if isinstance(batch, dict):
            return self.loss(batch, state, detail)
        return self.decompress(self.compress(batch))

    def loss(self, batch: dict[str, Tensor], state: None = None, detail: bool = False) -> StepOutput:
        """Mean squared error per element; where `lm_head` is set, KL(p(x) || p(x^)) of its outputs per position, in nats.

        batch: mask (B, T); positions (B,), whose sum divides the loss, so that the mean over processes is that over positions;
        states (B, T, D), or input_ids and attention (B, T), from which `read_states` computes them.
        """
        states = batch["states"] if "states" in batch else self.read_states(batch["input_ids"], batch["attention"])
        states = states[batch["mask"]].float()  # (N, D)
        back, count = self(states), batch["positions"].sum()
        mse = F.mse_loss(back, states, reduction="sum") / (count * states.shape[1])
        metrics, loss = {"mse": mse.detach()}, mse
        if self.lm_head is not None:
            with torch.no_grad():
                target = self.lm_head(states).float().log_softmax(-1)
            output = self.lm_head(back).float().log_softmax(-1)
            loss = F.kl_div(output, target, log_target=True, reduction="sum") / count
            metrics["kl"] = loss.detach()
        return StepOutput(loss, None, metrics | {"total_loss": loss.detach()})

    @torch.no_grad()
    def set_optimum(self, moment: SecondMoment, metric: LogitMetric | None = None) -> Self:
        """Set the linear optimum for the states in `moment`: of the mean square, or, with `metric`, of the output
        distribution (only for kinds with two matrices)."""
        if metric is not None:
            encoder, decoder = metric.best(moment.matrix(centred=True), self.d_compressed)
        else:
            encoder = moment.eigen(centred=self.kind != "tied")[1][: self.d_compressed]
            decoder = encoder.T
        self.encoder.copy_(encoder)
        if self.own_decoder is not None:
            self.own_decoder.copy_(decoder)
        if self.bias is not None:
            self.bias.copy_(moment.mean)
        return self


def _mlp(size: int, inner: int, out: int) -> nn.Sequential:
    """One hidden layer, with an output of zero at first."""
    layers = nn.Sequential(nn.Linear(size, inner), nn.GELU(), nn.Linear(inner, out))
    nn.init.zeros_(layers[2].weight)
    nn.init.zeros_(layers[2].bias)
    return layers
