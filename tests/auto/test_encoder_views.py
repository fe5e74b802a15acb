from pathlib import Path

import pandas as pd
import pytest
import torch

from cotrain.auto import encoders
from cotrain.auto.columns import Columns
from cotrain.auto.encoders import encoder_views
from cotrain.errors import InputError
from cotrain.views import encoder as encoder_module
from cotrain.views.backbone import Backbone
from cotrain.views.encoder import Encoder

PLACE = "package:small-model/small_model/files"
FRAME = pd.DataFrame({"text": ["a", "some", "longer"]})


class Lengths(Backbone):
    """A text's vector holds its length."""

    kind = "text"
    digest = "lengths"  # type: ignore[assignment]

    def __init__(self):
        super().__init__(Path("small"))
        self.module = torch.nn.Linear(1, 2)

    def length(self, item):
        return len(item)

    def key(self, item):
        return item.encode().ljust(16)

    def inputs(self, items):
        return {"input": torch.tensor([[float(len(item))] for item in items])}


@pytest.fixture(autouse=True)
def encoder(tmp_path, monkeypatch) -> Encoder:
    """The only encoder on this disk, which is found by every name."""
    monkeypatch.setenv("COTRAIN_CACHE", str(tmp_path))
    found = Encoder(PLACE, "text", Path(), Lengths())
    monkeypatch.setattr(encoders, "on_disk", lambda kind: iter([(PLACE, Path())]))
    monkeypatch.setattr(encoders, "find", lambda kind, wanted="auto": found)
    monkeypatch.setattr(encoder_module, "load", lambda place: found)
    return found


def views(*wanted: str, left: float = 1000.0):
    warnings: list[str] = []
    found = encoder_views(wanted, FRAME, Columns("y", text=("text",)), Path(), left, warnings)
    return found, warnings


def test_what_auto_found_and_cannot_be_used_is_left_out(encoder, monkeypatch):
    monkeypatch.setattr(encoder.backbone, "inputs", lambda items: {"pixels": torch.zeros(1)})
    found, (warning,) = views("auto")
    assert not found
    assert "small_model/files on this disk is left out" in warning
    assert "cannot be used for text" in warning
    with pytest.raises(InputError, match="cannot be used for text"):
        views("small-model")


def test_what_takes_too_long_is_left_out_with_a_name_that_finds_it():
    found, (warning,) = views("auto", left=-1.0)
    assert not found
    assert f"Give --encoder {PLACE} or a longer --budget" in warning


def test_an_encoder_with_two_names_is_one_view():
    (view,), warnings = views("auto", "small-model", "./small")
    assert view.settings["encoder"] == PLACE
    assert not warnings
