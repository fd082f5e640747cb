"""Adaptation against transformers' Trainer with its language-model collator: seconds to the same held-out loss.

Same texts, rate, batch size in texts' tokens, epochs, dropout (hidden as the checkpoint has it, none of attention's)
and objective (15% of tokens, 80/10/10); ours in the precision that it chooses, the Trainer in its own float32. Both
start from one checkpoint whose fresh head has been trained alone before the clock starts. The Trainer's evaluation is
switched off; its model is scored with ours after each epoch, off the clock, on the same masked positions. The claim is
about the Trainer as it comes, which draws texts of any length together; the same with texts of like length together
(``train_sampling_strategy="group_by_length"``) is shown beside it with the first seed, and where ours computes in
bfloat16 the Trainer with ``bf16=True`` too, which tells how much of the ratio the precision is. Seeds are of held-out
texts, head, masks, order and dropout; the claims are about the median ratio and the worst loss.

    python benchmarks/adapt_race.py --json benchmarks/results/adapt_race.json
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from common import Claim, finish, median_at_least, new_parser, shared_data, shared_encoder, spread
from headstart.adaptation.adapt import hold_out
from headstart.adaptation.config import AdaptConfig
from headstart.adaptation.corpus import Corpus, read_rows
from headstart.adaptation.language_model import load_language_model
from headstart.adaptation.loop import Adaptation
from headstart.models.checkpoint import quiet_transformers
from headstart.models.encoders import Encoder, find_encoder
from headstart.models.loading import load_config
from headstart.models.runtime import Runtime, choose_runtime, keep_freed_memory
from headstart.training.dropout import NO_ATTENTION_DROPOUT

_FASTER = 4.0
_LOSS = 0.02
# By suffix: what is changed of the Trainer's arguments, and the words for it. The first runs with every seed.
_RIVALS: dict[str, tuple[dict[str, Any], str]] = {
    "": ({}, "as it comes"),
    "_grouped": ({"train_sampling_strategy": "group_by_length"}, "with texts of like length together"),
    "_bf16": ({"bf16": True}, "in bfloat16"),
}


def main() -> int:
    parser = new_parser(__doc__, out="adapt_race")
    parser.add_argument("--rows", type=int, default=400, metavar="N", help="texts (%(default)s)")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="epochs (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="the Trainer's texts a step (32)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds (%(default)s)")
    parser.add_argument("--encoder", metavar="NAME", help="by default ../shared/models/e5-small-enpt")
    options = parser.parse_args()
    keep_freed_memory()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    data = shared_data("reviews_pt.parquet")
    encoder = find_encoder(options.encoder or shared_encoder())
    texts = pd.read_parquet(data)["text"].head(options.rows).tolist()
    runtime = choose_runtime()
    races = [race(encoder, texts, options, runtime, seed) for seed in range(options.seeds)]
    about = {"device": runtime.device, "precision": runtime.precision, "threads": torch.get_num_threads()}
    ratios = {way: [one[f"times{way}"] for one in races if f"times{way}" in one] for way in _RIVALS}
    figures = {
        **{f"times{way}": found for way, found in ratios.items()},
        "races": races,
        "runtime": {**about, "product_rates": runtime.product_rates},
    }
    figures["told"] = [
        f"Times faster than the Trainer {_RIVALS[way][1]}: {spread([round(times, 2) for times in found])}."
        for way, found in ratios.items()
        if found and None not in found
    ]
    return finish("adapt_race", options, claims_of(races), figures)


def race(
    encoder: Encoder, texts: list[str], options: argparse.Namespace, runtime: Runtime, seed: int
) -> dict[str, Any]:
    """Return seconds and losses of ours and of the Trainer in each way, and how many times faster ours was."""
    folder = Path(options.out)
    shutil.rmtree(folder, ignore_errors=True)
    train, held = hold_out(texts, 0.05, seed)
    start = warmed(encoder, train, held, folder / "start", runtime, seed)
    ours = run_ours(start, train, held, options, runtime, seed)
    ways = ["", *(way for way in _RIVALS if way and not seed and (way != "_bf16" or runtime.precision == "bfloat16"))]
    rivals = {
        way: run_trainer(start, train, held, options, runtime, folder / "trainer", seed, _RIVALS[way][0])
        for way in ways
    }
    goal, _ = compared(ours, rivals[""])
    times = {f"times{way}": compared(ours, theirs)[1] for way, theirs in rivals.items()}
    if not options.quiet:
        print(f"seed {seed}: to a held-out loss of {goal:.3f}, times faster than the Trainer: {times}")
    return {"seed": seed, **times, "goal": goal, "ours": ours, **{f"trainer{way}": r for way, r in rivals.items()}}


def claims_of(races: list[dict[str, Any]]) -> list[Claim]:
    """Return what must show: speed, and that what was reached so fast is as good."""
    reached = [one["times"] for one in races if one["times"] is not None]
    ends = [(one["ours"]["losses"][-1], one["ours"]["start"], one["trainer"]["losses"][-1]) for one in races]
    below = max(ours - start for ours, start, _ in ends)
    beyond = max(ours - theirs for ours, _, theirs in ends)
    name = "times faster to the same held-out loss, no attention dropout on both sides"
    return [
        median_at_least(name, reached if len(reached) == len(races) else [], _FASTER, none="not reached"),
        Claim("held-out loss, minus that of the start, worst seed", "< 0", f"{below:+.4f}", below < 0),
        Claim("held-out loss in the end, minus the Trainer's, worst seed", f"<= {_LOSS:+}", f"{beyond:+.4f}",
              beyond <= _LOSS),
    ]  # fmt: skip


def compared(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[float, float | None]:
    """Return the higher of both last losses, and how many times sooner ours was there."""
    goal = max(ours["losses"][-1], theirs["losses"][-1])
    sooner, later = (seconds_to(run, goal) for run in (ours, theirs))
    return goal, None if sooner is None or later is None else later / sooner


def seconds_to(run: dict[str, Any], goal: float) -> float | None:
    """Return the training seconds after which the held-out loss was at most ``goal``, at the end of an epoch."""
    for seconds, loss in zip(run["seconds"], run["losses"], strict=True):
        if loss <= goal:
            return float(seconds)
    return None


def corpora(lm: Any, train: list[str], held: list[str]) -> tuple[Corpus, Corpus]:
    """Return rows of both, as long as the encoder allows up to 256 tokens."""
    one, other = (read_rows(lm.tokenizer, texts, max_length=256, rows="texts") for texts in (train, held))
    return one, other


def warmed(encoder: Encoder, train: list[str], held: list[str], folder: Path, runtime: Runtime, seed: int) -> Encoder:
    """Write the encoder with a head trained alone for an epoch: where both start."""
    lm = load_language_model(encoder, seed=seed)
    config = AdaptConfig(epochs=1, learning_rate=1e-12)
    Adaptation(lm, *corpora(lm, train, held), config, runtime=runtime, seed=seed).run()
    lm.write(folder)
    return Encoder("start", folder)


def run_ours(
    start: Encoder, train: list[str], held: list[str], options: argparse.Namespace, runtime: Runtime, seed: int
) -> dict[str, Any]:
    """Adapt, and return seconds of training and held-out losses at the end of each epoch."""
    lm = load_language_model(start, seed=0)
    rows = corpora(lm, train, held)
    tokens = round(options.batch_size * float(rows[0].tokens.lengths.mean()))
    config = AdaptConfig(epochs=options.epochs, batch_tokens=tokens, patience=options.epochs)
    clock = _Clock()
    running = Adaptation(lm, *rows, config, runtime=runtime, seed=seed, on_epoch=clock.epoch)
    scored = running.held_out_loss

    def off_the_clock() -> float:
        clock.stop()
        loss = scored()
        clock.go()
        return loss

    running.held_out_loss = off_the_clock  # type: ignore[method-assign]
    running.run()
    start_loss, *losses = clock.losses
    return {"seconds": clock.seconds[1:], "losses": losses, "start": start_loss, "batch_tokens": tokens}


class _Clock:
    def __init__(self) -> None:
        self.total, self.began = 0.0, time.perf_counter()
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def stop(self) -> None:
        self.total += time.perf_counter() - self.began

    def go(self) -> None:
        self.began = time.perf_counter()

    def epoch(self, figures: dict[str, Any]) -> None:
        if figures["epoch"] == 0:
            self.total = 0.0
        self.seconds.append(round(self.total, 2))
        self.losses.append(figures["held_out_loss"])


def run_trainer(
    start: Encoder,
    train: list[str],
    held: list[str],
    options: argparse.Namespace,
    runtime: Runtime,
    out: Path,
    seed: int,
    changes: dict[str, Any],
) -> dict[str, Any]:
    """Train with transformers' Trainer at its usual settings but for some changes; return the same figures."""
    from transformers import (
        AutoModelForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    lm = load_language_model(start, seed=0)
    rows = corpora(lm, train, held)
    config = load_config(start.folder)
    for name, value in NO_ATTENTION_DROPOUT.items():  # as ours
        if hasattr(config, name):
            setattr(config, name, value)
    with quiet_transformers():
        model = AutoModelForMaskedLM.from_pretrained(str(start.folder), config=config, dtype=torch.float32)
    judge = Adaptation(lm, *rows, AdaptConfig(), runtime=runtime, seed=seed)
    clock = _Clock()

    class Score(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.total = 0.0
            clock.go()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            clock.stop()
            lm.model.load_state_dict(model.state_dict())
            loss = judge.held_out_loss()
            clock.epoch({"epoch": 1, "held_out_loss": loss})
            clock.go()

    arguments = TrainingArguments(
        output_dir=str(out), num_train_epochs=options.epochs, per_device_train_batch_size=options.batch_size,
        learning_rate=AdaptConfig().learning_rate, weight_decay=AdaptConfig().weight_decay, warmup_steps=0.1,
        save_strategy="no", logging_strategy="no", report_to="none", disable_tqdm=True, seed=seed,
        dataloader_pin_memory=runtime.device != "cpu", use_cpu=runtime.device == "cpu", **changes,
    )  # fmt: skip
    collator = DataCollatorForLanguageModeling(lm.tokenizer, mlm_probability=0.15)
    dataset = [{"input_ids": ids.tolist()} for ids in rows[0].tokens.ids]
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=collator, callbacks=[Score()])
    trainer.train()
    return {"seconds": clock.seconds, "losses": clock.losses, "batch_size": options.batch_size}


if __name__ == "__main__":
    sys.exit(main())
