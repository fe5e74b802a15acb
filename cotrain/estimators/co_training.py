"""Co-training: two learners on two views of the same rows give each other labels.

Source: Blum & Mitchell, "Combining labeled and unlabeled data with co-training", COLT 1998, Table 1; random halves of
the columns where no views are known: Nigam & Ghani, CIKM 2000.
Legend: u unlabelled rows, C classes; learner 0 sees view A, learner 1 view B.
"""

import numpy as np
from scipy import sparse
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import counts, encode, stable_order, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier, fresh, probabilities, trained
from cotrain.estimators.self_training import choose_by_quota, quotas


class CoTraining(SemiSupervisedClassifier):
    """Two learners, each trained on its own view and on rows that the other one labelled.

    X may be one matrix, cut by `view_a` and `view_b`, or a pair of matrices with the same rows.

    Args:
        a, b: the learners of views A and B; b=None: a copy of `a`.
        view_a, view_b: columns as numbers, names, slice or mask; or a function of X that returns a matrix. One alone:
            the other view is the remaining columns. Neither: a random half of the columns each.
        pool: how many unlabelled rows the learners choose from, refilled at random after every round; None: all.
        per_round: rows that each learner labels in a round: an int, a float as share of the unlabelled rows, or a
            dict class -> rows (the paper's p and n).
        rounds: most rounds; None: no limit.
        prior: shares of the classes in the quotas: "labelled", an array [C] or a dict class -> share.
        threshold: least probability (0..1) of a guess that is passed on.
        teach: "common": both learners train on all guesses; "other": each on its own labels and the other's guesses.
        combine: how the two probabilities become one, "product" (normalised) or "mean".
        random_state: seed of the pool, of random views and of learners whose own random state is not set.

    Attributes:
        learners_, views_, classes_, n_iter_, history_ (a dict per round);
        transduction_: y with the gaps filled; labeled_iter_: the round that labelled a row, 0 given, -1 never;
        termination_condition_: "no_change" (no guess was confident enough), "max_iter" or "all_labeled".
    """

    def __init__(
        self,
        a,
        b=None,
        *,
        view_a=None,
        view_b=None,
        pool=None,
        per_round=0.04,
        rounds=8,
        prior="labelled",
        threshold=0.0,
        teach="common",
        combine="product",
        random_state=None,
    ):
        self.a = a
        self.b = b
        self.view_a = view_a
        self.view_b = view_b
        self.pool = pool
        self.per_round = per_round
        self.rounds = rounds
        self.prior = prior
        self.threshold = threshold
        self.teach = teach
        self.combine = combine
        self.random_state = random_state

    def fit(self, X, y) -> "CoTraining":
        """Fits on X, a matrix [n + u, features] or a pair of them, and y [n + u] with gaps (-1, NaN, None or empty)."""
        if self.teach not in ("common", "other"):
            raise InputError(f'teach is {self.teach!r}; use "common" or "other"')
        if self.combine not in ("product", "mean"):
            raise InputError(f'combine is {self.combine!r}; use "product" or "mean"')
        if self.pool is not None and self.pool < 1:
            raise InputError(f"pool is {self.pool}; use a number of rows, at least 1, or None for all")
        rng = check_random_state(self.random_state)
        start = [fresh(learner, rng) for learner in self._learners()]
        views = self._cut(X, rng)
        if views[0].shape[0] != views[1].shape[0]:
            raise InputError(
                f"view A has {views[0].shape[0]} rows, view B {views[1].shape[0]}; they need the same rows"
            )
        self.classes_, code = encode(y, views[0].shape[0])
        order = stable_order(code, *views)
        views = [view[order] for view in views]
        known, since = code[order], np.where(code[order] >= 0, 0, -1)
        labels = [known.copy(), known.copy()]  # what each learner trains on
        quota = quotas(self.per_round, self.prior, self.classes_, code)
        queue = np.flatnonzero(known < 0)
        if self.pool is not None:
            queue = rng.permutation(queue)
        pool, queue = np.split(queue, [len(queue) if self.pool is None else self.pool])

        self.history_: list[dict] = []
        self.termination_condition_ = "all_labeled"
        self.learners_ = self._train(start, views, labels)
        while len(pool):
            if len(self.history_) == self.rounds:
                self.termination_condition_ = "max_iter"
                break
            turn = len(self.history_) + 1
            guess_2p, sure_2p = np.full((2, len(pool)), -1), np.zeros((2, len(pool)))
            for i, learner in enumerate(self.learners_):
                probability = probabilities(learner, views[i][pool], self.classes_)
                chosen = choose_by_quota(probability, quota)
                chosen = chosen[probability[chosen].max(axis=1) >= self.threshold]
                guess_2p[i, chosen] = probability[chosen].argmax(axis=1)
                sure_2p[i, chosen] = probability[chosen].max(axis=1)
            # A row that both chose gets the label of the more confident one.
            final = np.take_along_axis(guess_2p, sure_2p.argmax(axis=0)[None], axis=0)[0]
            taken = final >= 0
            for i, label in enumerate(labels):
                lesson = final if self.teach == "common" else guess_2p[1 - i]
                label[pool[lesson >= 0]] = lesson[lesson >= 0]
            known[pool[taken]], since[pool[taken]] = final[taken], turn
            conflicts = int(((guess_2p >= 0).all(axis=0) & (guess_2p[0] != guess_2p[1])).sum())
            self.history_.append(
                {
                    "round": turn,
                    "added": counts(self.classes_, final[taken]),
                    "conflicts": conflicts,
                    "pool": len(pool),
                    "labelled": int((known >= 0).sum()),
                }
            )
            if not taken.any():
                self.termination_condition_ = "max_iter" if turn == self.rounds else "no_change"
                break
            refill, queue = np.split(queue, [taken.sum()])
            pool = np.concatenate([pool[~taken], refill])
            self.learners_ = self._train(start, views, labels)

        self.n_iter_ = len(self.history_)
        found = np.empty_like(code)
        self.labeled_iter_ = np.empty_like(code)
        found[order], self.labeled_iter_[order] = known, since
        self.transduction_ = transduction(y, self.classes_, found)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C] of both learners together."""
        check_is_fitted(self)
        a, b = (probabilities(*pair, self.classes_) for pair in zip(self.learners_, self._cut(X)))
        if self.combine == "mean":
            return (a + b) / 2
        both = np.maximum(a, 1e-12) * np.maximum(b, 1e-12)  # one learner's zero is no veto where both have one
        return both / both.sum(axis=1, keepdims=True)

    def _learners(self) -> list:
        return [self.a, self.a if self.b is None else self.b]

    def _train(self, start, views, labels) -> list:
        return [trained(*each, self.classes_) for each in zip(start, views, labels)]

    def _cut(self, X, rng=None) -> list:
        """The two views of X, checked; the columns are chosen when `rng` is given, in `fit`."""
        if _is_pair(X):
            if rng is not None and not (self.view_a is None and self.view_b is None):
                raise InputError("X is a pair of matrices: view_a and view_b must stay None")
            cut = list(X)
        elif callable(self.view_a) or callable(self.view_b):
            if not (callable(self.view_a) and callable(self.view_b)):
                raise InputError("view_a and view_b must both be functions of X, or neither")
            cut = [self.view_a(X), self.view_b(X)]
        else:
            X = validate_data(self, X, accept_sparse="csr", ensure_all_finite=False, reset=rng is not None)
            if rng is not None:
                self.views_ = self._columns(X.shape[1], rng)
            return [X[:, columns] for columns in self.views_]
        if rng is not None:
            self.views_ = [self.view_a, self.view_b]
        return [
            check_array(view, accept_sparse="csr", ensure_all_finite=False, input_name=f"view {name}")
            for name, view in zip("AB", cut)
        ]

    def _columns(self, d: int, rng) -> list[np.ndarray]:
        """Column numbers of view A and view B."""
        if d < 2:
            raise InputError(f"two views need at least 2 columns; X has {d} feature(s)")
        if self.view_a is None and self.view_b is None:
            return [np.sort(half) for half in np.array_split(rng.permutation(d), 2)]
        given = [self._numbers(view, d) for view in (self.view_a, self.view_b) if view is not None]
        rest = np.setdiff1d(np.arange(d), given[0])
        chosen = given if len(given) == 2 else [given[0], rest] if self.view_b is None else [rest, given[0]]
        for name, view in zip("AB", chosen):
            if not len(view):
                raise InputError(f"view {name} has no columns; X has {d}")
        common = np.intersect1d(chosen[0], chosen[1])
        if len(common):
            raise InputError(f"views A and B share the columns {common[:10].tolist()}; a column belongs to one view")
        return chosen

    def _numbers(self, view, d: int) -> np.ndarray:
        if not isinstance(view, slice) and len(view) and all(isinstance(name, str) for name in view):
            names = list(getattr(self, "feature_names_in_", []))
            missing = [name for name in view if name not in names]
            if missing:
                raise InputError(f"X has no column {missing[0]!r}; it has {names[:20] or 'no column names'}")
            return np.array([names.index(name) for name in view])
        try:
            return np.arange(d)[view]
        except IndexError as error:
            raise InputError(f"a view asks for columns that X ({d} columns) does not have: {error}") from None


def _is_pair(X) -> bool:
    return (
        isinstance(X, (tuple, list))
        and len(X) == 2
        and all(sparse.issparse(view) or getattr(view, "ndim", 0) == 2 for view in X)
    )
