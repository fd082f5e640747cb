"""The one table of tasks. Importing it loads neither torch nor transformers."""

from __future__ import annotations

from headstart.inference import classification, features, generation, question, tokens
from headstart.inference.task import Options, Task

_ROWS = (
    Task(
        "sentiment",
        "the label of each text, by any text classifier",
        "SequenceClassification",
        classification.SentimentOptions,
        classification.sentiment,
        ("label", "score", "scores"),
    ),
    Task(
        "zero-shot",
        "which of --labels fits each text, by a model of textual entailment",
        "SequenceClassification",
        classification.ZeroShotOptions,
        classification.zero_shot,
        ("label", "score", "scores"),
    ),
    Task("ner", "names and other spans in each text", "TokenClassification", tokens.NerOptions, tokens.ner, ("spans",)),
    Task(
        "fill-mask",
        "the likeliest words for each [MASK]",
        "MaskedLM",
        tokens.FillMaskOptions,
        tokens.fill_mask,
        ("masks",),
    ),
    Task("features", "a vector for each text", "", features.FeaturesOptions, features.features, ("features",)),
    Task(
        "question",
        "the span of --context that answers each question",
        "QuestionAnswering",
        question.QuestionOptions,
        question.question,
        ("answer", "start", "end", "score", "score_none"),
        takes_context=True,
    ),
    Task(
        "generate",
        "how each text goes on",
        "CausalLM",
        generation.GenerateOptions,
        generation.generate,
        ("generated",),
        writes=True,
    ),
    Task(
        "summarize",
        "a summary of each text",
        "Seq2SeqLM",
        generation.WritingOptions,
        generation.summarize,
        ("summary",),
        writes=True,
    ),
    Task(
        "translate",
        "each text in another language (--to)",
        "Seq2SeqLM",
        generation.TranslateOptions,
        generation.translate,
        ("translation",),
        writes=True,
    ),
)
TASKS: dict[str, Task] = {row.name: row for row in _ROWS}


def option_names() -> list[str]:
    """Return the names of all tasks' options, each once, in the order of the table."""
    return list(dict.fromkeys(name for row in _ROWS for name in row.options.model_fields))


def tasks_with(option: str) -> list[str]:
    """Return the tasks that have an option."""
    return [row.name for row in _ROWS if option in row.options.model_fields]


__all__ = ["TASKS", "Options", "Task", "option_names", "tasks_with"]
