"""What the time that is left when the result stands is used for: would more labels help, and would other labels have
given another result?"""

from dataclasses import asdict
from typing import Any

from cotrain.auto import steady
from cotrain.auto.choose import Choice
from cotrain.auto.curve import learning_curve
from cotrain.auto.evidence import Evidence, Setup, decide
from cotrain.auto.features import FoldFeatures
from cotrain.auto.pace import Skipped

CURVE, STEADY = 0.15, 0.1  # of the budget at most


def look_further(setup: Setup, matrices: FoldFeatures, seen: Evidence, choice: Choice) -> dict[str, Any]:
    """`curve` and `steady` of the report, each None where it could not be had; then `skipped` says why. Where learners
    taught each other, both are of the committee before that."""
    features, clock = setup.features, setup.clock
    first = seen.first or seen
    board = first.board
    members = decide(board, setup.use_unlabelled).members if seen.first else choice.members
    worth = board.worth(board.right(members))
    curve = told = None
    skipped: dict[str, str] = {}
    try:
        left = clock.slot(CURVE)
        curve = learning_curve(board, members, features, seen.folds, left, setup.seed, worth, jobs=setup.jobs)
    except Skipped as why:
        skipped["curve"] = str(why)
    try:
        left = clock.slot(STEADY)
        told = steady.steadiness(board, members, features, matrices, left, setup.seed, setup.jobs)
        if told.flipped > steady.FLIPPING:
            setup.warnings.append(steady.warning(told))
    except Skipped as why:
        skipped["steady"] = str(why)
    return {"curve": curve, "steady": told and asdict(told), "skipped": skipped}
