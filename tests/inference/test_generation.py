"""``generate`` beside transformers' pipeline; ``summarize`` and ``translate``, which have none, beside the model."""

from __future__ import annotations

import importlib.util
import io

import pytest
import torch
from tiny_models import LONG, SENTENCES, save_model
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline

from conftest import VOCABULARY, make_tokenizer
from headstart import infer
from headstart.errors import ConfigError, DataError, ModelError

T5_SETTINGS = {
    "summarization": {
        "prefix": "story : ",
        "max_length": 9,
        "min_length": 5,
        "num_beams": 2,
        "no_repeat_ngram_size": 2,
    },
    "translation_en_to_de": {"prefix": "the first : ", "max_length": 7},
    "translation_en_to_fr": {"prefix": "the second : ", "max_length": 7},
}


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return save_model("GPT2LMHeadModel", tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="module")
def rewriter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "t5"
    return save_model("T5ForConditionalGeneration", folder, task_specific_params=T5_SETTINGS)


def written_by(folder, text, **settings):
    """Return what the model itself writes for one text, unpadded."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(text, return_tensors="pt")
    inputs.pop("token_type_ids", None)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    with torch.inference_mode():
        return tokenizer.decode(model.generate(**inputs, do_sample=False, **settings)[0], skip_special_tokens=True)


def test_generation_equals_the_pipeline_in_any_batch(writer):
    found = infer("generate", SENTENCES, model=str(writer), max_new_tokens=6)
    theirs = pipeline("text-generation", str(writer), max_new_tokens=6, do_sample=False, return_full_text=False)
    expected = [theirs(text, add_special_tokens=True)[0]["generated_text"] for text in SENTENCES]
    assert [one["generated"] for one in found] == expected
    assert len(set(expected)) > 1


def test_drawing_is_by_the_seed(writer):
    def draw(seed, **more):
        return [
            o["generated"] for o in infer("generate", SENTENCES, model=str(writer), temperature=2, seed=seed, **more)
        ]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1, top_p=1e-6) == [one["generated"] for one in infer("generate", SENTENCES, model=str(writer))]


def test_of_a_long_text_generation_reads_the_end(writer):
    (found,) = infer("generate", LONG, model=str(writer), max_new_tokens=10)
    ids = AutoTokenizer.from_pretrained(writer)(LONG)["input_ids"]
    assert found["cut_tokens"] == len(ids) - (64 - 10)
    (other,) = infer("generate", "a child. " + LONG, model=str(writer), max_new_tokens=10)
    assert other["generated"] == found["generated"]
    with pytest.raises(ConfigError, match="leaves no room"):
        infer("generate", LONG, model=str(writer), max_new_tokens=64)


def test_an_empty_text_needs_a_token_to_begin_with(writer, tmp_path):
    with pytest.raises(DataError, match="text 2 is empty"):
        infer("generate", ["a film", ""], model=str(writer))
    tokenizer = make_tokenizer(segments=False)
    tokenizer.add_special_tokens({"bos_token": "[CLS]"})
    folder = save_model("GPT2LMHeadModel", tmp_path, tokenizer=tokenizer)
    assert infer("generate", "", model=str(folder))[0]["text"] == ""


def test_a_summary_is_written_with_the_models_own_settings(rewriter):
    found = infer("summarize", SENTENCES, model=str(rewriter))
    own = {key: value for key, value in T5_SETTINGS["summarization"].items() if key != "prefix"}
    assert [one["summary"] for one in found] == [written_by(rewriter, f"story : {t}", **own) for t in SENTENCES]
    short = infer("summarize", SENTENCES, model=str(rewriter), max_new_tokens=2, beams=1)
    assert [one["summary"] for one in short] == [
        written_by(rewriter, f"story : {t}", max_new_tokens=2, num_beams=1, no_repeat_ngram_size=2) for t in SENTENCES
    ]


def test_what_a_summary_did_not_read_is_said(tmp_path):
    folder = save_model("BartForConditionalGeneration", tmp_path, written=6)
    (found,) = infer("summarize", LONG, model=str(folder))
    with pytest.raises(ConfigError, match="less than 64"):
        infer("summarize", LONG, model=str(folder), max_new_tokens=64)
    assert found["cut_tokens"] == len(AutoTokenizer.from_pretrained(folder)(LONG)["input_ids"]) - 64
    assert infer("summarize", SENTENCES, model=str(folder))[0]["summary"] == written_by(folder, SENTENCES[0])


def test_t5_translates_the_pairs_it_was_trained_on(rewriter):
    found = infer("translate", SENTENCES, model=str(rewriter), from_language="en", to_language="fr")
    expected = [written_by(rewriter, f"the second : {text}", max_length=7) for text in SENTENCES]
    assert [one["translation"] for one in found] == expected
    for wrong in ({}, {"to_language": "it"}, {"from_language": "en"}):
        with pytest.raises(ConfigError, match=r"en to de, en to fr; name one pair with --from and --to"):
            infer("translate", SENTENCES, model=str(rewriter), **wrong)


def unigram_vocabulary():
    words = [f"\u2581{word}" for word in VOCABULARY if word.isalpha()]
    return [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((word, -5.0) for word in words)]


def multilingual(folder, family):
    """Write a tiny model that is told languages by codes."""
    import transformers

    codes = {
        "MBart50": ("en_XX", "fr_XX", "de_DE"),
        "Nllb": ("eng_Latn", "fra_Latn", "por_Latn", "spa_Latn", "zho_Hans", "zho_Hant"),
    }[family]
    if family == "MBart50":
        vocabulary = [*unigram_vocabulary(), *((code, 0.0) for code in codes)]
        tokenizer = transformers.MBart50Tokenizer(vocab=vocabulary)
        name, ids = "MBartForConditionalGeneration", {"pad_token_id": 1, "eos_token_id": 2}
    else:
        words = [word for word in VOCABULARY if word.isalpha()]
        vocabulary = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", *words, *codes])}
        tokenizer = transformers.NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=list(codes))
        name, ids = "M2M100ForConditionalGeneration", {"pad_token_id": 1, "eos_token_id": 2}
    save_model(name, folder, tokenizer=tokenizer, vocab_size=len(tokenizer), written=8, **ids)
    return tokenizer


@pytest.mark.parametrize(
    ("family", "source", "target", "code"),
    [("MBart50", "en_XX", "fr", "fr_XX"), ("Nllb", "eng", "fra_Latn", "fra_Latn")],
)
def test_a_multilingual_model_is_told_both_languages(family, source, target, code, tmp_path):
    tokenizer = multilingual(tmp_path, family)
    found = infer("translate", SENTENCES, model=str(tmp_path), from_language=source, to_language=target)
    first = tokenizer.convert_tokens_to_ids(code)
    expected = [written_by(tmp_path, text, forced_bos_token_id=first) for text in SENTENCES]  # sources are the default
    assert [one["translation"] for one in found] == expected
    with pytest.raises(ConfigError, match="--to is needed: this model knows"):
        infer("translate", SENTENCES, model=str(tmp_path), from_language=source)
    with pytest.raises(ConfigError, match="--from xx is unknown"):
        infer("translate", SENTENCES, model=str(tmp_path), from_language="xx", to_language=target)


def test_a_code_that_fits_two_languages_is_refused(tmp_path):
    multilingual(tmp_path, "Nllb")
    with pytest.raises(ConfigError, match="--to zho is not one language: this model knows zho_Hans, zho_Hant"):
        infer("translate", SENTENCES, model=str(tmp_path), from_language="eng", to_language="zho")


def test_a_model_of_one_pair_is_told_nothing(tmp_path):
    folder = save_model("BartForConditionalGeneration", tmp_path, written=6)
    found = infer("translate", SENTENCES, model=str(folder))
    assert [one["translation"] for one in found] == [written_by(folder, text) for text in SENTENCES]
    with pytest.raises(ConfigError, match="one pair of languages: leave --to out"):
        infer("translate", SENTENCES, model=str(folder), to_language="de")


TRAINING = [*SENTENCES, LONG] * 20


def marian(folder):
    """Write a tiny Marian model of two target languages; its vocabulary is SentencePiece's."""
    import json

    import transformers

    trainer = pytest.importorskip("sentencepiece", reason="needs sentencepiece, which is no dependency")
    trained = io.BytesIO()
    trainer.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING), model_writer=trained, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    pieces = trainer.SentencePieceProcessor(model_proto=trained.getvalue())
    words = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    names = ["</s>", "<unk>", *(w for w in words if w not in ("</s>", "<unk>", "<s>")), ">>fra<<", ">>deu<<", "<pad>"]
    folder.mkdir()
    (folder / "spm").write_bytes(trained.getvalue())
    (folder / "json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    tokenizer = transformers.MarianTokenizer(*(str(folder / file) for file in ("spm", "spm", "json")))
    pad = len(names) - 1
    ids = {"vocab_size": len(names), "pad_token_id": pad, "eos_token_id": 0, "decoder_start_token_id": pad}
    return save_model("MarianMTModel", folder, tokenizer=tokenizer, written=8, **ids, forced_eos_token_id=0)


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_a_marian_model_is_told_the_target_in_front_of_the_text(tmp_path):
    folder = marian(tmp_path / "marian")
    found = infer("translate", SENTENCES, model=str(folder), to_language="deu")
    assert [one["translation"] for one in found] == [written_by(folder, f">>deu<< {text}") for text in SENTENCES]
    with pytest.raises(ConfigError, match="--to is needed: this model knows deu, fra"):
        infer("translate", SENTENCES, model=str(folder))


def test_a_library_that_a_tokenizer_needs_is_named(tmp_path):
    if importlib.util.find_spec("sentencepiece"):
        pytest.skip("sentencepiece is installed")
    folder = save_model("MarianMTModel", tmp_path)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')
    with pytest.raises(ModelError, match=r"requires the SentencePiece library.*install that library with pip"):
        infer("translate", SENTENCES, model=str(folder))
