from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from conftest import fit_strategy, tiny_task
from headstart.errors import ModelError
from headstart.models import folder as model_folder
from headstart.models.inspecting import find, layer_of, matches, pieces, tensors
from headstart.models.loading import load_tokenizer
from headstart.models.movement import movement
from headstart.records import read_json, write_json


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_encoder):
    """Return a function from a strategy's name to the folder of a fitted model."""
    made = {}

    def make(name):
        if name not in made:
            task = tiny_task(encoder=tiny_encoder)
            fitted = fit_strategy(name, task)
            made[name] = tmp_path_factory.mktemp("models") / name
            card = {"strategy": name}
            model_folder.save(fitted.classifier, made[name], text=task.text, check=task.validation, card=card)
        return made[name]

    return make


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "albert", "deberta-v2", "modernbert"])
def test_tensors_are_those_of_the_loaded_model(checkpoint, architecture):
    folder = checkpoint(architecture)
    body = AutoModel.from_pretrained(folder)
    parameters = {n: tuple(p.shape) for n, p in body.named_parameters() if "pooler" not in n}
    found = tensors(find(str(folder)))
    assert {t.name: t.shape for t in found if not t.buffer} == parameters
    assert sum(t.parameters for t in found) == sum(int(np.prod(s)) for s in parameters.values())
    assert all(t.trained for t in found if not t.buffer)


def test_order_is_that_of_the_text_and_numbers_count_by_value(models):
    names = [t.name for t in tensors(find(str(models("full"))))]
    assert names[0].startswith("bert.embeddings.")
    assert names[-1] == "classifier.weight"
    layers = [layer_of(n) for n in names]
    assert layers.index("bert.encoder.layer.0") < layers.index("bert.encoder.layer.1") < layers.index("bert.pooler")
    assert layers.index("bert.pooler") < layers.index("classifier")


def test_ten_layers_stand_after_nine(tmp_path):
    from headstart.models.inspecting import _place

    names = [f"encoder.layer.{i}.weight" for i in range(12)]
    assert sorted(sorted(names), key=_place) == names


def test_frozen_encoder_is_not_trained_and_its_head_is(models):
    found = tensors(find(str(models("linear-probe"))))
    trained = {t.name for t in found if t.trained}
    assert trained == {"head.weights", "head.bias"}
    assert sum(t.parameters for t in found if t.trained) == 2 * 32 + 2


def test_card_says_what_was_trained(models, tmp_path):
    import shutil

    folder = tmp_path / "partial"
    shutil.copytree(models("full"), folder)
    card = read_json(folder / "headstart.json")
    write_json(folder / "headstart.json", {**card, "trained": ["classifier", r"layer\.1\."]})
    trained = {t.name: t.trained for t in tensors(find(str(folder)))}
    assert trained["classifier.weight"]
    assert trained["bert.encoder.layer.1.output.dense.weight"]
    assert not trained["bert.encoder.layer.0.output.dense.weight"]


def test_matches_names_prefixes_and_patterns():
    assert matches("bert.pooler.dense.bias", ["bert.pooler"])
    assert matches("bert.encoder.layer.11.x", [r"layer\.(10|11)\."])
    assert not matches("bert.encoder.layer.1.x", [r"layer\.(10|11)\."])


@pytest.mark.parametrize(
    ("name", "parameters"), [("majority", 2), ("tfidf", None), ("boosted", None), ("scratch-gru", None)]
)
def test_every_kind_of_model_can_be_looked_into(models, name, parameters):
    found = find(str(models(name)))
    total = sum(t.parameters for t in tensors(found))
    classifier = model_folder.load(models(name)).classifier
    expected = classifier.parameters()
    assert total == (parameters or expected)


def test_pieces_are_the_tokenizers_and_unknown_ones_are_marked(tiny_encoder):
    text = "the film was xyzzy goods"
    made, limit = pieces(find(str(tiny_encoder)), text)
    tokenizer = load_tokenizer(tiny_encoder)
    ids = tokenizer(text)["input_ids"]
    assert [p.id for p in made] == ids
    assert [p.piece for p in made] == tokenizer.convert_ids_to_tokens(ids)
    assert [p.piece for p in made if p.special] == ["[CLS]", "[SEP]"]
    assert [p.piece for p in made if p.unknown] == ["[UNK]"]
    assert all(p.kept for p in made)
    assert limit == 64


