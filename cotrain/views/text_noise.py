"""Augmentations of texts as token ids, batched: each text has ids >= 1 from the left, then 0s.

An operation takes a batch int64 [B, T] and the batch's draws; `cotrain.views.copies.chain` puts several in a row.
Legend: B texts, T places, V ids in the vocabulary.
"""

import torch
from torch import Tensor

from cotrain.randomness import Draws
from cotrain.views.copies import Augment


def drop_words(probability: float) -> Augment:
    """Each word is left out with a probability; the rest moves up. A text never loses its last word.

    Source: Iyyer et al. 2015, "Deep unordered composition rivals syntactic methods", section 3.1.
    """

    def augment(ids_BT: Tensor, draws: Draws) -> Tensor:
        kept_BT = (draws.uniform(ids_BT.shape[1]) >= probability) & (ids_BT > 0)
        empty_B = ~kept_BT.any(1)
        kept_BT[empty_B, 0] = True
        return _left(ids_BT, kept_BT)

    return augment


def replace_words(probability: float, vocabulary: int, first: int = 1) -> Augment:
    """Each word becomes a random one of first..vocabulary-1 with a probability.

    Source: Xie et al. 2017, "Data noising as smoothing", arXiv:1703.02573, section 3.3 ("blank" and unigram noising),
    here with even odds for all words.
    """

    def augment(ids_BT: Tensor, draws: Draws) -> Tensor:
        chosen_BT = (draws.uniform(ids_BT.shape[1]) < probability) & (ids_BT > 0)
        return torch.where(chosen_BT, draws.integer(first, vocabulary, ids_BT.shape[1]), ids_BT)

    return augment


def shuffle_words(distance: float) -> Augment:
    """Words change places with near ones: sorted by place + uniform(0, distance); 1 or less changes nothing.

    Source: Lample et al. 2018, arXiv:1711.00043, section 2.3.
    """

    def augment(ids_BT: Tensor, draws: Draws) -> Tensor:
        place_BT = torch.arange(ids_BT.shape[1]) + distance * draws.uniform(ids_BT.shape[1])
        place_BT = place_BT.masked_fill(ids_BT == 0, torch.inf)  # the 0s stay at the end
        return ids_BT.gather(1, place_BT.argsort(dim=1, stable=True))

    return augment


def swap_words(swaps: int) -> Augment:
    """`swaps` times two random words of the text change places. Source: Wei & Zou 2019, "EDA", arXiv:1901.11196."""

    def augment(ids_BT: Tensor, draws: Draws) -> Tensor:
        words_B = (ids_BT > 0).sum(1).clamp(min=1)
        ids_BT = ids_BT.clone()
        for _ in range(swaps):
            places = (draws.uniform(2) * words_B[:, None]).long()
            ids_BT.scatter_(1, places, ids_BT.gather(1, places.flip(1)))
        return ids_BT

    return augment


def cut_words(most: float) -> Augment:
    """A run of up to a share `most` of the text's words is left out, never all of them.

    Source: Shen et al. 2020, arXiv:2009.13818, "span cutoff".
    """

    def augment(ids_BT: Tensor, draws: Draws) -> Tensor:
        words_B = (ids_BT > 0).sum(1)
        length_B = (draws.uniform() * most * words_B).long().minimum((words_B - 1).clamp(min=0))
        start_B = (draws.uniform() * (words_B - length_B + 1)).long()
        place = torch.arange(ids_BT.shape[1])
        cut_BT = (place >= start_B[:, None]) & (place < (start_B + length_B)[:, None])
        return _left(ids_BT, ~cut_BT & (ids_BT > 0))

    return augment


def reorder(ids_BT: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """One of four: as it is (0), backwards (1), its halves exchanged (2), that backwards (3); and which, int64 [B].

    A task without labels for nets that see the order of words; the halves of an odd number of words differ by one.
    """
    turn_B = draws.integer(0, 4)
    words_B1 = (ids_BT > 0).sum(1, keepdim=True)
    place_BT = torch.arange(ids_BT.shape[1]).expand_as(ids_BT)
    backwards = torch.where(((turn_B & 1) > 0)[:, None], words_B1 - 1 - place_BT, place_BT)
    exchanged = (backwards + words_B1 // 2) % words_B1.clamp(min=1)
    source = torch.where(((turn_B & 2) > 0)[:, None], exchanged, backwards)
    return ids_BT.gather(1, torch.where(place_BT < words_B1, source, place_BT)), turn_B


def _left(ids_BT: Tensor, kept_BT: Tensor) -> Tensor:
    """The kept words in their order, moved to the left, 0s after them."""
    order_BT = (~kept_BT).to(torch.uint8).argsort(dim=1, stable=True)
    return (ids_BT * kept_BT).gather(1, order_BT)
