"""Small nets for texts: the mean of the word vectors, or convolutions over them.

Both read ids int64 [N, T] (0 where there is no word) through vectors of their own, or word vectors float [N, T, size]
as they come (all zeros where there is no word): frozen, mixed or perturbed ones.
"""

import torch
from torch import Tensor, nn

from cotrain.nets.headed import Headed


class TextBag(Headed):
    """Mean of the words' vectors, one hidden layer, logits [N, classes]; the order of words does not matter.

    Args:
        vocabulary: ids, 0 included; None for a net that only reads vectors.
        size: of a word's vector.
        hidden: units of the hidden layer, the features.
        dropout: of the mean and of the features.

    Source: Iyyer et al. 2015, "Deep unordered composition rivals syntactic methods for text classification", section 3.
    """

    def __init__(self, vocabulary: int | None, size: int, hidden: int, classes: int, dropout: float = 0.2):
        body = (_Words(vocabulary, size), _Mean(), nn.Dropout(dropout), nn.Linear(size, hidden), nn.ReLU())
        super().__init__(nn.Sequential(*body, nn.Dropout(dropout)), nn.Linear(hidden, classes))


class TextConvolution(Headed):
    """Filters over 3 neighbouring words, the largest response of each in the text, logits [N, classes].

    Args:
        vocabulary, size: as in `TextBag`.
        hidden: filters, the features.
        dropout: of the words' vectors and of the features.

    Source: Kim 2014, "Convolutional neural networks for sentence classification", arXiv:1408.5882; one width.
    """

    def __init__(self, vocabulary: int | None, size: int, hidden: int, classes: int, dropout: float = 0.2):
        body = (_Words(vocabulary, size), nn.Dropout(dropout), _Largest(size, hidden), nn.Dropout(dropout))
        super().__init__(nn.Sequential(*body), nn.Linear(hidden, classes))


class _Words(nn.Module):
    def __init__(self, vocabulary: int | None, size: int):
        super().__init__()
        self.vectors = None if vocabulary is None else nn.Embedding(vocabulary, size, padding_idx=0)

    def forward(self, x: Tensor) -> Tensor:
        if self.vectors is not None and not x.is_floating_point():
            return self.vectors(x)
        # No gradient reaches a place without a word: what perturbs or attacks the words leaves it empty.
        return x * (x != 0).any(-1, keepdim=True)


class _Mean(nn.Module):
    def forward(self, x_NTE: Tensor) -> Tensor:
        # A word is where any entry is not 0; a text without words has the mean 0.
        words = (x_NTE != 0).any(-1).sum(-1, keepdim=True).clamp(min=1)
        return x_NTE.sum(1) / words


class _Largest(nn.Module):
    def __init__(self, size: int, hidden: int):
        super().__init__()
        self.filters = nn.Conv1d(size, hidden, 3, padding=1)

    def forward(self, x_NTE: Tensor) -> Tensor:
        found = torch.relu(self.filters(x_NTE.mT))
        # Where no word stands no filter answers; a text without words has features of 0.
        return (found * (x_NTE != 0).any(-1)[:, None]).amax(2)
