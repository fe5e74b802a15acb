"""The double binary tree: two trees over the same ranks, so that every rank sends and receives about as much.

Source: Sanders, Speck, Träff, "Two-tree algorithms for full bandwidth broadcast, reduction and scan", 2009; used across
nodes by HFReduce in An et al., "Fire-Flyer AI-HPC", 2024, arXiv:2408.14158.
"""

from dataclasses import dataclass

from cotrain.errors import InputError


@dataclass(frozen=True)
class Tree:
    """A spanning tree over the ranks 0..n-1.

    Sums go from the children to their parent and results from the parent to its children.
    """

    parents: tuple[int | None, ...]  # by rank; None for the root

    @property
    def root(self) -> int:
        return self.parents.index(None)

    def children(self, rank: int) -> list[int]:
        return [child for child, parent in enumerate(self.parents) if parent == rank]

    @property
    def depth(self) -> int:
        """Edges from the root to the farthest rank."""
        return max(len(self.path(rank)) for rank in range(len(self.parents)))

    def path(self, rank: int) -> list[int]:
        """The rank's ancestors, the root last."""
        above: list[int] = []
        parent = self.parents[rank]
        while parent is not None:
            if len(above) == len(self.parents):
                raise InputError(f"Rank {rank} never reaches the root: the parents {self.parents} hold a circle.")
            above.append(parent)
            parent = self.parents[parent]
        return above


def double_binary_tree(n: int) -> tuple[Tree, Tree]:
    """Two trees over n ranks; no rank has children in both, none has more than two, depth at most log2 n.

    Ranks count from 1 in what follows. The first tree is in order: odd ranks are leaves, and a rank with the lowest set
    bit b stands halfway between two ranks that differ by 2b, of which one has the lowest bit 2b and is its parent. The
    second tree is the first with the ranks mirrored (n even) or shifted by one (n odd), so that even ranks are leaves.

    Raises:
        InputError: n < 1.
    """
    if n < 1:
        raise InputError(f"A tree needs at least one rank, not {n}.")
    first = _in_order(n)
    seat = [n - 1 - rank if n % 2 == 0 else (rank + 1) % n for rank in range(n)]  # whose place a rank takes
    taken_by = {place: rank for rank, place in enumerate(seat)}
    second: list[int | None] = []
    for rank in range(n):
        parent = first[seat[rank]]
        second.append(None if parent is None else taken_by[parent])
    return Tree(first), Tree(tuple(second))


def _in_order(n: int) -> tuple[int | None, ...]:
    parents: list[int | None] = []
    for place in range(1, n + 1):
        bit = place & -place
        above, below = (place ^ bit) | (bit << 1), place ^ bit
        parent = above if above <= n else below  # where the tree is cut off, the next ancestor that is there
        parents.append(parent - 1 if parent else None)
    return tuple(parents)


def segments(size: int, parts: int) -> list[tuple[int, int]]:
    """(start, end) of parts that cover 0..size in order and differ by one at most; some are empty if size < parts."""
    return [(size * part // parts, size * (part + 1) // parts) for part in range(parts)]
