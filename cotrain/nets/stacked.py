"""N nets of one architecture run as one: one matrix product a layer in the place of N, one grouped convolution of N.

`Nets` takes the nets' weights and buffers into one tensor each, [N, ...], and leaves the nets views of them. Layers
that are known here run in one of three layouts; nets of other layers run through `torch.func.vmap`, which is slower.
Legend: N nets, B examples, C channels, I inputs and O outputs of a layer.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from cotrain.errors import InputError
from cotrain.nets.headed import Headed

SHARED, ROWS, CHANNELS = "[B, ...] for all nets", "[N, B, ...]", "[B, N * C, ...]"


class Laid(NamedTuple):
    """The value of N nets at one place, and how it lies: one for all of them, or each its own."""

    x: Tensor
    layout: str


class Context(NamedTuple):
    """What a layer needs besides its input."""

    number: int  # N
    generators: Sequence[torch.Generator] | None  # of each net's noise in this call


Run = Callable[[Laid, Context], Laid]
_CONVOLUTIONS: dict[type, Callable[..., Tensor]] = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
_ELEMENTWISE = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh),
    *(nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid),
)
_POOLING = {  # and the dimensions that each pools
    **dict.fromkeys((nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d), 1),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), 2),
    **dict.fromkeys((nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d), 3),
    nn.Upsample: 0,  # takes batches of channels only
}


class Unstackable(InputError):
    """A net, or a pair of nets, that cannot run as one; the message says why."""


class Nets:
    """N nets of one architecture as one function of their inputs.

    Args:
        nets: of the same modules, settings, shapes and modes (`architecture` is equal).

    Raises:
        Unstackable: fewer than two nets, unequal ones, or layers whose noise cannot be drawn for each net apart.
    """

    def __init__(self, nets: Sequence[nn.Module]):
        if len(nets) < 2 or any(architecture(net) != architecture(nets[0]) for net in nets[1:]):
            raise Unstackable("Only two or more nets with the same modules, settings, shapes and modes run as one.")
        self.nets = list(nets)
        self.modules = [[*net.modules()] for net in nets]
        self.random = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.training for m in self.modules[0])
        if self.random and any(p.device.type != "cpu" for p in nets[0].parameters()):
            raise Unstackable("Each net's own noise (dropout) is drawn for N nets on a CPU only.")
        self._modes = _modes(self.modules[0])
        tensors = {id(t): torch.stack([t.detach() for t in ts]) for t, ts in self._columns("parameters")}
        self.parameters = [
            tensors[id(p)].requires_grad_(p.requires_grad and p.is_floating_point()) for p in nets[0].parameters()
        ]
        tensors |= {id(t): torch.stack(list(ts)) for t, ts in self._columns("buffers")}
        self.buffers = [tensors[id(b)] for b in nets[0].buffers()]
        try:
            self._run: Run | None = _twin(nets[0], tensors)
        except Unstackable as reason:
            if self.random:
                raise Unstackable(
                    f"{reason} Other nets run as one where no noise is drawn in them (dropout)."
                ) from None
            self._run = None
        # From here on the nets are views; what is read through one is read through the other.
        for kind, stacked in (("parameters", self.parameters), ("buffers", self.buffers)):
            for (_, own), whole in zip(self._columns(kind), stacked, strict=True):
                for tensor, part in zip(own, whole.detach().unbind(0), strict=True):
                    tensor.data = part

    @property
    def form(self) -> str:
        """ "layers" or "vmap"."""
        return "vmap" if self._run is None else "layers"

    def release(self) -> None:
        """Give the nets memory of their own again."""
        for net in self.nets:
            for tensor in (*net.parameters(), *net.buffers()):
                tensor.data = tensor.data.clone()

    def usual(self, place: int) -> bool:
        """Whether the net at this place is in the modes in which it was taken, without hooks: the layers of N nets run
        through none."""
        modules = self.modules[place]
        hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules)
        return not hooked and _modes(modules) == self._modes

    def __call__(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        shared: bool,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Any:
        """The nets' outputs, every tensor of them [N, ...].

        Args:
            shared: all nets get these arguments; else every tensor in them has one entry a net, [N, ...].
            generators: of each net's noise; they move on as torch's own does in a call of the net.
        """
        if self._run is None:
            return self._mapped(args, dict(kwargs), shared)
        context = Context(len(self.nets), generators)
        (x,) = args
        return _rows(self._run(Laid(x, SHARED if shared else ROWS), context, **kwargs), context).x

    def takes(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether it can be called so; the known layers take one tensor."""
        if self._run is None:
            return True
        plain = len(args) == 1 and isinstance(args[0], Tensor)
        return plain and (not kwargs or (isinstance(self.nets[0], Headed) and set(kwargs) == {"features"}))

    def _mapped(self, args: tuple[Any, ...], kwargs: dict[str, Any], shared: bool) -> Any:
        net = self.nets[0]
        told = _Told(net)
        names = [f"net.{name}" for name, _ in (*net.named_parameters(), *net.named_buffers())]

        def one(state: list[Tensor], args: Any, kwargs: Any) -> Any:
            return functional_call(told, dict(zip(names, state, strict=True)), args, kwargs)

        inputs = None if shared else 0
        before = [buffer.clone() for buffer in self.buffers]
        dims = tree_map(lambda leaf: inputs if isinstance(leaf, Tensor) else None, (args, kwargs))
        try:
            outputs, after = vmap(one, in_dims=(0, *dims))([*self.parameters, *before], args, kwargs)
        except (RuntimeError, ValueError) as error:  # control flow on data, noise, shapes that differ
            raise Unstackable(f"{type(net).__name__} does not run as {len(self.nets)} nets at once: {error}") from error
        with torch.no_grad():
            for buffer, new in zip(self.buffers, after, strict=True):
                buffer.copy_(new)
        return outputs

    def _columns(self, kind: str) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
        """For each parameter (or buffer) of the first net, it and all nets' own."""
        return [(ts[0], ts) for ts in zip(*(getattr(net, kind)() for net in self.nets), strict=True)]


