"""The conformance suite: what every method promises, whoever wrote it. `cotrain.check(MyMethod)` runs it.

The checks that compare several ranks with one stand in `conformance_ranks`.
"""

import importlib
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from cotrain import engine, place
from cotrain.errors import CotrainError, InputError
from cotrain.learner import Follower, Learner
from cotrain.method import Example, Losses, Method, Roles
from cotrain.ownership import listed, owners_in
from cotrain.randomness import generator
from cotrain.recipe import PACKAGE

STEPS = 6


class CheckFailed(CotrainError, AssertionError):
    """A method breaks a promise; the message names the method and the promise."""


def check(method: type[Method], ranks: bool = True, device: str = "cpu") -> None:
    """Run every check on a method class that has an `example()`.

    Args:
        ranks: also on two processes on this machine, which import the class by its name: it stands on the top level of
            a module, and a script that checks it does so under `if __name__ == "__main__"`. These run on the CPU.
        device: where the other checks run, as `fit` takes it.

    Raises:
        CheckFailed: lists every check that failed, with its reason.
    """
    from cotrain.conformance_ranks import RANK_CHECKS, RANKS
    from cotrain.crew import Crew

    failures = []

    def run(one: Callable[..., None], *args: Any) -> None:
        try:
            one(method, *args)
        except CheckFailed as failure:
            failures.append(f"{one.__name__.removeprefix('check_')}: {failure}")
        except Exception as error:  # whatever a method does wrong, the other checks are run too
            failures.append(f"{one.__name__.removeprefix('check_')}: {type(error).__name__}: {error}")

    run(check_example, device)
    if failures:  # no other check would say anything of the method
        raise CheckFailed(f"{method.__name__} fails a check before all others:\n{failures[0]}")
    for one in CHECKS:
        run(one, device)
    if ranks:
        with ExitStack() as crews:
            crew = None
            for each in RANK_CHECKS:
                if crew is None or not crew.alive:  # a failure may have ended it
                    crew = crews.enter_context(Crew(RANKS))
                run(each, crew)
    if failures:
        total = len(CHECKS) + (len(RANK_CHECKS) if ranks else 0)
        raise CheckFailed(f"{method.__name__} fails {len(failures)} of {total} checks:\n" + "\n".join(failures))


def methods() -> list[type[Method]]:
    """Every method in the package, found by walking the tree."""
    found: list[type[Method]] = []
    for path in sorted(PACKAGE.joinpath("methods").rglob("[!_]*.py")):
        module = module_of(path)
        for _, thing in inspect.getmembers(module, inspect.isclass):
            if issubclass(thing, Method) and not inspect.isabstract(thing) and thing.__module__ == module.__name__:
                found.append(thing)
    return found


def check_example(method: type[Method], device: str = "cpu") -> None:
    """`example()` makes the same weights each time."""
    examples = [method.example() for _ in range(2)]
    for example in examples:
        engine.prepare(example.learners, place.device_of(device))
    first, second = (_parameters(example.learners) for example in examples)
    for name in first:
        _require(
            _equal(first[name], second[name]),
            f"example() gives {name!r} other weights each time; seed its net as cotrain.methods.examples does",
        )


def check_losses(method: type[Method], device: str = "cpu") -> None:
    """Losses are finite scalars, and every owner is a learner with an optimizer."""
    example = method.example()
    given = 0
    for losses in _steps(example, device):
        given += len(losses)
        for key, value in losses.items():
            for name in owners_in(key):
                _require(name in example.learners, f"owner {name!r} is no learner")
                _require(example.learners[name].optimizer is not None, f"owner {name!r} has no optimizer")
            for loss in listed(value):
                _require(isinstance(loss, Tensor), f"the loss of {key!r} is a {type(loss).__name__}, not a tensor")
                _require(loss.shape == (), f"the loss of {key!r} has shape {tuple(loss.shape)}, not a scalar")
                _require(bool(loss.isfinite()), f"the loss of {key!r} is {loss.item()}")
        engine.update(example.learners, losses)
    _require(given > 0, "the steps gave no loss")


