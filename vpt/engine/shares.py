"""The images of a step, dealt to the processes that train together, every image once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import BatchSampler, DataLoader, Sampler

from vpt.data.loading import EpochSampler
from vpt.report.notes import tell


def dealt(images: int, processes: int) -> list[int]:
    """How many of a step's images each process gets; they differ by one at most."""
    return [images // processes + (rank < images % processes) for rank in range(processes)]


class Part(Sampler[list[int]]):
    """The batches of one process: its part of the images of each step.

    A process that gets none of the last ones takes one, which counts for nothing: all have to take each step together.

    Args:
        whole: the batches of one process alone; as many together as there are processes make a step.
        rank: of this process.
        processes: how many there are.
    """

    def __init__(self, whole: BatchSampler, *, rank: int, processes: int) -> None:
        self.whole = whole
        self.rank = rank
        self.processes = processes

    def sizes(self) -> list[list[int]]:
        """Of each step, how many images each process has."""
        size, images = self.whole.batch_size * self.processes, len(self.whole.sampler)  # type: ignore[arg-type]
        steps = [size] * (images // size)
        if images % size and not (self.whole.drop_last and steps):
            steps.append(images % size)
        return [dealt(step, self.processes) for step in steps]

    def __iter__(self) -> Iterator[list[int]]:
        order = iter(self.whole.sampler)
        for sizes in self.sizes():
            step = [next(order) for _ in range(sum(sizes))]
            begin = sum(sizes[: self.rank])
            yield step[begin : begin + sizes[self.rank]] or step[:1]

    def __len__(self) -> int:
        return len(self.sizes())


class Shared:
    """Batches of one of several processes, each with the number of images that every process has in this step."""

    def __init__(self, batches: Any, part: Part) -> None:
        self.batches = batches
        self.part = part

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        for batch, sizes in zip(self.batches, self.part.sizes(), strict=True):
            yield (*batch, sizes)

    def __len__(self) -> int:
        return len(self.batches)

    def set_epoch(self, epoch: int) -> None:
        """Of the batches."""
        self.batches.set_epoch(epoch)

    def end(self) -> None:
        """Of the batches."""
        self.batches.end()


def shared(loader: DataLoader[Any], accelerator: Accelerator) -> Any:
    """`loader` prepared for training: on the device, and of several processes each its part.

    Of a loader that is not this package's own Accelerate makes the parts, and fills the last ones up.
    """
    processes = accelerator.num_processes
    if processes == 1:
        return accelerator.prepare(loader)
    if not (isinstance(loader.sampler, EpochSampler) and isinstance(loader.batch_sampler, BatchSampler)):
        if accelerator.is_main_process:
            tell(
                "of a loader the last batches are filled up with its first images where they do not come out even "
                f"between {processes} processes: give a dataset in its place, and each image counts once."
            )
        return accelerator.prepare(loader)
    part = Part(loader.batch_sampler, rank=accelerator.process_index, processes=processes)
    own: DataLoader[Any] = DataLoader(
        loader.dataset,
        batch_sampler=part,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        generator=loader.generator,
    )
    here = prepare_data_loader(
        own, accelerator.device, num_processes=1, process_index=0, put_on_device=True, non_blocking=True
    )
    return Shared(here, part)