class _Told(nn.Module):
    """A net that also tells its buffers as they are after the call: in-place or replaced ones."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, list[Tensor]]:
        return self.net(*args, **kwargs), list(self.net.buffers())


def architecture(net: nn.Module) -> tuple[Any, ...]:
    """What two nets must have equal to run as one: modules, settings, modes, shapes, types and devices."""
    found: list[Any] = []
    for name, module in net.named_modules():
        hooks = [k for k in vars(module) if k.endswith("_hooks") and k.startswith("_") and vars(module)[k]]
        settings = {k: _plain(v) for k, v in vars(module).items() if not k.startswith("_")}
        found.append((name, type(module), id(module) if hooks else None, tuple(sorted(settings.items()))))
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        found.append((name, tuple(tensor.shape), tensor.dtype, tensor.device, tensor.requires_grad))
    return tuple(found)


def _plain(value: Any) -> Any:
    """A setting that can be compared; an object of unknown kind is equal to itself only."""
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(_plain, value))
    return repr(value) if value is None or isinstance(value, bool | int | float | str | torch.dtype) else id(value)


def _modes(modules: list[nn.Module]) -> list[bool]:
    return [m.training and (not isinstance(m, _BatchNorm) or m.track_running_stats) for m in modules]


# The layouts


def _rows(value: Laid, context: Context) -> Laid:
    x, n = value.x, context.number
    if value.layout == SHARED:
        return Laid(x.expand(n, *x.shape), ROWS)
    return Laid(x.unflatten(1, (n, -1)).transpose(0, 1), ROWS) if value.layout == CHANNELS else value


def _channels(value: Laid, context: Context) -> Laid:
    if value.layout == CHANNELS:
        return value
    return Laid(_rows(value, context).x.transpose(0, 1).flatten(1, 2), CHANNELS)


# The layers. Each takes the stacked tensors by the identity of the first net's own.


def _twin(module: nn.Module, tensors: Mapping[int, Tensor]) -> Run:
    """The module for N nets.

    Raises:
        Unstackable: it is of a kind that is not known here.
    """
    kind = type(module)
    if kind is nn.Sequential:
        return _chain([_twin(child, tensors) for child in module])  # type: ignore[attr-defined]
    if isinstance(module, Headed) and kind.forward is Headed.forward:
        return _headed(_twin(module.body, tensors), _twin(module.head, tensors))
    if getattr(module, "channelwise", False):
        return _channelwise(module, {name: _twin(child, tensors) for name, child in module.named_children()})
    if kind in _ELEMENTWISE:
        # A copy, because the first net's own modes may change while the others' do not.
        act = copy.copy(module)
        return lambda value, context: Laid(act(value.x), value.layout)
    if kind in _POOLING and not getattr(module, "return_indices", False):
        pool = copy.copy(module)
        return lambda value, context: _pooled(pool, _POOLING[kind], value, context)
    for known, make in _MAKERS.items():
        if kind in known:
            held = {**module._parameters, **module._buffers}
            own = {name: None if tensor is None else tensors[id(tensor)] for name, tensor in held.items()}
            return make(module, own)
    raise Unstackable(f"{kind.__name__} is no layer of which N are known to run as one.")


def _chain(runs: Sequence[Run]) -> Run:
    def run(value: Laid, context: Context) -> Laid:
        for one in runs:
            value = one(value, context)
        return value

    return run


def _headed(body: Run, head: Run) -> Callable[..., Laid]:
    def run(value: Laid, context: Context, features: bool = False) -> Laid:
        value = body(value, context)
        return value if features else head(value, context)

    return run


def _channelwise(module: nn.Module, runs: Mapping[str, Run]) -> Run:
    """A module whose own `forward` treats channels alike, and so N * C of them as C: its class says `channelwise`."""
    twin = copy.copy(module)
    place: list[Context] = []

    def child(run: Run) -> Callable[[Tensor], Tensor]:
        return lambda x: _channels(run(Laid(x, CHANNELS), place[-1]), place[-1]).x

    twin._modules = {name: child(runs[name]) if name in runs else None for name in module._modules}  # type: ignore[misc]

    def run(value: Laid, context: Context) -> Laid:
        place.append(context)
        try:
            return Laid(twin.forward(_channels(value, context).x), CHANNELS)
        finally:
            place.pop()

    return run


def _pooled(pool: nn.Module, dims: int, value: Laid, context: Context) -> Laid:
    if value.layout != SHARED:
        rows = _rows(value, context)
        # Without channels [B, I] the examples are the pool's channels, and the nets its batch.
        value = rows if rows.x.dim() == dims + 2 else _channels(value, context)
    return Laid(pool(value.x), value.layout)


def _flatten(module: nn.Module, own: Mapping[str, Any]) -> Run:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise Unstackable("Flatten runs for N nets with its usual dimensions only.")

    def run(value: Laid, context: Context) -> Laid:
        if value.layout == SHARED:
            return Laid(value.x.flatten(1), SHARED)
        return Laid(_rows(value, context).x.flatten(2), ROWS)

    return run


class _Products(torch.autograd.Function):
    """x [N, R, I], weight [N, O, I], bias [N, O] or None -> [N, R, O], with fewer kernels backwards than autograd's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if to_x else None,
            torch.bmm(gradient.mT, x) if to_weight else None,
            gradient.sum(1) if to_bias else None,
        )


