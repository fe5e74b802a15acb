"""What the time that is left when the result stands is used for: would more labels help, and would other labels have
given another result?"""

from dataclasses import asdict
from typing import Any

from cotrain.auto import steady
from cotrain.auto.choose import Choice
from cotrain.auto.curve import learning_curve
from cotrain.auto.evidence import Evidence, Setup, decide
from cotrain.auto.features import FoldFeatures

CURVE, STEADY = 0.15, 0.1  # of the budget at most


def look_further(setup: Setup, matrices: FoldFeatures, seen: Evidence, choice: Choice) -> dict[str, Any]:
    """`curve` and `steady` of the report, each None where it could not be had; then `skipped` says why. Where learners
    taught each other, both are of the committee before that."""
    features, clock, y, seed, jobs = setup.features, setup.clock, setup.problem.y, setup.seed, setup.jobs
    first = seen.first or seen
    board, members = first.board, decide(first.board, setup.asked).members if seen.first else choice.members
    skipped: dict[str, str] = {}
    worth = board.worth(board.right(members))
    found = learning_curve(board, members, features, y, seen.folds, clock.slot(CURVE), seed, worth, jobs=jobs)
    curve = None if isinstance(found, str) else found
    if isinstance(found, str):
        skipped["curve"] = found
    if not len(features.unlabelled):
        return {"curve": curve, "steady": None, "skipped": skipped | {"steady": "there are no unlabelled rows"}}
    told = steady.steadiness(board, members, features, matrices, y, clock.slot(STEADY), seed, jobs)
    if isinstance(told, str):
        return {"curve": curve, "steady": None, "skipped": skipped | {"steady": told}}
    if told.flipped > steady.FLIPPING:
        setup.warnings.append(steady.warning(told))
    return {"curve": curve, "steady": asdict(told), "skipped": skipped}
