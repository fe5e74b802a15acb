"""A function called by several processes that are joined by gloo on this machine, which end after it."""

from collections.abc import Callable
from typing import Any

from cotrain.crew import Crew, CrewFailed

RanksFailed = CrewFailed


def run_ranks(
    function: Callable[..., Any], world_size: int, *args: Any, timeout: float = 60, joined: bool = True
) -> list[Any]:
    """What `function(*args)` returns on each rank, in the ranks' order; see `cotrain.crew.Crew`."""
    with Crew(world_size, timeout, joined) as crew:
        return crew.run(function, *args)
