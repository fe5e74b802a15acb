"""Which ranks share a node."""

import os
import socket
from collections.abc import Sequence

from cotrain.errors import InputError

VARIABLE = "COTRAIN_NODE"  # names the node in place of the host name


def node_name() -> str:
    """The name of this process's node: COTRAIN_NODE if it is set, else the host's name."""
    return os.environ.get(VARIABLE) or socket.gethostname()


def group_by_node(names: Sequence[str], local_size: int | None = None) -> list[list[int]]:
    """The ranks of each node, ascending; nodes in the order of their first rank.

    Args:
        names: the node's name by rank; ranks of a node need not be neighbours.
        local_size: cuts every node into groups of so many ranks, as for two sockets; the groups of a node stay
            neighbours in the result. None: a node is one group.

    Raises:
        InputError: nodes of unequal size, or a local size that does not divide them.
    """
    ranks: dict[str, list[int]] = {}
    for rank, name in enumerate(names):
        ranks.setdefault(name, []).append(rank)
    sizes = ", ".join(f"{name} has {len(members)}" for name, members in ranks.items())
    size = local_size if local_size is not None else len(names) // len(ranks)
    if size < 1 or any(len(members) % size for members in ranks.values()):
        raise InputError(f"A local size of {size} does not divide the ranks of every node: {sizes}.")
    if local_size is None and any(len(members) != size for members in ranks.values()):
        raise InputError(f"Nodes need equally many ranks, and {sizes}. Start as many on each, or give a local size.")
    return [members[start : start + size] for members in ranks.values() for start in range(0, len(members), size)]
