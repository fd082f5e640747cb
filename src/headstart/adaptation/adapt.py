"""From texts to an adapted encoder's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.adaptation.config import AdaptConfig
from headstart.adaptation.corpus import Corpus, read_rows
from headstart.adaptation.language_model import LanguageModel, load_language_model
from headstart.adaptation.loop import Adaptation, phases_of
from headstart.adaptation.seen import SEEN, read_seen, write_seen
from headstart.adaptation.state import StateStore
from headstart.data.rows import text_keys
from headstart.errors import DataError, ModelError
from headstart.models.classifier import Advance
from headstart.models.encoders import Encoder
from headstart.models.runtime import Runtime
from headstart.records import fingerprint, fingerprint_json, read_json, versions, whole_folder, write_json

CARD = "adaptation.json"
_RECIPE = 3  # counted up when training changes, so that older cached encoders are not taken for new ones
_FEWEST_TEXTS = 2
_DEFAULT_LENGTH, _DEFAULT_BLOCK = 256, 128
_HELD_OUT = 3  # a stream of chance
_MOST_HELD_OUT = 2000


@dataclass(frozen=True)
class Adapted:
    """What an adaptation left behind.

    Attributes:
        encoder: the folder, as an encoder.
        card: the content of ``adaptation.json``.
        cached: it was there already.
    """

    encoder: Encoder
    card: dict[str, Any]
    cached: bool


def adaptation_key(
    encoder: Encoder, texts: Sequence[str], config: AdaptConfig, *, seed: int, machine: Sequence[Any]
) -> str:
    """Return a fingerprint of everything that an adapted encoder depends on.

    Args:
        encoder: weights and tokenizer.
        texts: in order.
        config: settings.
        seed: of all chance.
        machine: device, precision and threads, which change the last digits.
    """
    about = {"recipe": _RECIPE, "settings": config.model_dump(mode="json"), "seed": seed, "machine": list(machine)}
    return fingerprint([encoder.fingerprint, fingerprint_json(about), *texts])


def adapt_encoder(
    encoder: Encoder,
    texts: Sequence[str],
    folder: Path,
    config: AdaptConfig,
    *,
    runtime: Runtime,
    threads: int,
    seed: int = 0,
    advance: Advance | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_start: Callable[[int], None] | None = None,
) -> Adapted:
    """Train an encoder further on texts without labels, and write it as an ordinary checkpoint.

    The same call again takes a finished folder as it is, and goes on from the last step that an interrupted one kept
    (beside the folder, in a hidden one) to the same weights.

    Args:
        encoder: to start from.
        texts: N texts, in order.
        folder: written whole at the end: safetensors, tokenizer, ``adaptation.json``, and fingerprints of the texts.
        config: settings.
        runtime: device and precision.
        threads: processor threads in use.
        seed: of masks, order, dropout and a fresh head.
        advance: told how many rows were done.
        on_epoch: told each epoch's figures.
        on_start: told how many rows there are to do at most, over all epochs.

    Raises:
        DataError: there are too few texts.
        HeadstartError: training diverged.
        ModelError: the encoder cannot be adapted.
        StorageError: the folder cannot be written.
    """
    machine = (runtime.device, runtime.precision, threads)
    key = adaptation_key(encoder, texts, config, seed=seed, machine=machine)
    if (card := finished(folder, key)) is not None:
        if not (folder / SEEN).is_file():  # written before such files were
            write_seen(folder, texts, read_seen(encoder.folder) or ())
        return Adapted(Encoder(encoder.name, folder), card, True)
    parts = hold_out(texts, config.held_out, seed)
    lm = load_language_model(encoder, seed=seed)
    length = _length(encoder, config)
    corpus, held = _rows(lm, parts, config, length, seed)
    store = StateStore(state_folder(folder), key)
    if on_start is not None:
        on_start(sum(phase.epochs for phase in phases_of(lm, config)) * len(corpus))
    running = Adaptation(
        lm, corpus, held, config, runtime=runtime, seed=seed, store=store, advance=advance, on_epoch=on_epoch
    )
    with store.alone():
        if (card := finished(folder, key)) is not None:  # by another process, which was waited for
            return Adapted(Encoder(encoder.name, folder), card, True)
        position = running.run()
        card = {
            "fingerprint": key,
            "encoder": encoder.name,
            "encoder_fingerprint": encoder.fingerprint,
            "texts": len(texts),
            "texts_without_tokens": corpus.empty + held.empty,
            "rows": len(corpus),
            "rows_held_out": len(held),
            "tokens": int(corpus.tokens.lengths.sum()),
            "max_length": length,
            "objective": "next token" if lm.causal else "masked tokens",
            "fresh_head": bool(lm.fresh),
            "settings": config.model_dump(mode="json"),
            "seed": seed,
            "runtime": {"device": runtime.device, "precision": runtime.precision, "threads": threads},
            "epochs": position.epochs,
            "best_epoch": position.best_epoch,
            "curve": position.curve,
            "versions": versions(),
        }
        with whole_folder(folder) as temporary:
            lm.write(temporary)
            write_json(temporary / CARD, card)
            write_seen(temporary, texts, read_seen(encoder.folder) or ())
        store.drop()
    return Adapted(Encoder(encoder.name, folder), card, False)


def _rows(
    lm: LanguageModel, parts: tuple[list[str], list[str]], config: AdaptConfig, length: int, seed: int
) -> tuple[Corpus, Corpus]:
    """Return rows to train on and held-out ones; where a part has no known word, parts are drawn from texts with some.

    Raises:
        DataError: fewer than two different texts have any.
    """

    def read(texts: Sequence[str]) -> Corpus:
        return read_rows(lm.tokenizer, texts, max_length=length, rows=config.rows)

    corpus, held = read(parts[0]), read(parts[1])
    if corpus.has_words(lm.causal) and held.has_words(lm.causal):
        return corpus, held
    texts = [*parts[0], *parts[1]]
    known = [text for text in texts if read([text]).has_words(lm.causal)]
    if len(set(text_keys(known, None))) < _FEWEST_TEXTS:
        raise DataError("fewer than 2 of the texts to adapt to have a word that the encoder's tokenizer knows")
    train, judging = hold_out(known, config.held_out, seed)
    chosen = set(known)
    return read([*train, *(text for text in texts if text not in chosen)]), read(judging)


def finished(folder: Path, key: str) -> dict[str, Any] | None:
    """Return the card of an adapted encoder that a call with this key left, or None."""
    try:
        card: dict[str, Any] = dict(read_json(folder / CARD))
    except (OSError, ValueError, TypeError):
        return None
    return card if card.get("fingerprint") == key else None


def finished_by_other(folder: Path) -> bool:
    """Whether a folder holds something that is no adapted encoder, and so must not be written over."""
    return folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file()


def state_folder(folder: Path) -> Path:
    """Return where an unfinished adaptation is kept."""
    return folder.with_name(f".{folder.name}.adapting")


def hold_out(texts: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return texts to train on and texts that only measure the loss, each in the given order; all copies on one side.

    Raises:
        DataError: there are too few different ones.
    """
    keys = text_keys(texts, None)
    different = list(dict.fromkeys(keys))
    if len(different) < _FEWEST_TEXTS:
        raise DataError(f"at least {_FEWEST_TEXTS} different texts are needed to adapt to; got {len(different)}")
    count = min(max(1, round(share * len(different))), _MOST_HELD_OUT, len(different) - 1)
    drawn = np.random.default_rng([seed, _HELD_OUT]).permutation(len(different))[:count]
    held = {different[i] for i in drawn}
    pairs = list(zip(texts, keys, strict=True))
    return [text for text, key in pairs if key not in held], [text for text, key in pairs if key in held]


def _length(encoder: Encoder, config: AdaptConfig) -> int:
    limit = encoder.token_limit()
    if config.max_length is not None and config.max_length > limit:
        raise ModelError(f"max_length {config.max_length} is more than this encoder can read: {limit} tokens")
    return config.max_length or min(limit, _DEFAULT_LENGTH if config.rows == "texts" else _DEFAULT_BLOCK)
