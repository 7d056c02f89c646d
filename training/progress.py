"""The bar a person watches while a model trains: epochs, the validation loss, and the time."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class ProgressBar(Callback):
    """One line on standard error; early stopping ends it short of its full length."""

    def __init__(self, title: str, epochs: int) -> None:
        self._bar = Progress(
            TextColumn("training {task.description:<10}"),
            BarColumn(bar_width=30),
            TextColumn("epoch {task.completed:>3}/{task.total}  validation loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(title, total=epochs, loss="-")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        self._bar.start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        loss = float(trainer.callback_metrics["val_loss"])
        self._bar.update(self._task, advance=1, loss=f"{loss:.4f}")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002 - Lightning's hook
        self._bar.stop()
