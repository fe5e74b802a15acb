"""From cells to the table and the bars.

A record is one line of the store: {"set", "labels", "seed", "method", "scores": {name: 0..1}, "seconds", ...} or with
"skipped" in place of scores. Scores are shown in points (0-100); means and worst cases are over seeds.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from peers.sets import CELLS, GRAPHS, TEXTS

OURS = "cotrain"
LOGISTIC = "supervised: LogisticRegression"
FORESTS = "supervised: ExtraTrees 1000"
Record = Mapping[str, Any]
Place = tuple[str, int]  # set, labelled rows


@dataclass(frozen=True)
class Bar:
    """What must hold; `held` is None where the cells it needs were not run."""

    text: str
    value: float | None
    held: bool | None


@dataclass(frozen=True)
class Row:
    """One set with one number of labels. `ours` and `peers` hold the records of the common `seeds`, in their order;
    a peer that did not finish on all of them is not in `peers`."""

    place: Place
    seeds: list[int]
    ours: list[Record]
    peers: dict[str, list[Record]]
    chosen: list[float]  # per seed, the test score of the peer that cross-validation chooses; empty if none was run
    families: dict[str, dict[str, float | None]]

    def mean(self, name: str = "test") -> float:
        return points(r["scores"][name] for r in self.ours)

    def worst(self, name: str = "test") -> float:
        return 100 * min(r["scores"][name] for r in self.ours)

    def peer(self, method: str) -> float | None:
        return points(r["scores"]["test"] for r in self.peers[method]) if method in self.peers else None

    @property
    def best_peer(self) -> str | None:
        """The configuration with the best mean test score: hindsight, a hard target."""
        return max(self.peers, key=lambda method: self.peer(method) or 0.0, default=None)

    @property
    def best_by_labels(self) -> float | None:
        """The best peer's mean test score, each peer as it is documented or as cross-validation sets it."""
        stated = [score for found in self.families.values() for score in (found["documented"], found["cv"])]
        return max((score for score in stated if score is not None), default=None)


def points(values: Iterable[float]) -> float:
    return 100 * fmean(values)


