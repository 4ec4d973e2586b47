"""A TRM that takes all its supervision steps before it learns from any: differentiable halting.

The paper updates the weights after every step, and its halting head learns whether the answer is correct. Here one update
sees the losses L_t and halting logits h_t of all `halt_max_steps` steps, so that the gradient can weigh stopping against
going on. Between the steps the state is detached, as in the paper.

    total_loss = every_step_weight * (mean of the L_t by `step_schedule`) + act_weight * halting loss

Halting losses (`trm.halting`): act, the expected loss and `ponder_coef` times the expected steps; ponder, the expected loss
and `ponder_coef` times the divergence from a geometric prior; graves, the loss of one answer read from the average of the
states, and `ponder_coef` times N + R. Without the first term the steps that p_t leaves out would learn nothing.
"""

from dataclasses import replace

import torch
from torch import Tensor

from trm import halting, supervision
from trm.losses import exactly_right, sequence_loss
from trm.model import TRM, TRMConfig, TRMState
from trm.protocol import StepOutput


def make_trm(config: TRMConfig, seed: int) -> TRM:
    """The TRM of a configuration, whose way of halting decides the class; its initial weights depend on `seed` alone."""
    torch.manual_seed(seed)
    return (UnrolledTRM if config.halting in halting.UNROLLED else TRM)(config)


class UnrolledTRM(TRM):
    """A TRM whose loss is over all supervision steps; weights, files and use are those of `TRM`."""

    def __init__(self, config: TRMConfig | dict):
        super().__init__(config)
        if self.config.halting_bias is None:
            halting.init_halting_head(self.q_head, self.config.halt_max_steps)  # so that every step has a gradient

    def loss(self, batch: dict[str, Tensor], state: TRMState | None = None, detail: bool = False) -> StepOutput:
        """All supervision steps on a batch of new questions, and the loss above; arguments as for `TRM.loss`.

        The state that comes back only counts the training steps: every batch begins anew.
        """
        c = self.config
        state = self.refill(self.initial_state(len(batch["inputs"])) if state is None else state, batch)
        x = self.embed_question(state.inputs, state.puzzle_ids, state.noise)
        z_H, z_L = state.z_H, state.z_L
        losses, halt_logits, states, rights, by_cycle = [], [], [], [], []
        for _ in range(c.halt_max_steps):
            answers, z_L = self.think(x, z_H.detach(), z_L.detach(), self.depth(state.train_step))
            z_H = answers[-1]
            logits = self.output_logits(z_H)
            of_cycles, loss = self._supervised(answers, logits, state, detail)
            losses.append(loss)
            halt_logits.append(self.q_logits(z_H)[0])
            states.append(z_H)
            rights.append(exactly_right(logits.detach().argmax(-1), state.labels).float())
            by_cycle.append(of_cycles)
        if detail:
            for answer in answers:
                if answer.requires_grad:
                    answer.retain_grad()
        losses, halt_logits = torch.stack(losses, 1), torch.stack(halt_logits, 1)  # (B, S) each

        supervised = supervision.weighted_step_loss(losses, self.step_weights).mean()
        if c.halting == "graves":
            weights, cost = halting.graves_weights(halt_logits)
            logits = self.output_logits(halting.weighted_states(torch.stack(states, 1), weights))
            act = sequence_loss(logits, state.labels, c.loss_type) + c.ponder_coef * cost
            steps = cost.ceil() - 1  # N, of N + R with R in (0, 1]
            right = exactly_right(logits.detach().argmax(-1), state.labels).float()
        else:
            probs = halting.log_halt_probs(halt_logits).exp().detach()  # (B, S)
            right = (probs * torch.stack(rights, 1)).sum(1)
            steps = halting.expected_steps(halt_logits)
            act = halting.expected_loss(losses, halt_logits)  # before the cost: in this order gradients are summed
            cost = steps if c.halting == "act" else halting.ponder_kl(halt_logits, c.ponder_prior)
            act = act + c.ponder_coef * cost
        act = c.act_weight * act.mean()
        total = c.every_step_weight * supervised + act

        predictions = logits.detach().argmax(-1)  # (B, T)
        cycle_losses = {i: torch.stack([cycles[i] for cycles in by_cycle]) for i in by_cycle[-1]}
        parts = {"total_loss": total, "supervised_loss": supervised, "act_loss": act}
        halted = {"exact_accuracy": right.mean(), "mean_steps": steps.mean()}
        metrics = self._metrics(state, cycle_losses, **parts, **halted)
        new_state = replace(state, halted=torch.ones_like(state.halted), train_step=state.train_step + 1)
        return StepOutput(total, new_state, metrics, predictions, answers if detail else [])

    forward = loss

    def answer_state(self, z_H: Tensor, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As in `TRM`; Graves's average reads what the states so far weigh, and the present one with the remainder."""
        if self.config.halting != "graves":
            return super().answer_state(z_H, memory)
        average, mass = memory or (torch.zeros_like(z_H), torch.zeros(len(z_H), device=z_H.device))
        p = self.q_logits(z_H)[0].sigmoid()
        p = torch.where(mass + p >= 1 - halting.GRAVES_EPSILON, 1 - mass, p)  # step N takes the remainder, then nothing
        answer = average + (1 - mass).view(-1, 1, 1) * z_H
        return answer, (average + p.view(-1, 1, 1) * z_H, mass + p)
