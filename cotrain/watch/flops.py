"""How many floating-point operations a step costs, learner by learner, and what share of the machine that uses.

In a loop of your own::

    with count({"student": student, "teacher": teacher}) as counted:
        one_step()
    seconds = ...  # of a step, measured without counting
    share = utilization(counted.total, seconds, peak_of(torch.device("cuda")))
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cotrain.errors import InputError

Shape = Sequence[int]


@dataclass
class Flops:
    """Floating-point operations of matrix products, convolutions and attention; a multiply-add is two.

    Elementwise work and fused recurrent layers are not counted.
    """

    learners: dict[str, int]
    "Forward passes of each learner and backward passes through them."
    elsewhere: int = 0
    "In losses and whatever else belongs to no learner."

    @property
    def total(self) -> int:
        return sum(self.learners.values()) + self.elsewhere


@contextmanager
def count(nets: Mapping[str, nn.Module]) -> Iterator[Flops]:
    """Count what runs inside, on this process. What is computed is the same as without counting, only slower.

    A backward pass belongs to the learner whose forward made the graph, whoever owns the loss. What activation
    checkpointing computes a second time is not counted. Compiled nets run as they were written.

    Args:
        nets: the learners' nets by role; one may be inside a wrapper (DDP), as their own modules are looked at.
    """
    counted = Flops(dict.fromkeys(nets, 0))
    counter = FlopCounterMode(display=False, custom_mapping=_ATTENTION)
    # Its own tracker of modules cannot stand autograd.grad with respect to a module's input, and is not needed.
    counter.mod_tracker = _NoTracker()  # type: ignore[assignment]
    attribution = _Attribution(counter, counted)
    with ExitStack() as stack:
        for name, net in nets.items():
            # Every submodule, because a method may call a part of a net.
            for module in net.modules():
                for handle in attribution.watch(name, module):
                    stack.callback(handle.remove)
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # else torch never compiles what it skips here
        stack.enter_context(counter)
        stack.enter_context(attribution)
        yield counted


class _NoTracker:
    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: Any) -> None: ...


class _Attribution(TorchDispatchMode):
    """Says whose every operation is: in forward by the module that runs, in backward by who made the graph's node."""

    supports_higher_order_operators = True

    def __init__(self, counter: FlopCounterMode, counted: Flops):
        super().__init__()
        self.counter = counter
        self.counted = counted
        self.inside: list[str] = []  # modules entered, by their learner
        self.nodes: list[tuple[str, bool]] = []  # backward nodes entered, and whether the pass records a graph
        self.key = object()  # marks the nodes of this count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.counter.get_total_flops()
        result = func(*args, **(kwargs or {}))
        flops = self.counter.get_total_flops() - before
        if not flops:
            return result
        recorded = False
        owner = self.inside[-1] if self.inside else None
        if backward := torch._C._current_graph_task_id() != -1:
            owner, recorded = self.nodes[-1] if self.nodes else (None, False)
        # Operations that record a graph inside a backward pass that records none are a forward pass done again.
        if backward and torch.is_grad_enabled() and not recorded:
            return result
        if owner is None:
            self.counted.elsewhere += flops
        else:
            self.counted.learners[owner] += flops
        return result

    def watch(self, name: str, module: nn.Module) -> list[Any]:
        def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
            self._mark((args, kwargs), self.inside[-1] if self.inside else None)
            self.inside.append(name)

        def leave(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self.inside.pop()
            self._mark(output, name)

        return [
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave, with_kwargs=True, always_call=True),
        ]

    def _mark(self, tree: Any, name: str | None) -> None:
        """The unmarked part of the graph above these tensors was made by this learner (None: by nobody)."""
        todo: list[Any] = [tensor.grad_fn for tensor in _tensors(tree)]
        while todo:
            node = todo.pop()
            # Leaves' nodes outlive the step and compute nothing.
            if node is None or node.name().endswith("AccumulateGrad") or self.key in node.metadata:
                continue
            node.metadata[self.key] = name
            if name is not None:
                self._follow(node, name)
            todo += [parent for parent, _ in node.next_functions]

    def _follow(self, node: Any, name: str) -> None:
        def enter(_: Any) -> None:
            self.nodes.append((name, torch.is_grad_enabled()))

        def leave(gradients: Any, _: Any) -> None:
            self.nodes.pop()
            self._mark(gradients, name)  # where the backward pass itself is recorded, its graph is the learner's too

        node.register_prehook(enter)
        node.register_hook(leave)


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _tensors(value)
    elif is_dataclass(tree) and not isinstance(tree, type):
        yield from _tensors(vars(tree))


