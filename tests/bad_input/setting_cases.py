"""Flags that are wrong alone, or do not go together."""

from __future__ import annotations

from broken import Case, World, change_json

_QUICK = "compare reviews.csv --strategies majority --no-tracking --encoder ENCODER"
_ENCODER = "compare reviews.csv --strategies majority --no-tracking --encoder encoder"


def _with_encoder(world: World) -> None:
    world.copied_encoder()


def _with_source(world: World) -> None:
    world.copied_encoder()
    world.copied_model("network", "source")


SETTINGS = [
    Case("unknown command", "compaer reviews.csv", ["'compaer'", "Did you mean 'compare'?"]),
    Case("unknown flag", "compare reviews.csv --lable x", ["--lable", "--label", "headstart compare --help"]),
    Case("flag without a value", "compare reviews.csv --metric", ["--metric", "requires an argument"]),
    Case("fit without a strategy", "fit reviews.csv", ["--strategy", "headstart fit --help"]),
    Case("unknown strategy", "compare reviews.csv --strategies tfidf,lorra", ["'lorra'", "'lora'", "--strategies"]),
    Case("no strategy", f"{_QUICK} --strategies ,", ["--strategies names none", "leave it out"]),
    Case("two strategies to fit", "fit reviews.csv --strategy tfidf,full", ["--strategy", "one name", "'tfidf,full'"]),
    Case("unknown strategy to fit", "fit reviews.csv --strategy tfdif", ["'tfdif'", "'tfidf'", "--strategy"]),
    Case("unknown stage", "fit reviews.csv --strategy sauce+full", ["'sauce+full'", "'source+full'"]),
    Case("stage twice", "fit reviews.csv --strategy source+source+full", ["'source+source+full'", "twice"]),
    Case("stage without meaning", "fit reviews.csv --strategy source+tfidf", ["'source+tfidf'", "lora", "--strategy"]),
    Case("stage without a source", "fit reviews.csv --strategy source+full --encoder encoder",
         ["'source+full'", "--source FILE"], _with_encoder),
    Case("GRU without a source", "compare reviews.csv --encoder gru", ["--encoder", "--source FILE", "scratch-gru"]),
    Case("unknown metric", f"{_QUICK} --metric f1", ["'f1'", "accuracy", "'macro_f1'", "--metric"]),
    Case("unknown precision", f"{_QUICK} --precision bf16", ["'bf16'", "float32", "'bfloat16'", "--precision"]),
    Case("unknown device", f"{_QUICK} --device quantum", ["'quantum'", "--device cpu"]),
    Case("absent device", f"{_QUICK} --device cuda", ["'cuda'", "--device cpu"]),
    Case("unknown truncation", f"{_QUICK} --truncate middle", ["--truncate", "'head-tail'", "'middle'"]),
    Case("no threads", f"{_QUICK} --threads 0", ["--threads", "1", "'0'"]),
    Case("threads in words", f"{_QUICK} --threads two", ["--threads", "must be a whole number", "'two'"]),
    Case("no seeds", f"{_QUICK} --seeds 0", ["--seeds", "must be at least 1", "'0'"]),
    Case("negative seed", f"{_QUICK} --seed -1", ["--seed", "0", "'-1'"]),
    Case("length too small", f"{_QUICK} --max-length 2", ["--max-length", "4", "'2'"]),
    Case("length over the encoder's limit", f"{_ENCODER} --max-length 65", ["--max-length 65", "64 tokens"],
         _with_encoder),
    Case("length over the limit of RoBERTa's kind", f"{_ENCODER} --max-length 64", ["--max-length 64", "63 tokens"],
         lambda world: change_json(world.copied_encoder() / "config.json", model_type="roberta", pad_token_id=0)),
    Case("unknown setting of a strategy", f"{_QUICK} --set lora.rang=4", ["--set", "'rang'", "'rank'", "lora"]),
    Case("strategy's setting of another type", f"{_QUICK} --set full.epochs=many",
         ["--set", "full: epochs", "a whole number", "'many'"]),
    Case("setting of an unknown strategy", f"{_QUICK} --set fool.epochs=2", ["'fool'", "'full'", "--set"]),
    Case("setting of the source classifier", f"{_QUICK} --set source.epochs=many --set full.epochs=few",
         ["--set: source: epochs", "'many'", "--set: full: epochs", "'few'"], errors=2),
    Case("setting of the source GRU",
         "compare reviews.csv --encoder gru --source x.csv --set source.embedding_size=big",
         ["--set: source: embedding_size", "'big'"]),
    Case("setting without a strategy", f"{_QUICK} --set epochs=2", ["--set", "full.epochs=5", "'epochs=2'"]),
    Case("malformed label mapping", f"{_QUICK} --source x.csv --map-labels neg", ["--map-labels", "neg=negative"]),
    Case("label mapping without a source", f"{_QUICK} --map-labels a=neg", ["--map-labels", "--source"]),
    Case("mapping of labels that are not there",
         f"{_ENCODER} --source source --map-labels bad=neg,pos=positive",
         ["--map-labels", "'bad' is no source label", "'positive' is no target label", "neg, pos"], _with_source),
    Case("weight of a label that is not there", f"{_QUICK} --class-weights nag=2",
         ["--class-weights", "'nag'", "neg, pos", "Did you mean 'neg'?"]),
    Case("malformed weights", f"{_QUICK} --class-weights neg:2", ["--class-weights", "balanced", "'neg:2'"]),
    Case("negative weight", f"{_QUICK} --class-weights neg=-2", ["--class-weights", "above 0", "'neg=-2'"]),
    Case("share over one", f"{_QUICK} --holdout-size 1.5", ["--holdout-size", "between 0 and 1", "1.5"]),
    Case("size in words", f"{_QUICK} --validation-size some", ["--validation-size", "number of rows", "'some'"]),
    Case("one labeled row", f"{_QUICK} --labeled 1", ["--labeled", "2", "'1'"]),
    Case("three text columns", f"{_QUICK} --text a,b,c", ["--text", "two different", "'c'"]),
    Case("separator of two characters", f"{_QUICK} --separator ,,", ["--separator", "one character", "',,'"]),
    Case("unknown mending", f"{_QUICK} --mend drop-empy", ["'drop-empy'", "'drop-empty'", "--mend"]),
    Case("holdout is the data", f"{_QUICK} --holdout reviews.csv", ["'reviews.csv'", "needs its own file"]),
    Case("faults of many settings at once",
         "compare reviews.csv --metric f1 --strategies tfdif,majority --set full.rate=1 --seeds none",
         ["--metric", "--strategies", "--set", "--seeds"], errors=4),
    Case("faults of data, encoder and source at once",
         "compare revews.csv --encoder ./none --source nosuch.csv --strategies majority",
         ["file revews.csv does not exist. Did you mean 'reviews.csv'?", "./none", "file nosuch.csv does not exist"],
         errors=3),
    Case("faults of device, length and weights at once",
         f"{_ENCODER} --device quantum --max-length 65 --class-weights nag=2",
         ["'quantum'", "--max-length 65", "Did you mean 'neg'?"], _with_encoder, errors=3),
    Case("evaluate without data", "evaluate model", ["--data", "headstart evaluate --help"]),
    Case("predict without an output", "predict model reviews.csv", ["--out", "headstart predict --help"]),
]  # fmt: skip
