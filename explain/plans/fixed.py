"""What plans of a fixed number of evaluations share: tasks laid out beforehand, an outcome when all are done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..programs import Program
from ..request import Arrays, Request
from .base import Outcome, Step, Task


class FixedPlan(ABC):
    """A list of tasks, each fed to the same program; `planned` evaluations for every item."""

    def __init__(self, request: Request, program: Program, planned: int) -> None:
        self.request, self.program, self.planned = request, program, planned
        self._open = 1

    @property
    def evaluations(self) -> np.ndarray:
        """[N] evaluations of the model for each item."""
        return np.full(self.request.items, self.planned)

    @property
    def ready(self) -> bool:
        """Whether every task has been answered."""
        return self._open == 0

    def steps(self) -> Iterator[Step]:
        """One step per task."""
        tasks = list(self.tasks())
        self._open = len(tasks)
        for task in tasks:
            yield Step(self.program, self.feeds(task), self._collector(task))

    def _collector(self, task: Task) -> Callable[[Mapping[str, np.ndarray]], None]:
        def take(outputs: Mapping[str, np.ndarray]) -> None:
            self.collect(task, outputs)
            self._open -= 1

        return take

    @abstractmethod
    def tasks(self) -> Iterator[Task]:
        """The blocks of work, in order."""

    @abstractmethod
    def feeds(self, task: Task) -> Arrays:
        """Inputs of the program for one block."""

    @abstractmethod
    def collect(self, task: Task, outputs: Mapping[str, np.ndarray]) -> None:
        """Take the program's outputs for one block."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """The attribution."""