@pytest.mark.parametrize(
    ("truncate", "kept"), [("head", [0, 1, 2, 3, 9]), ("tail", [0, 6, 7, 8, 9]), ("head-tail", [0, 1, 2, 8, 9])]
)
def test_what_is_cut_follows_the_models_own_settings(models, tmp_path, truncate, kept):
    import shutil

    folder = tmp_path / truncate
    shutil.copytree(models("full"), folder)
    card = read_json(folder / "headstart.json")
    card["text"] = {**card["text"], "max_length": 5, "truncate": truncate}
    write_json(folder / "headstart.json", card)
    made, limit = pieces(find(str(folder)), "the film was good then bad and so on"[:-3])
    assert len(made) == 10
    assert [at for at, p in enumerate(made) if p.kept] == kept
    assert limit == 5


def test_terms_of_tfidf_and_none_of_majority(models):
    made, limit = pieces(find(str(models("tfidf"))), "good xyzzy")
    assert {p.piece: p.unknown for p in made} == {"good": False, "xyzzy": True, "good xyzzy": True}
    assert limit is None
    with pytest.raises(ModelError, match="no tokens"):
        pieces(find(str(models("majority"))), "good")


def test_an_encoder_and_itself_have_not_moved(tiny_encoder):
    found = movement(find(str(tiny_encoder)), find(str(tiny_encoder)))
    assert (found.total.changed, found.total.relative) == (0.0, 0.0)
    assert (found.only_first, found.only_second, found.other_shape) == ((), (), ())


def test_movement_is_what_torch_says_and_heads_stand_alone(models, tiny_encoder):
    found = movement(find(str(models("full"))), find(str(tiny_encoder)))
    after, before = (load_file(f / "model.safetensors") for f in (models("full"), tiny_encoder))
    parts = {part.name: part for _, tensors in found.layers for part in tensors}
    assert set(parts) == {f"bert.{name}" for name in before}
    for name, b in before.items():
        a, part = after[f"bert.{name}"], parts[f"bert.{name}"]
        assert part.changed == pytest.approx(float((a - b).abs().double().sum()), rel=1e-5)
        if b.norm() > 0:
            assert part.relative == pytest.approx(float((a - b).norm() / b.norm()), rel=1e-4)
    assert found.total.relative > 0
    assert found.only_first == (
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "classifier.bias",
        "classifier.weight",
    )
    assert found.only_second == ()
    layer = dict((one.name, one) for one, _ in found.layers)["bert.encoder.layer.1"]
    assert layer.values == sum(b.numel() for n, b in before.items() if n.startswith("encoder.layer.1."))


def test_frozen_weights_have_not_moved(models, tiny_encoder):
    found = movement(find(str(models("partial"))), find(str(tiny_encoder)))
    moved = {one.name: one.changed for one, _ in found.layers}
    assert moved["bert.encoder.layer.0"] == 0.0
    assert moved["bert.embeddings"] == 0.0
    assert moved["bert.encoder.layer.1"] > 0


def test_shapes_zero_norms_and_half_precision(tmp_path):
    for name, tensors_ in (
        ("a", {"x.w": torch.ones(2), "y.w": torch.ones(3), "z.w": torch.ones(2, dtype=torch.bfloat16)}),
        ("b", {"x.w": torch.zeros(2), "y.w": torch.ones(4), "z.w": torch.full((2,), 2.0)}),
    ):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", {"model_type": "bert"})
        save_file(tensors_, tmp_path / name / "model.safetensors")
    found = movement(find(str(tmp_path / "a")), find(str(tmp_path / "b")))
    parts = {part.name: part for _, tensors in found.layers for part in tensors}
    assert parts["x.w"].relative is None
    assert parts["x.w"].changed == 2.0
    assert parts["z.w"].relative == 0.5
    assert found.other_shape == (("y.w", (3,), (4,)),)


def test_models_without_weights_or_of_another_kind_are_refused(models, tiny_encoder):
    with pytest.raises(ModelError, match="without weights"):
        movement(find(str(models("majority"))), find(str(tiny_encoder)))
    with pytest.raises(ModelError, match="no tensor in common"):
        movement(find(str(models("tfidf"))), find(str(tiny_encoder)))


def test_a_truncated_file_is_one_clear_error(models, tmp_path):
    import shutil

    folder = tmp_path / "cut"
    shutil.copytree(models("full"), folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated"):
        find(str(folder))
