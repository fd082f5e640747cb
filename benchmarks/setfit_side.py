"""SetFit's own side of `setfit_race.py`, for whatever Python has setfit: nothing else of this project is imported.

python benchmarks/setfit_side.py task.json
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> int:
    task: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    if task["threads"]:
        torch.set_num_threads(task["threads"])
    transformer = Transformer(task["encoder"], max_seq_length=task["length"])
    pooling = Pooling(transformer.get_embedding_dimension())
    body = SentenceTransformer(modules=[transformer, pooling], device="cpu")
    model = SetFitModel(model_body=body, model_head=LogisticRegression(max_iter=1000))
    settings = TrainingArguments(
        batch_size=task["pairs"], max_steps=task["steps"], body_learning_rate=task["rate"],
        warmup_proportion=task["warmup"], seed=task["seed"], report_to="none", output_dir=task["out"],
        save_strategy="no", logging_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model=model, args=settings)
    start = time.perf_counter()
    trainer.train_embeddings(task["texts"], task["y"], args=settings)
    seconds = time.perf_counter() - start

    def encode(texts: list[str]) -> Any:
        return model.model_body.eval().encode(texts, show_progress_bar=False)

    head = LogisticRegression(max_iter=1000).fit(encode(task["texts"]), task["y"])
    right = head.predict(encode(task["score_texts"])) == task["score_y"]
    found = {"seconds": round(seconds, 3), "accuracy": round(float(right.mean()), 4)}
    print(json.dumps(found | {name: importlib.metadata.version(name) for name in ("setfit", "transformers")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