def check_ownership(method: type[Method], device: str = "cpu") -> None:
    """The step itself moves no weight; after it the owners move, and nobody else but followers."""
    example = method.example()
    engine.prepare(example.learners, place.device_of(device))
    before = _parameters(example.learners)
    seen: set[str] = set()
    moved: set[str] = set()
    for losses in _steps(example, device):
        after = _parameters(example.learners)
        for name in example.learners:
            _require(_equal(before[name], after[name]), f"the step itself moved the weights of {name!r}")
        owners = {name for key in losses for name in owners_in(key)}
        engine.update(example.learners, losses)
        after = _parameters(example.learners)
        moving = {name for name in after if not _equal(before[name], after[name])}
        for name in sorted(moving - owners):
            _require(isinstance(example.learners[name], Follower), f"{name!r} owns no loss and moved")
        seen, moved, before = seen | owners, moved | moving, after
    for name in sorted(seen - moved):
        raise CheckFailed(f"{name!r} owns a loss and did not move")


def check_same_seed(method: type[Method], device: str = "cpu") -> None:
    """The same seed gives the same weights, bit for bit."""
    _require(_equal(train(method, device), train(method, device)), "two runs with one seed differ")


def check_order_free(method: type[Method], device: str = "cpu") -> None:
    """Neither the order of the losses nor that of the learners changes anything: roles have names, not places."""

    class Reversed(method):  # type: ignore[valid-type,misc]
        def step(self, learners, batch, memory):
            return dict(reversed(super().step(learners, batch, memory).items()))

    def losses(example: Example) -> Example:
        settings = {f.name: getattr(example.method, f.name) for f in fields(example.method)}
        return replace(example, method=Reversed(**settings))

    def learners(example: Example) -> Example:
        return replace(example, learners=dict(reversed(example.learners.items())))

    plain = train(method, device)
    _require(close(plain, train(method, device, change=losses)), "the order of the losses changes the weights")
    _require(close(plain, train(method, device, change=learners)), "the order of the learners changes the weights")


def check_resume(method: type[Method], device: str = "cpu") -> None:
    """Stopped half-way and resumed equals an unbroken run, bit for bit: weights, optimizers, memory, streams."""
    straight = train(method, device)
    with tempfile.TemporaryDirectory() as folder:
        train(method, device, steps=STEPS // 2, out=folder)
        resumed = train(method, device, out=folder)
    _require(_equal(straight, resumed), "a resumed run differs from an unbroken one")


def check_microbatches(method: type[Method], device: str = "cpu") -> None:
    """Two microbatches equal one batch, or the class says `whole_batch`."""
    if method.example().method.whole_batch:
        try:
            train(method, device, microbatches=2)
        except InputError:
            return
        raise CheckFailed("whole_batch is set, but microbatches were not refused")
    _require(
        close(train(method, device), train(method, device, microbatches=2)),
        "two microbatches differ from one batch (a method that looks across the batch, or divides by a count that "
        "depends on the data, says whole_batch = True)",
    )


def check_bfloat16(method: type[Method], device: str = "cpu") -> None:
    """Under bf16 autocast the weights stay finite."""
    for name, weights in train(method, device, precision="bf16").items():
        _require(all(bool(w.isfinite().all()) for w in weights), f"{name!r} has weights that are not finite in bf16")


def check_fields(method: type[Method], device: str = "cpu") -> None:
    """Every field acts: some other value of it changes the weights."""
    plain = train(method, device)
    hints = get_type_hints(method)
    for field in fields(method):
        value = getattr(method.example().method, field.name)
        others = _other_values(value, hints[field.name])
        _require(
            bool(others),
            f"cannot vary field {field.name!r} of type {hints[field.name]}; use numbers, bools or Literals",
        )
        _require(
            any(_acts(method, device, field.name, other, plain) for other in others),
            f"field {field.name!r} changes nothing",
        )


def _acts(method: type[Method], device: str, name: str, value: Any, plain: Mapping[str, list[Tensor]]) -> bool:
    def change(example: Example) -> Example:
        return replace(example, method=replace(example.method, **{name: value}))

    try:
        return not _equal(plain, train(method, device, change=change))
    except InputError:
        return False  # a value that the method refuses by name; another one may do
    except CotrainError:
        return True  # a loss that is no longer finite
    except Exception:
        return False  # a value that makes no sense here, as a count of 0 may; another one may do


def _other_values(value: Any, hint: Any) -> list[Any]:
    """Some other values of a field: smaller and larger numbers; of a dataclass, copies with one field changed."""
    if is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value))
        inner = [
            (f.name, other) for f in fields(value) for other in _other_values(getattr(value, f.name), hints[f.name])
        ]
        return [copy for name, other in inner if (copy := _with(value, name, other)) is not None]
    if get_origin(hint) is Literal:
        return [other for other in get_args(hint) if other != value]
    if get_origin(hint) in (Union, UnionType):
        return [other for part in get_args(hint) if part is not type(None) for other in _other_values(value, part)]
    if hint is bool:
        return [not value]
    if hint is int:
        return [other for other in (value or 0, (value or 0) + 1, (value or 0) + 3, 1, 0) if other != value]
    if hint is float:
        start = value or 0.0
        return [other for other in (start * 0.5, start * 2, start + 1, 0.5, 0.0) if other != value]
    return []


