import hashlib
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import resample_poly
from torch import nn

from cotrain.auto.encoders import ADVICE
from cotrain.errors import InputError
from cotrain.views import encoder as encoder_module
from cotrain.views import encoder_onnx
from cotrain.views.backbone import Backbone, folder_digest, kind_of, library
from cotrain.views.embedding_cache import EmbeddingCache, make_room
from cotrain.views.encoder import Encoder, EncoderView, find, load
from cotrain.views.encoder_places import on_disk

WORDS = ["the", "cat", "sat", "on", "mat", "a", "dog", "ran", "home", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test sees the user's cache, models or settings."""
    monkeypatch.setenv("COTRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("COTRAIN_ENCODER", raising=False)
    encoder_module._load.cache_clear()


class Letters(nn.Module):
    """Sums of letter vectors, through a layer that widens and one that narrows; [B, L] -> [B, 8]."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Embedding(128, 16)
        self.up, self.down = nn.Linear(16, 32, bias=False), nn.Linear(32, 8, bias=False)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        summed = (self.table(ids) * (ids > 0).unsqueeze(-1)).sum(1)
        return self.down(self.up(summed).tanh())


class LetterBackbone(Backbone):
    kind = "text"
    exports = True
    digest = "letters"  # type: ignore[assignment]

    def __init__(self):
        super().__init__(Path())
        self.module = Letters().eval()
        self.calls = 0

    def length(self, item):
        return len(item)

    def key(self, item):
        return hashlib.blake2b(item.encode(), digest_size=16).digest()

    def inputs(self, items):
        self.calls += len(items)
        width = max(1, max(map(len, items)))
        return {"ids": torch.tensor([[ord(c) % 128 for c in item] + [0] * (width - len(item)) for item in items])}


def letters() -> Encoder:
    return Encoder("letters", "text", Path(), LetterBackbone())


def texts(count, seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(chr(97 + c) for c in rng.integers(0, 26, rng.integers(1, 30))) for _ in range(count)]


class TestEmbedding:
    def test_vectors_are_those_of_each_row_alone_in_order(self):
        encoder, items = letters(), texts(200)
        found, precision = encoder.embed(items)
        module = encoder.backbone.module
        expected = [module(torch.tensor([[ord(c) for c in item]])).detach().numpy()[0] for item in items]
        assert precision == "float32"
        assert found.dtype == np.float32
        assert found == pytest.approx(np.array(expected), abs=1e-5)

    def test_nothing_is_computed_twice(self):
        items = texts(150) + ["twice"] * 50
        first = letters()
        found, _ = first.embed(items)
        assert first.computed == len(set(items))
        second = letters()  # another process, as it were
        again, _ = second.embed(items[::-1])
        assert (again[::-1] == found).all()
        assert second.computed == 0
        assert second.backbone.calls == 0
        assert second.seconds(items) == 0
        second.embed([*items, "new"])
        assert second.computed == 1

    def test_another_network_has_another_cache(self):
        items = texts(20)
        letters().embed(items)
        other = letters()
        other.backbone.digest = "others"
        other.embed(items)
        assert other.computed == 20

    def test_estimate_keeps_what_it_measured(self):
        encoder, items = letters(), texts(500)
        estimate = encoder.seconds(items)
        measured = encoder.computed
        assert 0 < estimate < 10
        assert measured == encoder_module.PROBED
        assert encoder.speeds["torch"] > 0
        encoder.embed(items)
        assert encoder.computed <= len(items)

    def test_stopped_work_is_kept(self, monkeypatch):
        encoder, items = letters(), texts(300)
        run, calls = encoder._with_torch, []

        def stops(items):
            calls.append(len(items))
            if sum(calls) > 200:
                raise KeyboardInterrupt
            return run(items)

        monkeypatch.setattr(encoder, "_with_torch", stops)
        with pytest.raises(KeyboardInterrupt):
            encoder.embed(items)
        second = letters()
        second.embed(items)
        assert 0 < second.computed < 200

    def test_no_row_is_refused(self):
        with pytest.raises(InputError, match="no row"):
            letters().embed([])


class TestOnnx:
    @pytest.fixture(autouse=True)
    def with_onnx(self, monkeypatch):
        pytest.importorskip("onnx", reason="onnx is in the extra [export]")
        pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra [export]")
        monkeypatch.setattr(encoder_module, "WORTH", 0.0)

    def test_the_graph_agrees_on_other_sizes_and_narrowing_products_stay_in_floats(self, tmp_path):
        import onnx

        backbone = LetterBackbone()
        plain, small = encoder_onnx.export(backbone.module, backbone.inputs(["abc", "de"]), tmp_path)
        inputs = backbone.inputs(texts(30))
        expected = backbone.module(**inputs).detach().numpy()
        assert encoder_onnx.session(plain)(inputs) == pytest.approx(expected, abs=1e-5)
        assert encoder_onnx.session(small)(inputs) == pytest.approx(expected, abs=0.3)
        kinds = [node.op_type for node in onnx.load(str(small)).graph.node]
        assert kinds.count("MatMulInteger") == 1  # the one that widens
        assert kinds.count("MatMul") == 1

    def test_int8_is_used_where_it_agrees_and_is_faster(self, monkeypatch):
        encoder, items = letters(), texts(200)
        self.speeds(monkeypatch, encoder, torch=10, onnx=20, int8=30)
        found, precision = encoder.embed(items)
        assert precision == "int8"
        assert encoder.agreement >= encoder_module.AGREEMENT
        exact, _ = letters().embed(items, "float32")
        assert (found != exact).any()
        assert encoder_module._cosine(found, exact).min() > 0.98
        again, precision = letters().embed(items)
        assert precision == "int8"
        assert (again == found).all()

    def test_int8_is_not_used_where_it_is_slow(self, monkeypatch):
        encoder = letters()
        self.speeds(monkeypatch, encoder, torch=10, onnx=20, int8=5)
        assert encoder.embed(texts(100))[1] == "float32"
        assert encoder._way == "onnx"

    def test_int8_is_not_used_where_it_disagrees(self, monkeypatch):
        monkeypatch.setattr(encoder_module, "AGREEMENT", 1.0)
        encoder, items = letters(), texts(100)
        self.speeds(monkeypatch, encoder, torch=10, onnx=5, int8=30)
        found, precision = encoder.embed(items)
        assert precision == "float32"
        assert found == pytest.approx(letters().embed(items, "float32")[0], abs=1e-5)

    def test_float32_when_asked_for(self, monkeypatch):
        encoder = letters()
        self.speeds(monkeypatch, encoder, torch=10, onnx=5, int8=30)
        assert encoder.embed(texts(100), "float32")[1] == "float32"

    def test_a_network_that_cannot_be_exported_runs_in_torch(self, monkeypatch):
        def fails(*_):
            raise RuntimeError("unknown operation")

        monkeypatch.setattr(encoder_onnx, "export", fails)
        assert letters().embed(texts(100))[1] == "float32"

    @staticmethod
    def speeds(monkeypatch, encoder, **given):
        """Rows a second as if measured."""
        timed = encoder._timed

        def said(way, *arguments):
            found = timed(way, *arguments)
            encoder.speeds[way] = given[way]
            return found

        monkeypatch.setattr(encoder, "_timed", said)


class TestCache:
    keys = tuple(bytes([i]) * 16 for i in range(3))

    def test_kept_on_disk(self, tmp_path):
        vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
        EmbeddingCache(tmp_path).put(self.keys[:2], vectors[:2])
        EmbeddingCache(tmp_path).put(self.keys[2:], vectors[2:])
        cache = EmbeddingCache(tmp_path)
        assert all((cache[key] == vector).all() for key, vector in zip(self.keys, vectors, strict=True))
        assert b"x" * 16 not in cache

    def test_broken_and_strange_files_are_skipped(self, tmp_path):
        EmbeddingCache(tmp_path).put(self.keys[:1], np.ones((1, 2), np.float32))
        whole = next(tmp_path.glob("*.npy"))
        (tmp_path / "cut.npy").write_bytes(whole.read_bytes()[:-4])
        (tmp_path / "empty.npy").write_bytes(b"")
        np.save(tmp_path / "other.npy", np.zeros(3))
        np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
        assert self.keys[0] in EmbeddingCache(tmp_path)

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        cache = EmbeddingCache(tmp_path / "file" / "folder")
        cache.put(self.keys, np.ones((3, 2), np.float32))
        assert self.keys[0] in cache

    def test_room_is_made_by_age(self, tmp_path):
        import os

        for age, name in enumerate(["new", "old", "older"]):
            (tmp_path / name).write_bytes(bytes(100))
            os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
        make_room(tmp_path, largest=250)
        assert {path.name for path in tmp_path.iterdir()} == {"new", "old"}


def folder_with(path: Path, **files) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(json.dumps(content))
    return path


class TestFind:
    def test_kinds_by_configuration(self, tmp_path):
        text = folder_with(tmp_path / "a", config__json={"model_type": "bert"}, tokenizer__json={})
        sentences = folder_with(tmp_path / "b", modules__json=[])
        sound = folder_with(
            tmp_path / "c",
            config__json={"model_type": "wav2vec2"},
            preprocessor_config__json={"sampling_rate": 16000},
            vocab__json={},
        )
        with_processor = folder_with(
            tmp_path / "p",
            config__json={"model_type": "wav2vec2"},
            processor_config__json={"feature_extractor": {"sampling_rate": 16000}},
            vocab__json={},
        )
        image = folder_with(tmp_path / "d", config__json={"architecture": "resnet18", "num_classes": 10})
        other = folder_with(tmp_path / "e", config__json={"model_type": "bert"})
        assert [kind_of(f) for f in (text, sentences)] == ["text", "text"]
        assert [kind_of(f) for f in (sound, with_processor, image, other)] == ["audio", "audio", "image", None]

    def test_none_and_nothing(self):
        assert find("text", "none") is None
        assert find("audio") is None
        assert set(ADVICE) == {"text", "audio", "image"}

    def test_what_is_to_be_installed_can_be_in_a_checkout(self):
        root = Path(__file__).parents[2]
        extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        with pytest.raises(InputError) as refused:
            library("no_such_library", "vision")
        for sentence in (*ADVICE.values(), str(refused.value)):
            (extra,) = re.findall(r": \.venv/bin/pip install -c constraints\.txt -e '\.\[(\w+)\]'$", sentence)
            assert extra in extras
        assert (root / "constraints.txt").is_file()

    def test_a_name_for_another_kind_of_column(self, tmp_path):
        folder = folder_with(tmp_path / "m", config__json={"architecture": "resnet18"}, model__safetensors=0)
        (folder / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 2}))
        assert find("text", str(folder)) is None
        assert find("image", str(folder)).kind == "image"
        assert find("image", str(folder)) is load(str(folder))

    def test_what_cannot_be_used_is_refused_with_a_reason(self, tmp_path):
        with pytest.raises(InputError, match="no encoder that is known"):
            find("text", str(folder_with(tmp_path / "empty")))
        weights = folder_with(tmp_path / "pickled", config__json={"model_type": "bert"}, tokenizer__json={})
        (weights / "pytorch_model.bin").write_bytes(b"")
        with pytest.raises(InputError, match=r"no model\.safetensors"):
            find("text", str(weights))
        with pytest.raises(InputError, match="neither a folder nor the name"):
            find("text", "no/such/folder/here")
        with pytest.raises(InputError, match=r"cannot be downloaded|pip install"):
            find("text", "nobody/nothing")

    def test_the_environment_names_encoders(self, tmp_path, monkeypatch):
        folder = folder_with(tmp_path / "m", config__json={"model_type": "bert"}, tokenizer__json={})
        (folder / "model.safetensors").write_bytes(b"")
        monkeypatch.setenv("COTRAIN_ENCODER", f"{folder}, ")
        assert list(on_disk("text")) == [(str(folder), folder)]
        assert find("image") is None
        monkeypatch.setenv("COTRAIN_ENCODER", "gone/model")
        with pytest.raises(InputError, match="gone/model"):
            find("text")

    def test_the_local_cache_smallest_first_and_sentence_models_only(self, tmp_path):
        for name, size in (("large", 100), ("small", 10), ("plain", 1)):
            snapshot = tmp_path / "hub" / f"models--owner--{name}" / "snapshots" / "abc"
            files = {"config__json": {"model_type": "bert"}, "tokenizer__json": {}}
            folder_with(snapshot, **files if name == "plain" else files | {"modules__json": []})
            (snapshot / "model.safetensors").write_bytes(bytes(size))
        assert [place for place, _ in on_disk("text") if not place.startswith("package:")] == [
            "owner/small",
            "owner/large",
        ]
        assert load("owner/plain").name == "owner/plain"

    def test_auto_leaves_out_what_cannot_be_loaded(self, tmp_path, monkeypatch):
        folder = folder_with(tmp_path / "m", config__json={"model_type": "bert"}, tokenizer__json={})
        (folder / "model.safetensors").write_bytes(b"no weights")
        monkeypatch.setenv("COTRAIN_ENCODER", str(folder))
        with pytest.warns(UserWarning, match="left out"):
            assert find("text") is None

    def test_digest_is_of_contents(self, tmp_path):
        first = folder_with(tmp_path / "a", config__json={"x": 1})
        second = folder_with(tmp_path / "b", config__json={"x": 1})
        for name in ("README.md", "notes.txt", "train_results.json"):  # not part of it
            (second / name).write_text("{}")
        folder_with(second / "onnx", config__json={"x": 2})
        assert folder_digest(first) == folder_digest(second)
        for each in (first, second):
            (each / "modules.json").write_text('[{"path": ""}, {"path": "2_Dense"}]')
        folder_with(second / "2_Dense", config__json={"out_features": 3})
        assert folder_digest(first) != (with_module := folder_digest(second))
        (second / "2_Dense" / "model.safetensors").write_bytes(b"weights")
        assert folder_digest(second) != with_module
        shutil.rmtree(second / "2_Dense")
        assert folder_digest(first) == folder_digest(second)
        (second / "config.json").write_text("{}")
        assert folder_digest(first) != folder_digest(second)


class TestView:
    @pytest.fixture
    def view(self, monkeypatch):
        encoder = letters()
        monkeypatch.setattr(encoder_module, "load", lambda place: encoder)
        return EncoderView(("title", "body"), "letters")

    def frame(self, count=100):
        return pd.DataFrame({"title": texts(count), "body": texts(count, 1)})

    def test_features_are_centred_and_in_one_unit(self, view):
        raw = view.extract(self.frame())
        features = view.fit(raw).transform(raw)
        assert features.dtype == np.float32
        assert features.mean(0) == pytest.approx(0, abs=1e-5)
        assert np.square(features).sum(1).mean() == pytest.approx(10, rel=1e-4)

    def test_settings_keep_what_was_used(self, view):
        assert view.estimate_seconds(self.frame()) > 0
        view.extract(self.frame())
        assert view.settings["precision"] == "float32"
        assert view.settings["digest"] == "letters"
        assert view.estimate_seconds(self.frame()) == 0
        assert view.fresh().settings == view.settings

    def test_another_encoder_is_refused(self, view):
        view.settings["digest"] = "that of another"
        with pytest.raises(InputError, match="not the one"):
            view.extract(self.frame())


def save_bert(folder: Path, **settings):
    transformers = pytest.importorskip("transformers", reason="transformers is in the extra [hf]")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        pad_token_id=WORDS.index("[PAD]"),
        initializer_range=0.5,
    )
    model = transformers.BertModel(config).eval()
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "model_max_length": 12})
    )
    return model


SENTENCES = ["the cat sat on the mat", "a dog", "home", "", "the dog ran home on a cat mat the the the the the the the"]


class TestText:
    def vectors_by_hand(self, model, pooling="mean", unit=True, longest=12):
        found = []
        for sentence in SENTENCES:
            ids = [WORDS.index(word) for word in sentence.split()][: longest - 2]
            ids = [WORDS.index("[CLS]"), *ids, WORDS.index("[SEP]")]
            with torch.no_grad():
                hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
            vector = {"mean": hidden.mean(0), "max": hidden.amax(0), "cls": hidden[0]}[pooling]
            found.append((vector / vector.norm() if unit else vector).numpy())
        return np.array(found)

    @pytest.mark.parametrize("side", ["right", "left"])
    def test_plain_model_mean_pooling_and_unit_length(self, tmp_path, side):
        model = save_bert(tmp_path / "bert")
        settings = json.loads((tmp_path / "bert" / "tokenizer_config.json").read_text())
        folder_with(tmp_path / "bert", tokenizer_config__json=settings | {"padding_side": side})
        view = EncoderView(("text",), str(tmp_path / "bert"))
        raw = view.extract(pd.DataFrame({"text": SENTENCES}))
        assert raw == pytest.approx(self.vectors_by_hand(model), abs=1e-5)

    def test_blanks_before_a_text_are_not_read(self, tmp_path):
        save_bert(tmp_path / "bert")
        found = load(str(tmp_path / "bert")).backbone.embed([" " * 1000 + "a dog", "a dog"])
        torch.testing.assert_close(found[0], found[1])

    @pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
    @pytest.mark.parametrize("unit", [True, False])
    def test_sentence_transformers_folder(self, tmp_path, pooling, unit):
        model = save_bert(tmp_path / "bert")
        modules = ["Transformer", "Pooling", "Normalize"][: 3 if unit else 2]
        listed = [
            {
                "idx": i,
                "name": str(i),
                "path": "" if i == 0 else f"{i}_{name}",
                "type": f"sentence_transformers.models.{name}",
            }
            for i, name in enumerate(modules)
        ]
        (tmp_path / "bert" / "modules.json").write_text(json.dumps(listed))
        key = {"mean": "mean_tokens", "max": "max_tokens", "cls": "cls_token"}[pooling]
        folder_with(
            tmp_path / "bert" / "1_Pooling", config__json={f"pooling_mode_{key}": True, "word_embedding_dimension": 16}
        )
        (tmp_path / "bert" / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8}))
        raw = find("text", str(tmp_path / "bert")).embed(SENTENCES)[0]
        assert raw == pytest.approx(self.vectors_by_hand(model, pooling, unit, longest=8), abs=1e-5)

    def test_equals_sentence_transformers(self, tmp_path):
        sentence_transformers = pytest.importorskip(
            "sentence_transformers", reason="sentence-transformers is not installed"
        )
        save_bert(tmp_path / "bert")
        reference = sentence_transformers.SentenceTransformer(str(tmp_path / "bert"), device="cpu")
        reference.save(str(tmp_path / "saved"))
        found = find("text", str(tmp_path / "saved")).embed(SENTENCES)[0]
        expected = reference.encode(SENTENCES, convert_to_numpy=True)
        assert found == pytest.approx(expected, abs=1e-5)

    def test_int8_of_a_real_architecture(self, tmp_path, monkeypatch):
        pytest.importorskip("onnxruntime", reason="onnxruntime is in the extra [export]")
        pytest.importorskip("onnx", reason="onnx is in the extra [export]")
        save_bert(tmp_path / "bert")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # int8 is for CPUs
        encoder = find("text", str(tmp_path / "bert"))
        monkeypatch.setattr(encoder_module, "AGREEMENT", 0.9)  # the network is random and tiny
        found, precision = encoder.embed(SENTENCES, "int8")
        exact, _ = encoder.embed(SENTENCES, "float32")
        assert set(encoder.speeds) == {"torch", "onnx", "int8"}
        assert precision == "int8"
        assert encoder_module._cosine(found, exact).min() > 0.9

    def test_the_same_network_is_found_where_it_is_now_and_a_changed_one_is_read_anew(self, tmp_path, monkeypatch):
        save_bert(tmp_path / "bert")
        frame = pd.DataFrame({"text": SENTENCES})
        view = EncoderView(("text",), str(tmp_path / "bert"))
        raw = view.extract(frame)
        (tmp_path / "bert").rename(tmp_path / "moved")
        again = EncoderView(("text",), **view.settings)
        with pytest.raises(InputError, match="COTRAIN_ENCODER can name the folder"):
            again.extract(frame)
        monkeypatch.setenv("COTRAIN_ENCODER", str(tmp_path / "moved"))
        np.testing.assert_array_equal(again.extract(frame), raw)
        model = save_bert(tmp_path / "bert")  # another at the old place, in the same process
        words = model.embeddings.word_embeddings.weight
        words.data = words.data.flip(1)
        model.save_pretrained(tmp_path / "bert")
        other = EncoderView(("text",), str(tmp_path / "bert"))
        assert np.abs(other.extract(frame) - raw).max() > 0.01
        assert other.settings["digest"] != view.settings["digest"]

    def test_empty_texts_of_a_tokenizer_that_adds_nothing(self, tmp_path):
        save_bert(tmp_path / "bert")
        backbone = load(str(tmp_path / "bert")).backbone
        tokenizer = backbone._tokenizer

        def bare(texts, **settings):
            return tokenizer(texts, add_special_tokens=False, **settings)

        bare.pad_token_id = tokenizer.pad_token_id
        backbone._tokenizer = bare
        alone, in_company = backbone.embed(["", ""]), backbone.embed(["", "the cat sat"])
        assert torch.isfinite(alone).all()
        torch.testing.assert_close(alone[0], in_company[0])

    def test_what_breaks_inside_is_said_of_the_encoder(self, tmp_path, monkeypatch):
        save_bert(tmp_path / "bert")
        backbone = load(str(tmp_path / "bert")).backbone
        monkeypatch.setattr(backbone, "inputs", lambda items: {"pixels": torch.zeros(1)})
        with pytest.raises(InputError, match="bert cannot be used for text"):
            backbone.embed(["a"])

    def test_code_in_the_folder_is_not_run(self, tmp_path):
        save_bert(tmp_path / "bert")
        (tmp_path / "bert" / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
        config = json.loads((tmp_path / "bert" / "tokenizer_config.json").read_text())
        config |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
        (tmp_path / "bert" / "tokenizer_config.json").write_text(json.dumps(config))
        about = json.loads((tmp_path / "bert" / "config.json").read_text())
        (tmp_path / "bert" / "config.json").write_text(json.dumps(about | {"model_type": "unheard of"}))
        with pytest.raises(InputError, match="cannot be loaded"):
            load(str(tmp_path / "bert")).embed(["a"])
        assert not (tmp_path / "ran").exists()

    def test_modules_of_its_own_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace())
        save_bert(tmp_path / "bert")
        (tmp_path / "bert" / "modules.json").write_text(json.dumps([{"path": "", "type": "evil.Transformer"}]))
        with pytest.raises(InputError, match="code of its own"):
            load(str(tmp_path / "bert")).embed(["a"])

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("sentence_bert_config.json", {"max_seq_length": "abc"}),
            ("sentence_bert_config.json", {"max_seq_length": -4}),
            ("config_sentence_transformers.json", {"prompts": ["query: "], "default_prompt_name": "query"}),
            ("config_sentence_transformers.json", {"prompts": {"query": ""}, "default_prompt_name": ["query"]}),
            ("modules.json", [{"path": None, "type": "sentence_transformers.models.Transformer"}]),
        ],
    )
    def test_settings_that_cannot_be_are_said_of_their_file(self, tmp_path, name, content):
        save_bert(tmp_path)
        folder_with(tmp_path, **{name: content})
        with pytest.raises(InputError, match=name):
            _ = load(str(tmp_path)).backbone

    def test_missing_weights_are_refused_except_those_that_are_not_used(self, tmp_path):
        model = save_bert(tmp_path / "bert")
        weights = model.state_dict()
        model.save_pretrained(
            tmp_path / "bert", state_dict={name: x for name, x in weights.items() if not name.startswith("pooler.")}
        )
        found = find("text", str(tmp_path / "bert")).embed(SENTENCES)[0]
        assert found == pytest.approx(self.vectors_by_hand(model), abs=1e-5)
        model.save_pretrained(
            tmp_path / "bert", state_dict={name: x for name, x in weights.items() if "layer.1.output" not in name}
        )
        with pytest.raises(InputError, match=r"lacks weights .* encoder\.layer\.1\.output\.dense\.weight"):
            find("text", str(tmp_path / "bert")).embed(["a"])

    def test_a_broken_model_is_refused(self, tmp_path):
        save_bert(tmp_path / "bert")
        (tmp_path / "bert" / "model.safetensors").write_bytes(b"no weights")
        with pytest.raises(InputError, match="cannot be loaded"):
            find("text", str(tmp_path / "bert")).embed(["a"])


class TestAudio:
    def save(self, folder: Path, masked: bool):
        transformers = pytest.importorskip("transformers", reason="transformers is in the extra [hf]")
        torch.manual_seed(0)
        config = transformers.Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8, 8),
            conv_kernel=(10, 8),
            conv_stride=(5, 4),
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
            feat_extract_norm="layer" if masked else "group",
            do_stable_layer_norm=masked,
        )
        model = transformers.Wav2Vec2Model(config).eval()
        model.save_pretrained(folder)
        transformers.Wav2Vec2FeatureExtractor(sampling_rate=4_000, return_attention_mask=masked).save_pretrained(folder)
        return model

    @pytest.mark.parametrize("masked", [True, False])
    def test_mean_over_time_of_each_sound_alone(self, tmp_path, masked):
        model = self.save(tmp_path / "model", masked)
        rng = np.random.default_rng(0)
        waves = [rng.normal(0, 0.1, length).astype(np.float32) for length in (2_000, 4_000, 2_000, 3_333)]
        view = EncoderView(("clip",), str(tmp_path / "model"), rate=4_000)
        raw = view.extract(pd.DataFrame({"clip": pd.Series(waves, dtype=object)}))
        for wave, vector in zip(waves, raw, strict=True):
            normal = torch.from_numpy((wave - wave.mean()) / np.sqrt(wave.var() + 1e-7))[None]
            with torch.no_grad():
                expected = model(normal).last_hidden_state[0].mean(0).numpy()
            assert vector == pytest.approx(expected, abs=2e-3)

    def test_files_at_the_models_rate(self, tmp_path):
        soundfile = pytest.importorskip("soundfile")
        self.save(tmp_path / "model", False)
        wave = np.sin(np.arange(8_000) * 2 * np.pi * 200 / 8_000)
        soundfile.write(tmp_path / "a.wav", wave, 8_000)
        view = EncoderView(("clip",), str(tmp_path / "model"), folder=str(tmp_path))
        raw = view.extract(pd.DataFrame({"clip": ["a.wav"]}))
        given = EncoderView(("clip",), str(tmp_path / "model"), rate=4_000)
        expected = given.extract(pd.DataFrame({"clip": [resample_poly(wave, 1, 2).astype(np.float32)]}))
        assert raw[0] == pytest.approx(expected[0], abs=1e-3)
        with pytest.raises(InputError, match=r"gone\.wav"):
            view.extract(pd.DataFrame({"clip": ["gone.wav"]}))

    def test_what_breaks_inside_is_said_of_the_encoder_or_of_the_file(self, tmp_path):
        save_bert(tmp_path / "other")  # in a sound model's clothes
        extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 4_000}
        folder_with(tmp_path / "other", preprocessor_config__json=extractor)
        with pytest.raises(InputError, match="other cannot be used for audio"):
            load(str(tmp_path / "other")).backbone.embed([(np.zeros(400, np.float32), 4_000)])
        self.save(tmp_path / "model", False)
        (tmp_path / "a.wav").write_text("no sound")
        with pytest.raises(InputError, match=r"a\.wav") as error:
            load(str(tmp_path / "model")).backbone.embed([tmp_path / "a.wav"])
        assert "cannot be used" not in str(error.value)


class TestImage:
    def save(self, folder: Path, name="resnet10t"):
        timm = pytest.importorskip("timm", reason="timm is in the extra [vision]", exc_type=ImportError)
        from safetensors.torch import save_file

        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, num_classes=5).eval()
        pretrained = {
            "input_size": [3, 32, 32],
            "crop_pct": 0.8,
            "interpolation": "bicubic",
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.3, 0.4],
        }
        config = {"architecture": name, "num_classes": 5, "pretrained_cfg": pretrained}
        folder_with(folder, config__json=config)
        save_file(model.state_dict(), folder / "model.safetensors")
        return model

    def test_pooled_features_of_the_cropped_image(self, tmp_path):
        from PIL import Image

        model = self.save(tmp_path / "model")
        pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        view = EncoderView(("picture",), str(tmp_path / "model"), folder=str(tmp_path))
        raw = view.extract(pd.DataFrame({"picture": ["a.png"]}))
        resized = Image.fromarray(pixels).resize((40, 60), Image.Resampling.BICUBIC)  # the shorter side is 32 / 0.8
        cut = np.asarray(resized.crop((4, 14, 36, 46)), np.float32) / 255
        x = torch.from_numpy((cut - np.float32([0.5, 0.4, 0.3])) / np.float32([0.2, 0.3, 0.4])).permute(2, 0, 1)[None]
        with torch.no_grad():
            expected = model.forward_head(model.forward_features(x), pre_logits=True).numpy()
        assert raw == pytest.approx(expected, abs=1e-3 if torch.cuda.is_available() else 1e-4)  # TF32

    def test_grey_arrays_and_broken_files(self, tmp_path):
        self.save(tmp_path / "model")
        view = EncoderView(("picture",), str(tmp_path / "model"), folder=str(tmp_path))
        images = pd.Series(list(np.zeros((3, 28, 28), np.uint8)), dtype=object)
        assert view.extract(pd.DataFrame({"picture": images})).shape[0] == 3
        (tmp_path / "bad.png").write_bytes(b"no image")
        with pytest.raises(InputError, match=r"bad\.png"):
            view.extract(pd.DataFrame({"picture": ["bad.png"]}))
