"""Streams: resumable iterators of dicts of tensors.

Anything with `__next__`, `state()` and `load(state)` is a stream; a class need not inherit from `Stream`.
Legend: B examples in a batch, N examples in the dataset.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from cotrain.errors import InputError
from cotrain.randomness import Draws, generator

Batch = dict[str, Tensor]
View = Callable[[Batch, Draws], Batch]  # makes the fields of a batch from its rows, with noise of each row's own


class Stream(ABC):
    """Gives one batch after another, without end, and can be put back to where it was."""

    def __iter__(self) -> Iterator[Batch]:
        return self

    @abstractmethod
    def __next__(self) -> Batch: ...

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Where the stream stands, as tensors and plain values."""

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Go to where a stream of the same data and seed stood."""

    # A stream may have `split(rank, ranks)`: from then on it gives this rank's rows of each batch, batch / ranks of
    # them, and its state stays that of the whole. Without it, every rank makes the whole batch and takes its rows.


class Rows(Stream):
    """Shuffled batches of the rows of some tensors, epoch after epoch.

    The order of an epoch is a permutation addressed by (seed, name, epoch), and the place in it is one number, so that
    the stream resumes exactly and its order does not depend on who else draws. A batch may reach into the next epoch;
    rows fewer than `batch` repeat inside one.

    Args:
        data: tensors with the same first dimension N, by field name.
        batch: rows in a batch.
        seed: of the order and of the view's noise.
        name: tells streams with the same seed apart (usually the stream's role).
        view: makes the batch's fields from its rows and from noise addressed by (row, epoch); None passes rows through.
        shuffle: False takes the rows in order.

    Raises:
        InputError: no rows, or fields of different lengths.
    """

    def __init__(
        self,
        data: Mapping[str, Tensor],
        batch: int,
        seed: int = 0,
        name: str = "rows",
        view: View | None = None,
        shuffle: bool = True,
    ):
        self.rows = count_rows(data)
        if batch < 1:
            raise InputError(f"A batch has at least one row, not {batch}.")
        self.data = dict(data)
        self.batch = batch
        self.seed = seed
        self.name = name
        self.view = view
        self.shuffle = shuffle
        self.position = 0  # rows given so far, over all epochs and ranks
        self.rank, self.ranks = 0, 1
        self._order: tuple[int, Tensor] | None = None  # of one epoch

    def split(self, rank: int, ranks: int) -> None:
        """Give the rank's rows of each batch only; the batches of all ranks together are those of one process.

        Raises:
            InputError: the ranks do not divide the batch.
        """
        if self.batch % ranks:
            raise InputError(f"{ranks} ranks do not divide the batch of {self.batch} rows of the stream {self.name!r}.")
        self.rank, self.ranks = rank, ranks

    def _epoch(self, epoch: int) -> Tensor:
        if self._order is None or (self.shuffle and self._order[0] != epoch):
            rng = generator(self.seed, self.name, epoch)
            self._order = epoch, torch.randperm(self.rows, generator=rng) if self.shuffle else torch.arange(self.rows)
        return self._order[1]

    def __next__(self) -> Batch:
        pieces: list[tuple[int, Tensor]] = []  # (epoch, rows)
        left = self.batch
        while left:
            epoch, start = divmod(self.position, self.rows)
            pieces.append((epoch, self._epoch(epoch)[start : start + left]))
            self.position += len(pieces[-1][1])
            left -= len(pieces[-1][1])
        index_B = pieces[0][1] if len(pieces) == 1 else torch.cat([rows for _, rows in pieces])
        own = slice(self.rank * self.batch // self.ranks, (self.rank + 1) * self.batch // self.ranks)
        index_B = index_B[own]
        batch = {field: values[index_B] for field, values in self.data.items()}
        if self.view is None:
            return batch
        epoch_B = torch.cat([torch.full_like(rows, epoch) for epoch, rows in pieces])[own]
        return self.view(batch, Draws(index_B, epoch_B, self.seed, self.name))

    def state(self) -> dict[str, Any]:
        return {"position": self.position, **self._settings()}

    def _settings(self) -> dict[str, Any]:
        return {"rows": self.rows, "batch": self.batch, "seed": self.seed, "name": self.name, "shuffle": self.shuffle}

    def load(self, state: dict[str, Any]) -> None:
        """Raises InputError if the rows' number, the batch, the seed, the name or `shuffle` differ."""
        check_saved(state, **self._settings())
        self.position = state["position"]


class Once:
    """The rows in order, once each time it is iterated over; what judges read.

    Args:
        data: tensors with the same first dimension, by field name.
        batch: rows in a batch; the last one may be smaller.
    """

    def __init__(self, data: Mapping[str, Tensor], batch: int = 512):
        self.rows = count_rows(data)
        self.data = dict(data)
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, self.rows, self.batch):
            yield {field: values[start : start + self.batch] for field, values in self.data.items()}


def count_rows(data: Mapping[str, Tensor]) -> int:
    """The fields' common number of rows."""
    lengths = {field: len(values) for field, values in data.items()}
    if len(set(lengths.values())) != 1:
        raise InputError(f"The fields of a stream have the same number of rows; here: {lengths or 'no fields'}.")
    count = next(iter(lengths.values()))
    if count == 0:
        raise InputError(f"A stream needs at least one row; {', '.join(lengths)} have none.")
    return count


def check_saved(state: Mapping[str, Any], **now: Any) -> None:
    """A stream goes on only with what its batches hang on; a state from before a setting was saved has any value.

    Raises:
        InputError: it was saved with other values; the message says which.
    """
    if changed := [part for part, value in now.items() if state.get(part, value) != value]:
        was = ", ".join(f"{part}={state[part]}, now {now[part]}" for part in changed)
        raise InputError(f"The stream was saved with {was}.")
