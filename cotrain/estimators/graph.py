"""Graph spreading: labels flow along a graph that joins every row to its nearest neighbours.

Source: Zhou et al., "Learning with local and global consistency", NIPS 2003 (the spreading); Zelnik-Manor & Perona,
"Self-tuning spectral clustering", NIPS 2004 (local scaling); Zhu, Ghahramani & Lafferty, ICML 2003 (class masses).
Legend: n labelled rows, u unlabelled rows, N = n + u, C classes, k neighbours.
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from cotrain.errors import InputError
from cotrain.estimators.labels import class_prior, counts, encode, row_keys, stable_order, transduction
from cotrain.estimators.learners import SemiSupervisedClassifier

_SCALE_NEIGHBOUR = 7  # a row's kernel width is the distance to its seventh neighbour (Zelnik-Manor & Perona)


class GraphSpreading(SemiSupervisedClassifier):
    """Label spreading on a sparse graph, with a kernel width for each row instead of one gamma to tune.

    Args:
        n_neighbors: k, edges from each row; an edge counts when either end has the other among its k.
        alpha: what a row takes from its neighbours, against its own label, in (0, 1); the nearer to 1, the farther
            labels reach. The paper: 0.99.
        metric: "euclidean" or "cosine".
        gamma: None: the weight of an edge is exp(-d^2 / (s_i s_j)), s the distance to the seventh neighbour;
            a number: exp(-gamma d^2).
        prior: None, or shares of the classes to which the unlabelled rows' masses are scaled: "labelled", an array [C]
            or a dict class -> share.
        tolerance: relative residual at which the solver stops; coarse values leave far rows without a label.

    Attributes:
        label_distributions_ [N, C], classes_, n_iter_ (solver steps, most of any class), history_;
        transduction_: y with all gaps filled.
    """

    def __init__(self, *, n_neighbors=10, alpha=0.9, metric="euclidean", gamma=None, prior=None, tolerance=1e-10):
        self.n_neighbors = n_neighbors
        self.alpha = alpha
        self.metric = metric
        self.gamma = gamma
        self.prior = prior
        self.tolerance = tolerance

    def fit(self, X, y) -> "GraphSpreading":
        """Fits on X, array or sparse [N, features], and y [N] with gaps (-1, NaN, None or empty)."""
        if not 0 < self.alpha < 1 or self.n_neighbors < 1:
            raise InputError(f"alpha must be in (0, 1), n_neighbors 1 or more; got {self.alpha}, {self.n_neighbors}")
        if self.metric not in ("euclidean", "cosine"):
            raise InputError(f'metric is {self.metric!r}; use "euclidean" or "cosine"')
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32])
        self.classes_, code = encode(y, X.shape[0])
        fallback = class_prior("labelled" if self.prior is None else self.prior, self.classes_, code)
        order = stable_order(code, X)
        self._sparse = sparse.issparse(X)
        X, label = X[order], code[order]
        first, node = _distinct(X)  # copies of a row are one node, or they would be each other's only neighbours
        self._reference = self._place(X[first])
        given = label >= 0
        mass_nodes = np.zeros((len(first), len(self.classes_)))
        np.add.at(mass_nodes, (node[given], label[given]), 1.0)
        mass_nodes, self.n_iter_ = self._solve(self._spread(), mass_nodes)

        if self.prior is not None and not given.all():
            mass_C = mass_nodes[node[~given]].sum(axis=0)
            mass_nodes = mass_nodes * (fallback / np.maximum(mass_C, np.finfo(float).tiny))
        total = mass_nodes.sum(axis=1, keepdims=True)
        reached = total[:, 0] > 0  # a part of the graph without a labelled row gets the prior
        self._distribution = np.where(reached[:, None], mass_nodes / np.where(total > 0, total, 1), fallback)
        self.label_distributions_ = np.empty((len(order), len(self.classes_)))
        self.label_distributions_[order] = self._distribution[node]
        found = np.where(code >= 0, code, self.label_distributions_.argmax(axis=1))
        self.transduction_ = transduction(y, self.classes_, found)
        self.history_ = [
            {
                "round": 1,
                "added": counts(self.classes_, found[code < 0]),
                "unreached": int((~reached[node]).sum()),
                "steps": self.n_iter_,
            }
        ]
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Class probabilities [rows, C]: mean of the nearest training rows' distributions, weighted by the kernel."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        square, index = self._near(self._place(X))
        weight, index = self._weights(square, index, _widths(square, self._narrowest))
        weight += np.finfo(float).tiny  # a row far from everything: plain mean of its neighbours
        weight /= weight.sum(axis=1, keepdims=True)
        return np.einsum("qk,qkc->qc", weight, self._distribution[index])

    def _place(self, X):
        """Rows such that Euclidean distances are those of the metric; all sparse or all dense, as the training rows."""
        X = normalize(X) if self.metric == "cosine" else X
        if self._sparse:
            return sparse.csr_array(X, dtype=np.float64)  # distances are differences of products
        return X.toarray() if sparse.issparse(X) else X

    def _spread(self) -> sparse.csr_array:
        """The graph of the training rows, every edge divided by the roots of both ends' degrees."""
        nodes = self._reference.shape[0]
        if nodes == 1:
            self._width, self._narrowest = np.ones(1), 1.0
            return sparse.csr_array((1, 1))
        square, index = self._near(None)
        own = np.sqrt(square[:, min(_SCALE_NEIGHBOUR, square.shape[1]) - 1])
        self._narrowest = float(own[own > 0].min()) if own.any() else 1.0
        self._width = _widths(square, self._narrowest)
        weight, index = self._weights(square, index, self._width)
        row = np.repeat(np.arange(nodes), index.shape[1])
        graph = sparse.csr_array((weight.ravel(), (row, index.ravel())), shape=(nodes, nodes))
        graph = graph.maximum(graph.T)
        root = np.sqrt(np.maximum(graph.sum(axis=1), np.finfo(float).tiny))
        return sparse.diags_array(1 / root) @ graph @ sparse.diags_array(1 / root)

    def _near(self, query) -> tuple[np.ndarray, np.ndarray]:
        """Squared distances and numbers of the nearest training rows, nearest first; query=None: of their own rows."""
        rows = self._reference.shape[0]
        k = min(max(self.n_neighbors, _SCALE_NEIGHBOUR), rows - (query is None))
        if sparse.issparse(self._reference):
            return _sparse_neighbours(self._reference, query, k)
        distance, index = NearestNeighbors(n_neighbors=k).fit(self._reference).kneighbors(query)
        return distance**2, index

    def _weights(self, square, index, width) -> tuple[np.ndarray, np.ndarray]:
        """Kernel weights of the edges to the first n_neighbors, and those neighbours' numbers."""
        square, index = square[:, : self.n_neighbors], index[:, : self.n_neighbors]
        scale = width[:, None] * self._width[index] if self.gamma is None else 1 / self.gamma
        return np.exp(-square / scale), index

    def _solve(self, spread, start_NC) -> tuple[np.ndarray, int]:
        """(1 - alpha) (I - alpha S)^-1 Y by conjugate gradients, class by class; the most steps of any class."""
        system = sparse.eye_array(spread.shape[0], format="csr") - self.alpha * spread
        columns, steps = [], np.zeros(start_NC.shape[1], dtype=int)
        for c, start in enumerate(start_NC.T):

            def count(_, c=c):
                steps[c] += 1

            column, _ = cg(system, (1 - self.alpha) * start, rtol=self.tolerance, callback=count)
            columns.append(np.maximum(column, 0))
        return np.stack(columns, axis=1), int(steps.max())