def _attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """Scores and their use: two products for each head, (Q, D) x (D, K) and (Q, K) x (K, V)."""
    *heads, queries, width = query
    return 2 * torch.Size(heads).numel() * queries * key[-2] * (width + value[-1])


def _attention_backward(_: Shape, query: Shape, key: Shape, value: Shape, *__: Any, **___: Any) -> int:
    """Twice the forward. Torch's own formula counts the scores that fused kernels compute again."""
    return 2 * _attention(query, key, value)


_ATTENTION: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}
_ATTENTION |= {
    getattr(torch.ops.aten, f"_scaled_dot_product_{kind}_backward"): _attention_backward
    for kind in ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
}


@dataclass(frozen=True)
class Peak:
    """What a device can do at best."""

    flops: float
    "Floating-point operations in a second."
    what: str
    "Where the figure is from."


# Dense bf16 products with fp32 sums, in TFLOP/s, by the makers' data sheets (half of what is given with sparsity); the
# first name whose words all stand in the device's name.
SPECIFIED = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "H200 NVL": 836.0,
    "H200": 989.0,
    "GH200": 989.0,
    "H100 NVL": 835.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "A800": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "MI325X": 1307.4,
    "MI300X": 1307.4,
    "MI250X": 383.0,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}


def peak_of(device: torch.device) -> Peak:
    """A GPU's dense bf16 peak as its maker states it; measured (`measured_peak`) where the device is in no table."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if (found := specified(name)) is not None:
            return Peak(found, f"against the dense bf16 peak of {name}")
    return measured_peak(device)


def specified(name: str) -> float | None:
    """Dense bf16 FLOP/s of a GPU by its name as the driver gives it, None if it is not in the table."""
    words = name.replace("-", " ").split()
    for known, tera in SPECIFIED.items():
        if all(word in words for word in known.split()):
            return tera * 1e12
    return None


def measured_peak(
    device: torch.device, seconds: float = 1.0, size: int = 1024, dtype: torch.dtype = torch.float32
) -> Peak:
    """The fastest of the matrix products that fit into some seconds, with as many threads as torch has now."""
    times = product_seconds(device, seconds, size, dtype)
    return Peak(2 * size**3 / min(times), "against measured matmul peak")


def product_seconds(
    device: torch.device, seconds: float = 1.0, size: int = 1024, dtype: torch.dtype = torch.float32
) -> list[float]:
    """How long products of two square matrices of `size` rows took, one after another, for about so many seconds."""
    left, right = torch.randn(2, size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype).unbind()
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times: list[float] = []
    begin = time.perf_counter()
    # The first product pays for what is loaded and laid out once.
    while len(times) < 2 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        left @ right
        wait()
        times.append(time.perf_counter() - start)
    return times[1:]


def utilization(flops: float, seconds: float, peak: Peak, devices: int = 1) -> float:
    """Share of what the devices could do that went into the model: flops / (seconds x devices x peak).

    Known as MFU, model FLOPs utilization. Of one process: its own FLOPs and one device.

    Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B.

    Raises:
        InputError: the time or the number of devices is not positive.
    """
    if not seconds > 0 or devices < 1:
        raise InputError(f"A utilization needs a time and a device, not {seconds} s on {devices} devices.")
    return flops / (seconds * devices * peak.flops)
