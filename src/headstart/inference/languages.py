"""The languages a translation model knows, under the several names and places that its family keeps them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from headstart.inference.opening import Opened

_CODE = re.compile(r"[a-z]{2,3}_[A-Za-z]{2,4}")  # eng_Latn (NLLB), en_XX (mBART)
_PAIR = re.compile(r"translation_(\w+?)_to_(\w+)")  # T5
_TARGET = re.compile(r">>(\w+)<<")  # Marian, where it has several
_CODES_SHOWN = 12


@dataclass(frozen=True)
class Chosen:
    """What a pair of languages means to a model.

    Attributes:
        prefix: put in front of each text.
        first_token: id that the translation must begin with, or None.
        settings: name of the model's own settings for the pair.
    """

    prefix: str = ""
    first_token: int | None = None
    settings: str = "translation"


def choose_languages(opened: Opened, source: str | None, target: str | None) -> Chosen:
    """Return what a pair of languages means to a model; its tokenizer is set to the source language.

    Raises:
        ConfigError: a language that it needs is not named, or is none of its own.
    """
    tokenizer, model = opened.tokenizer, opened.model
    if codes := codes_of(tokenizer):
        return _by_code(opened, codes, source, target)
    per_task = getattr(model.config, "task_specific_params", None) or {}
    if pairs := {m.groups(): name for name in per_task if (m := _PAIR.fullmatch(name))}:
        return _by_prefix(pairs, per_task, source, target)
    targets = {
        m[1]: token for token in getattr(tokenizer, "supported_language_codes", ()) if (m := _TARGET.match(token))
    }
    if targets:
        code = _one_of(targets, target, "--to")
        return Chosen(prefix=f"{targets[code]} ")
    given = [flag for flag, value in (("--from", source), ("--to", target)) if value]
    if given:
        raise ConfigError(f"this model translates one pair of languages: leave {' and '.join(given)} out")
    return Chosen()


def codes_of(tokenizer: Any) -> dict[str, int]:
    """Return the language codes of a tokenizer that must be told the source language, with their token ids."""
    if not hasattr(tokenizer, "src_lang"):
        return {}
    if known := getattr(tokenizer, "lang_code_to_id", None):
        return {str(code): int(at) for code, at in known.items()}
    codes = [str(token) for token in tokenizer.all_special_tokens if _CODE.fullmatch(str(token))]
    return {code: int(tokenizer.convert_tokens_to_ids(code)) for code in codes}


def _by_code(opened: Opened, codes: dict[str, int], source: str | None, target: str | None) -> Chosen:
    opened.tokenizer.src_lang = _one_of(codes, source, "--from")
    own = opened.model.generation_config.forced_bos_token_id
    if target is None and own is not None:  # many languages into one
        return Chosen(first_token=int(own))
    return Chosen(first_token=codes[_one_of(codes, target, "--to")])


def _by_prefix(
    pairs: dict[tuple[str, ...], str], per_task: dict[str, Any], source: str | None, target: str | None
) -> Chosen:
    """Choose among T5's pairs, each of which has a sentence to put in front."""
    fitting = [pair for pair in pairs if source in (None, pair[0]) and target in (None, pair[1])]
    if len(fitting) != 1:
        known = ", ".join(f"{a} to {b}" for a, b in pairs)
        got = f"--from {source or '?'} --to {target or '?'}"
        raise ConfigError(f"this model translates {known}; name one pair with --from and --to (got {got})")
    name = pairs[fitting[0]]
    return Chosen(prefix=str((per_task[name] or {}).get("prefix", "")), settings=name)


def _one_of(codes: Iterable[str], given: str | None, flag: str) -> str:
    """Return the code meant: as given, or the only one that begins with it (``fra`` for ``fra_Latn``).

    Raises:
        ConfigError: none is given or meant, or several are.
    """
    known = sorted(codes)
    meant = [code for code in known if given in (code, code.partition("_")[0])]
    if given is not None and given in known:
        return given
    if given is not None and len(meant) == 1:
        return meant[0]
    shown = ", ".join(meant or known[:_CODES_SHOWN]) + (", ..." if not meant and len(known) > _CODES_SHOWN else "")
    got = "is needed" if given is None else f"{given} is not one language" if meant else f"{given} is unknown"
    raise ConfigError(f"{flag} {got}: this model knows {shown}.{did_you_mean(given or '', known) if given else ''}")
