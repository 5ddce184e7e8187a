"""An epoch of training steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim import Optimizer

from vpt.capture import Graphs, Recorder, UncapturableError, tell_failed, why_hooked
from vpt.data.loading import EpochSampler, mix
from vpt.engine.average import Average
from vpt.engine.callbacks import Callbacks
from vpt.engine.constants import Constants, Facts
from vpt.engine.optim import Schedule
from vpt.engine.replicas import average_gradients, make_alike
from vpt.engine.tally import Tally, sums_of
from vpt.errors import DivergedError
from vpt.model import Prompted
from vpt.report.progress import Progress
from vpt.tasks.classification import Classification
from vpt.tasks.image_text import ImageText


class StepLoss(nn.Module):
    """A task's loss of a model as one module, which several processes can train together."""

    def __init__(self, model: Prompted, task: Classification | ImageText) -> None:
        super().__init__()
        self.model = model
        self.task = task

    def forward(self, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, logits and targets."""
        images, targets, *sizes = batch
        return self.task.loss(self.model, (images, targets), *sizes)

    def planned(self, batch: Any) -> Any:
        """A batch as `forward` takes it, with all that must be known of it before a device is given work."""
        images, targets, *sizes = batch
        return images, self.task.planned(self.model, targets), *sizes


class Steps:
    """The steps of a run, one epoch after another.

    Args:
        accelerator: with the accumulation that makes several batches one step.
        loss: of a batch, with logits and targets. Where several processes train, and none of them knows of the others
            within it, the steps take the mean of the gradients.
        batches: prepared ones.
        sampler: whose order an epoch decides, if it is an `EpochSampler`.
        updates: the optimizer.
        rates: its schedule.
        groups: what is trained, in the optimizer's groups.
        average: of it.
        clip_norm: largest norm of the gradient of all of it together.
        per_epoch: steps of an epoch.
        total: steps after which the last epoch ends.
        seed: of order and dropout.
        recorder: what captures forward and backward passes, to replay them; None runs them as they are.
        compiled: block loops are compiled when they first meet a shape, which is no time to capture.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        loss: nn.Module,
        batches: Any,
        sampler: Any,
        updates: Optimizer,
        rates: Schedule,
        *,
        groups: Mapping[str, Sequence[nn.Parameter]],
        average: Average,
        clip_norm: float | None,
        per_epoch: int,
        total: int,
        seed: int,
        recorder: Recorder | None = None,
        compiled: bool = False,
    ) -> None:
        self.accelerator = accelerator
        self.loss = loss
        inner: StepLoss = accelerator.unwrap_model(loss)
        self.planned = inner.planned
        self.model, self.task = inner.model, inner.task
        self.replicated = accelerator.num_processes > 1 and inner is loss
        self.recorder, self.compiled = recorder, compiled
        self.batches = batches
        self.sampler = sampler
        self.updates = updates
        self.rates = rates
        self.groups = list(groups)
        self.tuned = [parameter for group in groups.values() for parameter in group]
        self.average = average
        self.clip_norm = clip_norm
        self.per_epoch = per_epoch
        self.total = total
        self.seed = seed
        self.told: set[str] = set()
        for parameter in self.tuned:
            # A gradient that somebody looked at before, or a run that was interrupted left, is none of this run's.
            parameter.grad = None
        self.anew()

    def anew(self) -> None:
        """Forget what was captured, where another loss is to be."""
        self.graphs = None
        if self.recorder is not None:
            self.constants = Constants(self.model, self.task, self.tuned)
            self.facts: Facts | None = None
            # An epoch's last batch, as it is, would take its memory beside that of the graph of all others.
            again = int(self.compiled)
            self.graphs = Graphs(self._passes, self.recorder, failed=self._failed, again=again, checked=self._checked)

    def _failed(self, reason: str) -> None:
        """Say why steps run as they are: once, also of a run in several stages."""
        if reason not in self.told:
            self.told.add(reason)
            tell_failed(reason)

    def epoch(self, epoch: int, shown: Progress, called: Callbacks) -> dict[str, Any]:
        """Train epoch 0, 1, …; its row but for what validation adds.

        `called` may end it after any step.

        Raises:
            DivergedError: the loss is not finite.
        """
        set_seed(mix(self.seed, epoch), device_specific=True)
        self.batches.set_epoch(epoch)
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(epoch)
        self.loss.train()
        self._look_again()
        tally = Tally(self.accelerator)
        figures: dict[str, float] = {}
        step = epoch * self.per_epoch
        bar = shown.epoch_bar(self.batches, epoch)
        for index, batch in enumerate(tally.timed(bar)):
            self.rates.step_update(step + 1)
            loss, sums = self._forward_and_backward(batch)
            tally.add(sums)
            ends = index + 1 == len(self.batches)
            if self.accelerator.sync_gradients:
                step += 1
                self.average.update()
                ends = called.step(epoch + 1, step, loss) or ends or step == self.total
                if called.look_at_steps:
                    self._look_again()
            if ends or index % 10 == 9:
                figures = tally.figures()
                self._check_finite(figures["train/loss"], epoch, step)
                shown.figures(bar, figures)
            if ends and index + 1 < len(self.batches):
                self.batches.end()
                break
        if self.replicated:
            # Each has kept statistics of its own batches, where anything does.
            make_alike(self.model)
        # Behind the groups there may be some of what they have spared from weight decay, with the same rates.
        used = {f"lr/{name}": of["lr"] for name, of in zip(self.groups, self.updates.param_groups, strict=False)}
        return {"epoch": epoch + 1, "step": step, **used, **figures}

    def state_dict(self) -> dict[str, Any]:
        """What to go on from, beside the parameters."""
        scaler = self.accelerator.scaler
        return {
            "optimizer": self.updates.state_dict(),
            "average": self.average.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.updates.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _look_again(self) -> None:
        """Forget what was captured where anything is another now that it has taken for constant."""
        if self.graphs is None or not self.graphs.able:
            return
        now = self.constants.now()
        if self.facts not in (None, now):
            for parameter in self.tuned:
                # Gradients of accumulated steps stay where they are, and one of zeros moves what is no longer trained.
                parameter.grad = None
            self.anew()
        self.facts = now

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """A capture, which is to call no hook and to leave what it takes for constant as it was."""
        reason, before = why_hooked(self.model), self.constants.now()
        if reason:
            raise UncapturableError(reason)
        gradients = [parameter.grad for parameter in self.tuned]
        try:
            yield
            if self.constants.now() != before:
                raise UncapturableError("a step changes plain attributes of the method, as a counter")
        except RuntimeError:
            # Nothing was computed of what lies there now.
            for parameter, gradient in zip(self.tuned, gradients, strict=True):
                parameter.grad = gradient
            self.constants.put_back(before)
            raise

    def _forward_and_backward(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Loss and sums of a batch, whose gradient is taken in, and a step where one is due."""
        # A captured pass gives gradients of its own, or adds to those that are there and stay where they are.
        adds = self.graphs is not None and self.accelerator.gradient_accumulation_steps > 1
        with self.accelerator.accumulate(self.loss):
            loss, sums, gradients = (self.graphs or self._passes)(self.planned(batch))
            if self.graphs is not None and not adds:
                for parameter, gradient in zip(self.tuned, gradients, strict=True):
                    parameter.grad = gradient
            if self.accelerator.sync_gradients:
                if self.replicated:
                    average_gradients(self.tuned, self.accelerator)
                self.model.method.correct(self._mean)
                self._update()
                self.updates.zero_grad(set_to_none=not adds)
        return loss, sums

    def _update(self) -> None:
        """Step by the gradients that there are; in fp16 by what was scaled of them, and not where any is not finite.

        Accelerate's optimizer does the same, and looks for a package on the disk twice a step.
        """
        scaler = self.accelerator.scaler
        if scaler is not None:
            scaler.unscale_(self.updates)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.tuned, self.clip_norm)
        if scaler is None:
            self.updates.step()
        else:
            scaler.step(self.updates)
            scaler.update()

    def _passes(self, batch: Any) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Loss, sums for the tally and gradients of a batch; the latter are added to what there is.

        In fp16 they are those of a loss that is scaled, by a number that lies on the device: the optimizer's step is
        what divides by it, reads back whether all are finite, and chooses the next one.
        """
        with self.accelerator.autocast():
            loss, logits, targets = self.loss(batch)
        self.accelerator.backward(loss)
        loss = loss.detach()
        return loss, sums_of(loss, logits.detach(), targets), [parameter.grad for parameter in self.tuned]

    def _mean(self, x: Tensor) -> Tensor:
        mean: Tensor = self.accelerator.reduce(x, "mean")
        return mean

    def _check_finite(self, loss: float, epoch: int, step: int) -> None:
        if not math.isfinite(loss):
            lr = self.updates.param_groups[0]["lr"]
            raise DivergedError(
                f"the loss is {loss} in epoch {epoch + 1}, step {step}, at learning rate {lr:.3g}: give a smaller one, "
                "or clip_norm; what was saved before stays."
            )
