"""LAMB: Adam whose step in every layer is as long as the layer's weights, so that the batch can grow.

Source: You et al. 2020, "Large batch optimization for deep learning: training BERT in 76 minutes", arXiv:1904.00962,
Algorithm 2.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from cotrain.errors import InputError


class Lamb(torch.optim.Optimizer):
    """For each parameter tensor w, with Adam's means m and v of the gradient and of its square:

    u = m / (sqrt(v) + eps) + weight_decay * w
    w <- w - lr * ratio * u, with ratio = phi(|w|) / |u|

    The ratio is 1 where w or u is zero. Norms are those of whole tensors: of a sharded one, over all its shards.

    Args:
        params: parameters, or dicts of parameters and settings of their own.
        lr: step length as a share of the weights' norm, >= 0.
        betas: decay of m and of v, each in 0..1; paper: 0.9, 0.999.
        eps: keeps the quotient finite, > 0; paper: 1e-6.
        weight_decay: >= 0; paper: 0.01. The published runs decay and adapt no biases and no weights of norms: put
            those into a group with `weight_decay=0, adapt=False`.
        bias_correction: divide m and v by 1 - beta^t, as Algorithm 2 does; a warm-up of lr makes up for its lack.
        limits: (low, high) between which phi keeps the weights' norm; None for phi(z) = z.
        adapt: False forces the ratio to 1, which leaves AdamW.

    Raises:
        InputError: a setting out of its range, or a sparse gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        bias_correction: bool = True,
        limits: tuple[float, float] | None = None,
        adapt: bool = True,
    ):
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**settings, "bias_correction": bias_correction, "limits": limits, "adapt": adapt})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # Sharded and plain parameters, devices and types apart: foreach is one call for tensors of a kind.
            kinds: dict[Any, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    kinds.setdefault(_kind(parameter), []).append(parameter)
            for parameters in kinds.values():
                self._move(parameters, group)
        return loss

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [_gradient(parameter) for parameter in parameters]
        states = [self._state_of(parameter) for parameter in parameters]
        beta, beta_of_squares = group["betas"]
        weights = [_local(parameter) for parameter in parameters]
        means = [_local(state["exp_avg"]) for state in states]
        squares = [_local(state["exp_avg_sq"]) for state in states]
        torch._foreach_add_([state["step"] for state in states], 1)
        torch._foreach_lerp_(means, gradients, 1 - beta)
        torch._foreach_mul_(squares, beta_of_squares)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta_of_squares)

        roots = torch._foreach_sqrt(squares)
        if group["bias_correction"]:
            steps = [state["step"].item() for state in states]  # these live on the CPU: no wait for a device
            torch._foreach_div_(roots, [(1 - beta_of_squares**t) ** 0.5 for t in steps])
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_mul_(roots, [1 - beta**t for t in steps])
        else:
            torch._foreach_add_(roots, group["eps"])
        updates = torch._foreach_div(means, roots)
        if group["weight_decay"]:
            torch._foreach_add_(updates, weights, alpha=group["weight_decay"])
        if group["adapt"]:
            ratios = _ratios(parameters[0], weights, updates, group["limits"])
            torch._foreach_mul_(updates, list(ratios.unbind()))
        torch._foreach_add_(weights, updates, alpha=-group["lr"])

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


def _ratios(like: Any, weights: list[Tensor], updates: Sequence[Tensor], limits: tuple[float, float] | None) -> Tensor:
    """phi(|w|) / |u| of each parameter, 1 where either is zero; [parameters]."""
    exact = torch.promote_types(like.dtype, torch.float32)
    norms = torch.stack(torch._foreach_norm([*weights, *updates], dtype=exact))
    if _sharded(like):
        from torch.distributed.tensor import DTensor, Partial, Replicate

        # One sum over the shards for all parameters, and none over the copies of a shard.
        halves = [Replicate() if placement.is_replicate() else Partial() for placement in like.placements]
        norms = DTensor.from_local(norms.square(), like.device_mesh, halves).full_tensor().sqrt()
    of_weights, of_updates = norms.chunk(2)
    scaled = of_weights if limits is None else of_weights.clamp(*limits)
    there = (of_weights > 0) & (of_updates > 0)
    return torch.where(there, scaled / of_updates.where(there, 1), 1).to(like.dtype)


def _kind(parameter: Any) -> tuple[Any, ...]:
    sharding = (parameter.device_mesh, parameter.placements) if _sharded(parameter) else ()
    return (parameter.device, parameter.dtype, *sharding)


def _sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, asked without loading torch.distributed.tensor, which takes a second."""
    return hasattr(tensor, "placements")


def _local(tensor: Any) -> Tensor:
    """This rank's part: everything here but the norms goes number by number."""
    return tensor.to_local() if _sharded(tensor) else tensor


def _gradient(parameter: Any) -> Tensor:
    gradient = parameter.grad
    if gradient.is_sparse:
        raise InputError("Lamb takes no sparse gradients; make the embedding with sparse=False.")
    if _sharded(parameter) and gradient.placements != parameter.placements:
        gradient = gradient.redistribute(placements=parameter.placements)
    return _local(gradient)


def _check(settings: dict[str, Any]) -> None:
    low, high = settings["limits"] or (0, 0)
    for name, value, fits, wanted in (
        ("lr", settings["lr"], settings["lr"] >= 0, "is at least 0"),
        ("eps", settings["eps"], settings["eps"] > 0, "is above 0"),
        ("weight_decay", settings["weight_decay"], settings["weight_decay"] >= 0, "is at least 0"),
        ("betas", settings["betas"], all(0 <= beta < 1 for beta in settings["betas"]), "are two shares in 0..1"),
        ("limits", settings["limits"], 0 <= low <= high, "are two norms, the smaller one first"),
    ):
        if not fits:
            raise InputError(f"Lamb's {name} {wanted}; given: {value}.")
