"""Exchanges: what learners tell each other, apart from who they are and where they live."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cotrain import place

Mail = dict[str, Any]  # the messages, by the sender's role


@dataclass(frozen=True)
class Exchange(ABC):
    """`message` is what a learner tells the others, without gradient; `loss` is what the mail costs its reader."""

    @abstractmethod
    def message(self, output: Tensor) -> Any: ...

    @abstractmethod
    def loss(self, output: Tensor, mail: Mapping[str, Any]) -> Tensor: ...


def post(messages: Mapping[str, Any]) -> Mail:
    """Deliver the messages of the learners that live here to all learners; in one process everybody is here.

    Where the learners are dealt out to groups of ranks, the mail holds everybody's messages, in the learners' order.
    """
    return place.exchange(messages)


def without(mail: Mapping[str, Any], name: str) -> Mail:
    """The mail that `name` reads: everybody's but its own."""
    return {sender: message for sender, message in mail.items() if sender != name}