def _linear(module: nn.Module, own: Mapping[str, Any]) -> Run:
    weight, bias = own["weight"], own["bias"]

    def run(value: Laid, context: Context) -> Laid:
        x = _rows(value, context).x
        flat = x if x.dim() == 3 else x.reshape(len(x), -1, x.shape[-1])
        if torch.is_autocast_enabled(x.device.type):  # which chooses the types that the backward needs
            out = torch.bmm(flat, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), flat, weight.mT)
        else:
            out = _Products.apply(flat, weight, bias)
        return Laid(out if x.dim() == 3 else out.view(*x.shape[:-1], -1), ROWS)

    return run


def _convolution(module: Any, own: Mapping[str, Any]) -> Run:
    if module.padding_mode != "zeros":
        raise Unstackable(f"A convolution padded with {module.padding_mode!r} is not known to run as N.")
    weight, bias, convolve = own["weight"], own["bias"], _CONVOLUTIONS[type(module)]
    stride, padding, dilation, groups = module.stride, module.padding, module.dilation, module.groups

    def run(value: Laid, context: Context) -> Laid:
        # One input for all nets: their filters are the filters of one convolution. Else each net is a group.
        shared = value.layout == SHARED and groups == 1
        x = value.x if shared else _channels(value, context).x
        filters = weight.flatten(0, 1)
        if x.dim() != filters.dim():
            raise Unstackable(
                f"{type(module).__name__} runs for N nets on batches only, not on {x.dim() - 1} dimensions."
            )
        if x.dim() == 4:  # on a CPU grouped convolutions are slow unless the channels are last
            x, filters = (t.contiguous(memory_format=torch.channels_last) for t in (x, filters))
        flat = None if bias is None else bias.flatten()
        count = 1 if shared else context.number * groups
        return Laid(convolve(x, filters, flat, stride, padding, dilation, count), CHANNELS)

    return run