def _with(settings: Any, name: str, value: Any) -> Any:
    """A copy with another value of one field; None if it refuses that by name."""
    try:
        return replace(settings, **{name: value})
    except InputError:
        return None


def train(
    method: type[Method],
    device: str = "cpu",
    steps: int = STEPS,
    change: Callable[[Example], Example] = lambda example: example,
    **settings: Any,
) -> dict[str, list[Tensor]]:
    """The weights after a short run of the method's example."""
    example = change(method.example())
    engine.fit(example.method, example.learners, example.streams, steps, device=device, **settings)
    return _weights(example.learners)


def _steps(example: Example, device: str) -> Iterator[Losses]:
    """The losses of a few steps; it is the caller's to update between them."""
    where = place.device_of(device)
    engine.prepare(example.learners, where)
    roles = Roles("learner", example.learners)
    memory = place.move(example.method.memory(roles), where)
    for number in range(STEPS):
        memory |= {"step": number, "generator": generator("check", number)}
        batch = {
            name: Roles(f"field of stream {name!r}", place.move(next(stream), where))
            for name, stream in example.streams.items()
        }
        yield example.method.step(roles, Roles("stream", batch), memory)


def _parameters(learners: Mapping[str, Learner]) -> dict[str, list[Tensor]]:
    return {name: [w.detach().clone() for w in learner.net.parameters()] for name, learner in learners.items()}


def _weights(learners: Mapping[str, Learner]) -> dict[str, list[Tensor]]:
    return {name: [w.detach().clone() for w in learner.net.state_dict().values()] for name, learner in learners.items()}


def _equal(one: Any, two: Any) -> bool:
    """Bit for bit, over dicts and lists of tensors."""
    if isinstance(one, Mapping):
        return all(_equal(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return all(map(_equal, one, two))
    return torch.equal(one, two)


def close(one: Mapping[str, list[Tensor]], two: Mapping[str, list[Tensor]], tolerance: float = 1e-5) -> bool:
    return all(
        torch.allclose(a, b, rtol=tolerance, atol=tolerance)
        for name in one
        for a, b in zip(one[name], two[name], strict=True)
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise CheckFailed(message)


CHECKS: tuple[Callable[..., None], ...] = (
    check_losses,
    check_ownership,
    check_same_seed,
    check_order_free,
    check_resume,
    check_microbatches,
    check_bfloat16,
    check_fields,
)


def module_of(path: Path) -> ModuleType:
    """The module of a file of the package, or that its card stands beside."""
    inside = path.with_suffix("").relative_to(PACKAGE)
    return importlib.import_module(".".join(("cotrain", *inside.parts)))