def _distinct(X) -> tuple[np.ndarray, np.ndarray]:
    """Number of the first row of each content, in the order of the rows, and for each row the number of its content."""
    _, first, content = np.unique(row_keys(X), return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[content]


def _widths(square: np.ndarray, narrowest: float) -> np.ndarray:
    """Kernel width of each row; where seven neighbours lie on it, the narrowest of the training rows."""
    width = np.sqrt(square[:, min(_SCALE_NEIGHBOUR, square.shape[1]) - 1])
    return np.where(width > 0, width, narrowest)


def _sparse_neighbours(reference, query, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Like `kneighbors` with squared distances, by sparse products in blocks of about 32 MB."""
    own = query is None
    query = reference if own else query
    norm, norm_query = (x.multiply(x).sum(axis=1) for x in (reference, query))
    squares, indices = [], []
    for block in gen_batches(query.shape[0], max(1, 4_000_000 // reference.shape[0])):
        square = norm_query[block, None] + norm - 2 * (query[block] @ reference.T).toarray()
        if own:
            square[np.arange(len(square)), np.arange(block.start, block.stop)] = np.inf
        near = np.argpartition(square, k - 1, axis=1)[:, :k]
        square = np.take_along_axis(square, near, axis=1)
        rank = np.argsort(square, axis=1, kind="stable")
        indices.append(np.take_along_axis(near, rank, axis=1))
        square = np.take_along_axis(square, rank, axis=1)
        # Rounding of the products is no distance.
        squares.append(np.where(square > 16 * np.finfo(float).eps * norm_query[block, None], square, 0))
    return np.concatenate(squares), np.concatenate(indices)
