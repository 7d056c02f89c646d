"""The training loop: one for all recipes, on Lightning, with nothing in it that is about one model.

Rows flow from arrays through a seeded loader into the network; after each epoch the validation loss decides
whether the weights are kept and whether it is time to stop; the best weights are put back at the end. Equal seeds
on equal machines give equal weights.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset

from .data import Array
from .progress import ProgressBar
from .recipe import Schedule

Loss = Callable[[Tensor, Tensor], Tensor]
_LOUD = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")


@dataclass(frozen=True)
class Part:
    """Rows to train on or to validate with: the network's inputs in its order, and the labels."""

    inputs: Sequence[Array]
    labels: Array


@dataclass(frozen=True)
class Fitted:
    """What the loop did: epochs run, the epoch whose weights were kept (from 1), and its validation loss."""

    epochs_run: int
    best_epoch: int
    validation_loss: float


def fit(
    network: nn.Module,
    train: Part,
    validation: Part,
    *,
    loss: Loss,
    schedule: Schedule,
    seed: int,
    title: str = "",
    progress: bool = False,
) -> Fitted:
    """Trains ``network`` in place on the CPU and leaves it, in eval mode, with the best weights it had."""
    task = _Task(network, loss, schedule)
    with quiet(), seeded(seed), tempfile.TemporaryDirectory(prefix="glasshouse-") as folder:
        best = ModelCheckpoint(dirpath=folder, monitor="val_loss", save_top_k=1, save_weights_only=True)
        watchers: list[Callback] = [EarlyStopping(monitor="val_loss", patience=schedule.patience), best]
        if progress:
            watchers.append(ProgressBar(title, schedule.epochs))
        trainer = Trainer(
            max_epochs=schedule.epochs,
            accelerator="cpu",
            devices=1,
            deterministic=True,
            callbacks=watchers,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,
            default_root_dir=folder,
        )
        trainer.fit(task, _batches(train, schedule.batch_size, seed), _batches(validation, 4 * schedule.batch_size))
        kept = torch.load(best.best_model_path, weights_only=True, map_location="cpu")
        task.load_state_dict(kept["state_dict"])
        network.eval()
        score = best.best_model_score
        return Fitted(trainer.current_epoch, int(kept["epoch"]) + 1, float("nan") if score is None else float(score))


class _Task(LightningModule):
    """A network, how wrong it is, and how it is improved."""

    def __init__(self, network: nn.Module, loss: Loss, schedule: Schedule) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.schedule = schedule

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        *inputs, labels = batch
        return self.loss(self.network(*inputs), labels)

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        *inputs, labels = batch
        self.log("val_loss", self.loss(self.network(*inputs), labels), batch_size=len(labels))

    def configure_optimizers(self) -> dict[str, object]:  # type: ignore[override]  # Lightning's own union is wider
        schedule = self.schedule
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=schedule.epochs)
        return {"optimizer": optimizer, "lr_scheduler": falling}


def _batches(part: Part, size: int, seed: int | None = None) -> DataLoader[tuple[Tensor, ...]]:
    """Whole batches by one index each; shuffled by ``seed``, or in order when it is None.

    A loader that fetched row by row and stacked would spend most of a small model's training in Python.
    """
    rows = TensorDataset(*(torch.from_numpy(array) for array in (*part.inputs, part.labels)))
    order: RandomSampler | SequentialSampler = SequentialSampler(rows)
    if seed is not None:
        order = RandomSampler(rows, generator=torch.Generator().manual_seed(seed))
    # one row alone has no batch statistics to normalise by
    ragged = seed is not None and len(rows) % size == 1 and len(rows) > size
    return DataLoader(rows, sampler=BatchSampler(order, size, drop_last=ragged), batch_size=None)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random state set from ``seed``, deterministic kernels, and both put back afterwards."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning tells of its devices, tips and worker counts; here they say nothing of use. Errors still speak."""
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(pytorch_)?lightning(_fabric)?(\..*)?")
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