def _batch_norm(module: Any, own: Mapping[str, Any]) -> Run:
    if module.momentum is None:
        raise Unstackable("Batch normalization with a cumulative mean is not known to run as N.")
    flat = {name: None if t is None else t.detach().flatten() for name, t in own.items()}  # views: statistics move
    weight, bias, seen = own["weight"], own["bias"], own["num_batches_tracked"]
    by_batch = module.training or own["running_mean"] is None
    counts = module.training and module.track_running_stats and seen is not None

    def run(value: Laid, context: Context) -> Laid:
        if counts:
            seen.add_(1)
        scale, shift = (None if t is None else t.flatten() for t in (weight, bias))
        x = _channels(value, context).x
        mean, variance = flat["running_mean"], flat["running_var"]
        out = F.batch_norm(x, mean, variance, scale, shift, by_batch, module.momentum, module.eps)
        return Laid(out, CHANNELS)

    return run


def _group_norm(module: Any, own: Mapping[str, Any]) -> Run:
    def run(value: Laid, context: Context) -> Laid:
        scale, shift = (None if t is None else t.flatten() for t in (own["weight"], own["bias"]))
        x = _channels(value, context).x
        return Laid(F.group_norm(x, context.number * module.num_groups, scale, shift, module.eps), CHANNELS)

    return run


def _layer_norm(module: Any, own: Mapping[str, Any]) -> Run:
    shape = module.normalized_shape

    def run(value: Laid, context: Context) -> Laid:
        x = _rows(value, context).x
        scale, shift = (
            None if t is None else t.view(len(x), *[1] * (x.dim() - 1 - len(shape)), *shape)
            for t in (own["weight"], own["bias"])
        )
        out = F.layer_norm(x, shape, eps=module.eps)
        out = out if scale is None else out * scale
        return Laid(out if shift is None else out + shift, ROWS)

    return run


def _embedding(module: Any, own: Mapping[str, Any]) -> Run:
    if module.max_norm is not None or module.sparse or module.scale_grad_by_freq:
        raise Unstackable("An embedding with max_norm, sparse or scale_grad_by_freq is not known to run as N.")
    vectors, size, padding = own["weight"], module.num_embeddings, module.padding_idx

    def run(value: Laid, context: Context) -> Laid:
        ids = _rows(value, context).x
        first = torch.arange(0, context.number * size, size, device=ids.device)
        found = F.embedding(ids + first.view(-1, *[1] * (ids.dim() - 1)), vectors.flatten(0, 1))
        if padding is not None:  # no gradient reaches its row
            found = torch.where((ids == padding).unsqueeze(-1), found.detach(), found)
        return Laid(found, ROWS)

    return run


def _dropout(module: Any, own: Mapping[str, Any]) -> Run:
    p = module.p
    if not module.training or p == 0:
        return lambda value, context: value

    def run(value: Laid, context: Context) -> Laid:
        x = _rows(value, context).x
        if context.generators is None:
            raise Unstackable("Dropout for N nets takes each net's own generator.")
        # As torch's dropout on a CPU draws it from a generator in this state.
        kept = [torch.empty(x.shape[1:], dtype=x.dtype).bernoulli_(1 - p, generator=g) for g in context.generators]
        out = Laid(x * torch.stack(kept) / max(1 - p, 1e-30), ROWS)
        return _channels(out, context) if value.layout == CHANNELS else out

    return run


_MAKERS: dict[tuple[type, ...], Callable[[Any, Mapping[str, Any]], Run]] = {
    (nn.Linear,): _linear,
    tuple(_CONVOLUTIONS): _convolution,
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d): _batch_norm,
    (nn.GroupNorm,): _group_norm,
    (nn.LayerNorm,): _layer_norm,
    (nn.Embedding,): _embedding,
    (nn.Dropout,): _dropout,
    (nn.Flatten,): _flatten,
}
