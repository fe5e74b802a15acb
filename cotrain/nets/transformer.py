"""A small language model: a decoder with norms before its layers, in two kinds of blocks.

Source: Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.3 (the serial block);
Jiang et al. 2024, "MegaScale", arXiv:2402.15627, section 3.1 (the parallel block and the window).
Legend: N sequences, T positions, E width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cotrain.errors import InputError
from cotrain.nets.attention import causal_attention, pairs_met


class Decoder(nn.Module):
    """ids int64 [N, T] -> logits [N, T, V] of the id that follows each; a position sees none after it.

    Args:
        vocabulary: number of ids.
        width: of the residual stream, a multiple of `heads`.
        layers: number of blocks.
        heads: of attention.
        context: largest T.
        hidden: units of the perceptron in a block; None is 4 * width.
        parallel: blocks y = x + MLP(LN(x)) + Attn(LN(x)) with one norm, in place of attention first and MLP then.
        window: positions that attention sees in each layer, the own one included; None is all.
        tied: the vectors of ids read the logits too.

    Raises:
        InputError: a width that heads do not divide, a number below 1, or (in a call) more than `context` positions.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        context: int,
        hidden: int | None = None,
        parallel: bool = False,
        window: int | None = None,
        tied: bool = True,
    ):
        super().__init__()
        hidden = 4 * width if hidden is None else hidden
        numbers = {"vocabulary": vocabulary, "width": width, "layers": layers, "heads": heads, "context": context}
        for name, value in (numbers | {"hidden": hidden, "window": 1 if window is None else window}).items():
            if value < 1:
                raise InputError(f"A decoder's {name} is at least 1, not {value}.")
        if width % heads:
            raise InputError(f"{heads} heads do not divide a width of {width}.")
        self.context = context
        self.window = window
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        block = ParallelBlock if parallel else SerialBlock
        self.blocks = nn.ModuleList(block(width, heads, hidden, window) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        # Each block adds twice to the stream, whose variance at the start does then not grow with the layers.
        for name, weight in self.named_parameters():
            if name.endswith(("attention_out.weight", "mlp_out.weight")):
                nn.init.normal_(weight, std=0.02 / (2 * layers) ** 0.5)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids_NT: Tensor) -> Tensor:
        length = ids_NT.shape[1]
        if length > self.context:
            raise InputError(f"A sequence of {length} ids is longer than the decoder's context of {self.context}.")
        x_NTE = self.tokens(ids_NT) + self.positions(torch.arange(length, device=ids_NT.device))
        for block in self.blocks:
            x_NTE = block(x_NTE)
        return self.head(self.norm(x_NTE))

    def flops(self, length: int) -> int:
        """Operations of a forward pass of one sequence of so many ids: a product of [m, n] and [n, k] counts 2 m n k.

        What is no matrix product (looking up vectors, norms, softmax) is left out; a backward pass takes twice as many.
        """
        vocabulary, width = self.head.weight.shape
        in_blocks = sum(p.numel() for p in self.blocks.parameters() if p.dim() == 2)
        attention = len(self.blocks) * 2 * width * pairs_met(length, self.window)
        return 2 * (length * (in_blocks + vocabulary * width) + attention)


class SerialBlock(nn.Module):
    """x [N, T, E] -> x + Attn(LN(x)), then y + MLP(LN(y)); arguments as `Decoder`'s."""

    def __init__(self, width: int, heads: int, hidden: int, window: int | None = None):
        super().__init__()
        self.heads = heads
        self.window = window
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, hidden)
        self.mlp_out = nn.Linear(hidden, width)

    def forward(self, x_NTE: Tensor) -> Tensor:
        seen_NTE = _attend(self.attention_in(self.attention_norm(x_NTE)), self.heads, self.window)
        x_NTE = x_NTE + self.attention_out(seen_NTE)
        return x_NTE + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x_NTE))))


class ParallelBlock(nn.Module):
    """x [N, T, E] -> x + MLP(LN(x)) + Attn(LN(x)): one norm, and both parts' inputs are one layer.

    Neither part waits for the other; the MLP sees x without what attention adds to it.

    Args:
        fused: take the inputs of both parts by one product. None is yes but on a CPU, where the backward pass loses
            more in joining the two gradients than a larger product gains. A layer that is sharded by itself takes its
            one product always. The result is the same.
        width, heads, hidden, window: as `Decoder`'s.
    """

    def __init__(self, width: int, heads: int, hidden: int, window: int | None = None, fused: bool | None = None):
        super().__init__()
        self.heads = heads
        self.window = window
        self.fused = fused
        self.sizes = (3 * width, hidden)
        self.norm = nn.LayerNorm(width)
        self.both_in = nn.Linear(width, 3 * width + hidden)
        self.attention_out = nn.Linear(width, width)
        self.mlp_out = nn.Linear(hidden, width)

    def forward(self, x_NTE: Tensor) -> Tensor:
        normed_NTE = self.norm(x_NTE)
        fused = not x_NTE.is_cpu if self.fused is None else self.fused
        if fused or hasattr(self.both_in, "unshard"):  # a layer that is sharded gathers its weights when it is called
            of_attention, of_mlp = self.both_in(normed_NTE).split(self.sizes, dim=-1)
        else:
            rows = zip(self.both_in.weight.split(self.sizes), self.both_in.bias.split(self.sizes), strict=True)
            of_attention, of_mlp = (F.linear(normed_NTE, weight, bias) for weight, bias in rows)
        seen_NTE = _attend(of_attention, self.heads, self.window)
        return x_NTE + self.attention_out(seen_NTE) + self.mlp_out(F.gelu(of_mlp))


def _attend(joined: Tensor, heads: int, window: int | None) -> Tensor:
    """Queries, keys and values side by side [N, T, 3 E] -> what each position sees [N, T, E]."""
    query, key, value = joined.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # each [N, heads, T, E / heads]
    return causal_attention(query, key, value, window).transpose(1, 2).flatten(2)
