"""Train things together: streams give batches; a method gives each learner its loss; the engine makes it
learn; the report says what happened."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public names and where they live. They are imported on first use, so that `import cotrain` loads neither torch nor
# scikit-learn.
_HOMES = {
    "Chain": "gradients.rule",
    "CoTrainClassifier": "auto.classifier",
    "Exchange": "exchange",
    "InputError": "errors",
    "Learner": "learner",
    "Losses": "method",
    "Method": "method",
    "Once": "stream",
    "Rows": "stream",
    "Run": "run",
    "Stream": "stream",
    "chain": "gradients.rule",
    "check": "conformance",
    "fit": "auto.fit",
    "follow": "learner",
    "note": "report",
    "post": "exchange",
    "update": "ownership",
    "without": "exchange",
}
_MODULES = ("engine", "place", "stack")  # documented as `cotrain.engine.fit` and so on
__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from cotrain.auto.classifier import CoTrainClassifier as CoTrainClassifier
    from cotrain.auto.fit import fit as fit
    from cotrain.conformance import check as check
    from cotrain.errors import InputError as InputError
    from cotrain.exchange import Exchange as Exchange
    from cotrain.exchange import post as post
    from cotrain.exchange import without as without
    from cotrain.gradients.rule import Chain as Chain
    from cotrain.gradients.rule import chain as chain
    from cotrain.learner import Learner as Learner
    from cotrain.learner import follow as follow
    from cotrain.method import Losses as Losses
    from cotrain.method import Method as Method
    from cotrain.ownership import update as update
    from cotrain.report import note as note
    from cotrain.run import Run as Run
    from cotrain.stream import Once as Once
    from cotrain.stream import Rows as Rows
    from cotrain.stream import Stream as Stream


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"cotrain.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'cotrain' has no attribute {name!r}")
    return getattr(import_module(f"cotrain.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