def rows(records: Sequence[Record], documented: Iterable[str] = ()) -> list[Row]:
    """One row for each place where our result is there."""
    by_place: dict[Place, dict[str, dict[int, Record]]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        by_place[record["set"], record["labels"]][record["method"]][record["seed"]] = record
    order = {place: number for number, place in enumerate(CELLS)}
    found = []
    for place in sorted(by_place, key=lambda p: (order.get(p, len(order)), p)):
        methods = by_place[place]
        ours = {seed: r for seed, r in methods.get(OURS, {}).items() if "scores" in r}
        others = {name: cells for name, cells in methods.items() if not name.startswith(OURS)}
        seeds = sorted(set(ours) & set(others[LOGISTIC])) if LOGISTIC in others else sorted(ours)
        if not seeds:
            continue
        peers = {
            name: [cells[seed] for seed in seeds]
            for name, cells in others.items()
            if all("scores" in cells.get(seed, {}) for seed in seeds)
        }
        chosen = [_by_cv([cells[seed] for cells in others.values() if seed in cells]) for seed in seeds]
        found.append(
            Row(
                place,
                seeds,
                [ours[seed] for seed in seeds],
                peers,
                [score for score in chosen if score is not None] if None not in chosen else [],
                _families(others, peers, seeds, set(documented)),
            )
        )
    return found


def _by_cv(records: Sequence[Record]) -> float | None:
    """The test score of the setting with the best cross-validated score; of several with the same, their mean."""
    scored = [r["scores"] for r in records if r.get("scores", {}).get("cv") is not None]
    if not scored:
        return None
    best = max(scores["cv"] for scores in scored)
    return fmean(scores["test"] for scores in scored if scores["cv"] == best)


def _families(
    others: Mapping[str, Mapping[int, Record]],
    peers: Mapping[str, Sequence[Record]],
    seeds: Sequence[int],
    documented: set[str],
) -> dict[str, dict[str, float | None]]:
    """For each peer: its best documented setting, the one that cross-validation chooses, the best by test score."""
    found: dict[str, dict[str, float | None]] = {}
    for family in dict.fromkeys(name.split(":")[0] for name in peers):
        means = {n: points(r["scores"]["test"] for r in peers[n]) for n in peers if n.split(":")[0] == family}
        chosen = [
            _by_cv([cells[s] for n, cells in others.items() if n.split(":")[0] == family and s in cells]) for s in seeds
        ]
        found[family] = {
            "documented": max((mean for name, mean in means.items() if name in documented), default=None),
            "cv": points(s for s in chosen if s is not None) if None not in chosen else None,
            "oracle": max(means.values()),
        }
    return found


def single_configurations(table: Sequence[Row]) -> dict[str, tuple[float, int]]:
    """For each peer configuration its average over all rows and on how many it ran. Where it did not (too slow, or the
    method cannot), plain logistic regression stands in for it, as it would for its user."""
    found = {}
    names = dict.fromkeys(name for row in table for name in row.peers)
    for name in names:
        scores = [row.peer(name) if name in row.peers else row.peer(LOGISTIC) for row in table]
        if None not in scores:
            found[name] = (fmean(s for s in scores if s is not None), sum(name in row.peers for row in table))
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def bars(table: Sequence[Row]) -> list[Bar]:
    """The bars that must hold, with the thresholds as they were set before anything was measured."""
    at = {row.place: row for row in table}
    missing = [place for place in CELLS if place not in at]
    part = f" ({len(table)} of {len(CELLS)} cells)" if missing else ""
    return [
        *_average(table, part),
        *_single_sets(at),
        *_no_harm(table, part),
        *_coverage(table, part),
        *_student(table, part),
        *_costs(table, part),
    ]


def _average(table: Sequence[Row], part: str) -> list[Bar]:
    with_peers = [row for row in table if row.best_peer is not None]
    if not with_peers:
        return [Bar("(a) averages: no peer was run", None, None)]
    ours = fmean(row.mean() for row in with_peers)
    name, (single, _) = next(iter(single_configurations(with_peers).items()))
    each = fmean(row.peer(row.best_peer) or 0.0 for row in with_peers if row.best_peer)
    return [
        Bar(f"(a) average >= best single peer configuration ({name}) + 2{part}", ours - single, ours - single >= 2),
        Bar(f"(a) average >= best peer of each set - 0.5{part}", ours - each, ours - each >= -0.5),
    ]


def _single_sets(at: Mapping[Place, Row]) -> list[Bar]:
    found = []
    for place, margin in (
        (("ag_news", 20), 2.0),
        (("ag_news", 100), 0.0),
        (("sms_equal", 10), 0.0),
        (("sms_equal", 50), 0.0),
    ):
        row = at.get(place)
        by_labels = None if row is None else row.best_by_labels
        hindsight = None if row is None or row.best_peer is None else row.peer(row.best_peer)
        for which, theirs in (("as documented or set by cross-validation", by_labels), ("in hindsight", hindsight)):
            over = None if row is None or theirs is None else row.mean() - theirs
            text = f"(b) {_at(place)} >= best peer {which} + {margin:g}"
            found.append(Bar(text, over, None if over is None else over >= margin))
    for place, least in ((("digits", 40), 92.0), (("mfeat", 20), 91.0), (("cora", 140), 78.0)):
        row = at.get(place)
        mean = None if row is None else row.mean()
        found.append(Bar(f"(b) {place[0]} {place[1]} >= {least:g}", mean, None if mean is None else mean >= least))
    row = at.get(("fsdd", 100))
    forests = None if row is None else row.peer(FORESTS)
    over = None if row is None or forests is None else row.mean() - forests
    text = "(b) fsdd 100 >= 1,000 extra trees on the labels alone - 0.5"
    return [*found, Bar(text, over, None if over is None else over >= -0.5)]


def gains(row: Row) -> list[float]:
    """Per seed, our result less our own supervised baseline, in points of the metric that the report states."""
    return [100 * (r["report"]["test"]["chosen"] - r["report"]["test"]["supervised"]) for r in row.ours]


def _no_harm(table: Sequence[Row], part: str) -> list[Bar]:
    mean, where = min((fmean(gains(row)), row.place) for row in table)
    worst, there = min((min(gains(row)), row.place) for row in table)
    return [
        Bar(
            f"(c) no harm: mean gain over own supervised >= -0.5 on every set; least: {_at(where)}{part}",
            mean,
            mean >= -0.5,
        ),
        Bar(f"(c) no harm: worst seed >= -3 on every set; worst: {_at(there)}{part}", worst, worst >= -3),
    ]


def covered(record: Record, which: str) -> bool:
    """Whether the stated 90 % interval holds the score on the test rows."""
    stated = record["report"][which]
    return bool(stated["low"] <= record["report"]["test"][which] <= stated["high"])


def coverage(table: Sequence[Row], which: str) -> float:
    return points(covered(r, which) for row in table for r in row.ours)


def _coverage(table: Sequence[Row], part: str) -> list[Bar]:
    found = []
    for which in ("chosen", "supervised"):
        share = coverage(table, which)
        text = f"(d) 90 % interval of the {which} result covers the test score in 83-97 % of runs{part}"
        found.append(Bar(text, share, 83 <= share <= 97))
    return found


def _student(table: Sequence[Row], part: str) -> list[Bar]:
    behind, where = max((row.mean() - row.mean("student"), row.place) for row in table)
    text = f"(e) student within 1 point of the committee on every set; most behind: {_at(where)}{part}"
    return [Bar(text, behind, behind <= 1)]


def _costs(table: Sequence[Row], part: str) -> list[Bar]:
    texts = [r["seconds"] for row in table if row.place[0] in (*TEXTS, *GRAPHS) for r in row.ours]
    others = [r["seconds"] for row in table if row.place[0] not in (*TEXTS, *GRAPHS) for r in row.ours]
    memory = max(r["peak_memory"] for row in table for r in row.ours) / 1e9
    found = []
    for what, values, most in (("at most 10,000 text rows", texts, 60), ("all others", others, 180)):
        slowest = max(values, default=None)
        held = None if slowest is None else slowest <= most
        found.append(Bar(f"(f) {what}: <= {most} s, slowest run{part}", slowest, held))
    return [*found, Bar(f"(f) peak memory < 2 GB, largest run{part}", memory, memory < 2)]


def _at(place: Place) -> str:
    return f"{place[0]} {place[1]}"


def losing(table: Sequence[Row]) -> list[dict[str, Any]]:
    """Where somebody does better than we do, by how much."""
    found = []
    for row in table:
        best = row.best_peer
        if best is not None and (row.peer(best) or 0.0) > row.mean():
            behind_cv = points(row.chosen) - row.mean() if row.chosen else None
            found.append(
                {
                    "cell": _at(row.place),
                    "behind": (row.peer(best) or 0.0) - row.mean(),
                    "best peer setting": best,
                    "behind peer by CV": behind_cv if behind_cv is not None and behind_cv > 0 else None,
                }
            )
    return sorted(found, key=lambda each: -each["behind"])


def shown(row: Row) -> dict[str, Any]:
    """A row of the printed table."""
    best = row.best_peer
    return {
        "cell": _at(row.place),
        "seeds": len(row.seeds),
        "cotrain": row.mean(),
        "worst": row.worst(),
        "supervised": points(r["report"]["test"]["supervised"] for r in row.ours),
        "least gain": min(gains(row)),
        "student": row.mean("student"),
        "best peer": None if best is None else row.peer(best),
        "its worst": None if best is None else 100 * min(r["scores"]["test"] for r in row.peers[best]),
        "which": best,
        "peer by CV": points(row.chosen) if row.chosen else None,
        "its worst ": 100 * min(row.chosen) if row.chosen else None,
        "covered": fmean(covered(r, "chosen") for r in row.ours),
        "used": sum(r["report"]["used_unlabelled"] for r in row.ours),
        "s": max(r["seconds"] for r in row.ours),
        "processor s": max(r["processor_seconds"] for r in row.ours),
        "GB": max(r["peak_memory"] for r in row.ours) / 1e9,
    }


def in_part(records: Sequence[Record], table: Sequence[Row]) -> list[dict[str, Any]]:
    """Peers that ran on fewer draws than a row has, and in no row on all: by how much ours is ahead on these draws."""
    whole = {name for row in table for name in row.peers}
    ours = {(*row.place, r["seed"]): 100 * r["scores"]["test"] for row in table for r in row.ours}
    theirs: dict[str, dict[tuple[str, int, int], float]] = defaultdict(dict)
    for r in records:
        key = (r["set"], r["labels"], r["seed"])
        if not r["method"].startswith(OURS) and r["method"] not in whole and "scores" in r and key in ours:
            theirs[r["method"]][key] = 100 * r["scores"]["test"]
    found = []
    for name, scores in theirs.items():
        by_place: dict[Place, list[float]] = defaultdict(list)
        for key, score in scores.items():
            by_place[key[:2]].append(ours[key] - score)
        means = {_at(place): fmean(values) for place, values in by_place.items()}
        found.append({"peer": name, "runs": len(scores), "average": fmean(means.values()), **means})
    return sorted(found, key=lambda each: (-each["runs"], each["average"]))


def ablations(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each ablation less the default over the cells (with seed) that both have: mean by set, average, wins."""
    ours = {(r["set"], r["labels"], r["seed"]): r for r in records if r["method"] == OURS and "scores" in r}
    found = []
    for name in sorted({r["method"] for r in records if r["method"].startswith(f"{OURS}, ")}):
        by_place: dict[Place, list[float]] = defaultdict(list)
        for r in records:
            key = (r["set"], r["labels"], r["seed"])
            if r["method"] == name and "scores" in r and key in ours:
                by_place[key[:2]].append(100 * (r["scores"]["test"] - ours[key]["scores"]["test"]))
        if by_place:
            means = {place: fmean(values) for place, values in by_place.items()}
            found.append(
                {
                    "without or with": name.removeprefix(f"{OURS}, "),
                    "cells": len(means),
                    "runs": sum(map(len, by_place.values())),
                    "average": fmean(means.values()),
                    "worst run": min(min(values) for values in by_place.values()),
                    **{_at(place): mean for place, mean in means.items()},
                }
            )
    return found
