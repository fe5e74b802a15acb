"""`cotrain audit-labels`: labels in doubt, before anything is built on them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from cotrain.auto.calibrate import with_prior
from cotrain.auto.evidence import Setup, check_seed_and_jobs, gather, may_ask, out_of_fold, pick
from cotrain.auto.features import Features
from cotrain.auto.problem import load
from cotrain.auto.report_parts import suspicious
from cotrain.auto.search import Clock, seconds
from cotrain.auto.views import find_views
from cotrain.errors import InputError


@dataclass(frozen=True)
class Doubts:
    """What a look at the labels found.

    counts: labelled rows by class. duplicates, near_duplicates: rows that repeat another, exactly or but for spelling.
    conflicts: rows that hold the same and differ in their label, the first of `conflict_groups`. suspicious: labels
    that a committee of learners, which had not seen them, finds unlikely; the worst first. judged: how many labels it
    was asked about. Rows are numbered from 1.
    """

    counts: dict[str, int]
    unlabelled: int
    duplicates: int
    near_duplicates: int
    conflicts: list[dict[str, Any]]
    conflict_groups: int
    suspicious: list[dict[str, Any]]
    judged: int
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def audit_labels(
    data: Any,
    y: Any = None,
    *,
    target: str | None = None,
    unlabelled: str | None = None,
    budget: str | float = "1m",
    encoder: str | Sequence[str] = "auto",
    seed: int = 0,
    jobs: int = 2,
    most: int = 50,
    **columns: Any,
) -> Doubts:
    """Look for labels that may be wrong. Arguments as those of `fit`; `most` suspicious labels are listed.

    Raises:
        InputError: what was given cannot be used.
    """
    clock = Clock(seconds(budget))
    check_seed_and_jobs(seed, jobs)
    if most < 1:
        raise InputError(f"-n is a number of rows, 1 or more; not {most}.")
    problem = load(data, y, target=target, unlabelled=unlabelled, seconds=clock.budget, **columns)
    found = problem.audit
    warnings = list(found.warnings)
    views = find_views(encoder, problem, warnings, clock.left(), jobs)
    tried, _ = pick(views, None)
    use_unlabelled = may_ask(problem, warnings)
    features = Features(views.views, problem.frame, problem.y, jobs)
    setup = Setup(problem, features, "auto", "auto", seed, jobs, clock, use_unlabelled, warnings)
    with threadpool_limits(1):
        seen = gather(setup, [candidate for candidate in tried if use_unlabelled or not candidate.unlabelled])
    together = out_of_fold(seen.board, seen.board.choose(unlabelled=use_unlabelled).members)
    held = ~np.isnan(together[:, 0])
    if not held.all():
        warnings.append(f"Only {held.sum():,} of {len(held):,} labels were judged; a longer --budget judges more.")
    said = with_prior(together[held], seen.board.label_shares)
    return Doubts(
        counts=found.counts,
        unlabelled=problem.without_label,
        duplicates=found.duplicates,
        near_duplicates=found.near_duplicates,
        conflicts=found.conflicts,
        conflict_groups=found.conflict_groups,
        suspicious=suspicious(problem, said, held, found.classes, most),
        judged=int(held.sum()),
        warnings=warnings,
    )
