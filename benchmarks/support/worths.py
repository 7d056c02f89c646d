"""A runner that knows what every coalition is worth, so that methods of masks can be run thousands of times."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

import explain

Run = Callable[[explain.Program, dict[str, np.ndarray]], Mapping[str, np.ndarray]]


class Table:
    """Answers `masked_forward` from what the model gives for all coalitions of each item with each row of a background.

    `index` [item...] says which of its groups an element of the input `key` belongs to. Other programs are `run`.
    """

    def __init__(
        self, run: Run, model: explain.Model, key: str, items: np.ndarray, rows: np.ndarray, index: np.ndarray
    ) -> None:
        self.run, self.key, self.groups = run, key, int(index.max()) + 1
        self.paired = explain.compile(model, "masked_forward", background="paired")
        self.places = {row.tobytes(): place for place, row in enumerate(rows)}
        masks = (np.arange(2**self.groups)[:, None] >> np.arange(self.groups) & 1).astype(items.dtype)
        feeds = {f"{key}.groups": index, "mask": masks[None], "background.weight": np.ones(1, items.dtype)}

        def worths(item: np.ndarray, row: np.ndarray) -> np.ndarray:
            given = {key: item[None], f"{key}.background": np.repeat(row[None], len(masks), axis=0)}
            return np.asarray(run(self.paired, feeds | given)["value"][0])

        self.worths = {item.tobytes(): np.array([worths(item, row) for row in rows]) for item in items}

    def __call__(self, program: explain.Program, feeds: dict[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """What the program gives: `value` [N, K, C], each mask with its own row or averaged over the rows."""
        known = list(program.outputs) == ["value"] and f"{self.key}.background" in feeds
        if not known or feeds["mask"].shape[2] != self.groups:
            return self.run(program, feeds)
        codes = (feeds["mask"] @ 2.0 ** np.arange(self.groups)).astype(int)
        rows = np.array([self.places[row.tobytes()] for row in feeds[f"{self.key}.background"]])
        values = []
        for item, code in zip(feeds[self.key], codes, strict=True):
            found = self.worths[item.tobytes()]
            if program.digest == self.paired.digest:
                values.append(found[rows, code])
            else:
                values.append(np.tensordot(feeds["background.weight"], found[rows][:, code], axes=1))
        return {"value": np.array(values)}
