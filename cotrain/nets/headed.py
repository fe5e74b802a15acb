"""A net whose features can be asked for."""

from torch import Tensor, nn


class Headed(nn.Module):
    """`head(body(x))`; called with features=True, `body(x)`.

    Args:
        body: x -> features [N, F].
        head: features -> logits [N, C].
    """

    def __init__(self, body: nn.Module, head: nn.Module):
        super().__init__()
        self.body = body
        self.head = head

    def forward(self, x: Tensor, features: bool = False) -> Tensor:
        found: Tensor = self.body(x)
        return found if features else self.head(found)
