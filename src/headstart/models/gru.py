"""The classic baseline: token embedding, bidirectional GRU, dense layers with batch norm and dropout.

It is written as a transformers model, so that loading, saving, features, freezing and inspection are the same
code as for every pretrained encoder. Nothing is registered with transformers: `encoders` knows the model type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutputWithPooling, SequenceClassifierOutput

TOKEN_PATTERN = r"\w+|[^\w\s]"


class GruConfig(PretrainedConfig):
    """Sizes of the GRU classifier; the defaults are the classic recipe's."""

    model_type = "headstart_gru"

    def __init__(
        self,
        vocab_size: int = 20_000,
        embedding_size: int = 64,
        hidden_size: int = 100,
        dense_size: int = 64,
        dropout: float = 0.3,
        pad_token_id: int = 0,
        **kwargs: Any,  # whatever else transformers stores in a config: labels, versions
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size  # both directions together
        self.dense_size = dense_size
        self.dropout = dropout
        self.num_hidden_layers = 1
        super().__init__(pad_token_id=pad_token_id, **kwargs)


class GruModel(PreTrainedModel):
    """Token embedding and bidirectional GRU: ids (B, T) to states (B, T, H)."""

    config_class = GruConfig
    base_model_prefix = "body"

    def __init__(self, config: GruConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.gru = nn.GRU(config.embedding_size, config.hidden_size // 2, batch_first=True, bidirectional=True)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding | nn.GRU | nn.Linear | nn.BatchNorm1d):
            module.reset_parameters()

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """Return states (B, T, H) and, pooled, the last state of each direction (B, H)."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        lengths = attention_mask.sum(dim=1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(input_ids), lengths, batch_first=True, enforce_sorted=False
        )
        states, last = self.gru(packed)
        states, _lengths = nn.utils.rnn.pad_packed_sequence(
            states, batch_first=True, total_length=input_ids.shape[1]
        )  # (B, T, H)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=torch.cat([last[0], last[1]], dim=1))


class GruForSequenceClassification(PreTrainedModel):
    """GRU body and a dense head with batch norm and dropout: ids (B, T) to logits (B, C)."""

    config_class = GruConfig
    base_model_prefix = "body"

    def __init__(self, config: GruConfig) -> None:
        super().__init__(config)
        self.body = GruModel(config)
        self.dense = nn.Linear(config.hidden_size, config.dense_size)
        self.norm = nn.BatchNorm1d(config.dense_size)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.dense_size, config.num_labels)
        self.post_init()

    _init_weights = GruModel._init_weights

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> SequenceClassifierOutput:
        """Return logits (B, C)."""
        pooled = self.dropout(self.body(input_ids, attention_mask).pooler_output)  # (B, H)
        hidden = self.dropout(torch.relu(self.norm(self.dense(pooled))))  # (B, D)
        return SequenceClassifierOutput(logits=self.classifier(hidden))


def build_tokenizer(texts: Sequence[str], *, max_words: int = 20_000, min_count: int = 2) -> PreTrainedTokenizerFast:
    """Learn a word vocabulary from training texts: lower-cased, words and single marks, most frequent first.

    Args:
        texts: training texts only.
        max_words: most words kept; the rest, and what comes later, is ``[UNK]``.
        min_count: words seen fewer times are left out.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    splitter = pre_tokenizers.Split(Regex(TOKEN_PATTERN), behavior="removed", invert=True)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _span in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    kept = [w for w, n in counts.items() if n >= min_count and w not in ("[PAD]", "[UNK]", "[SEP]")]
    kept.sort(key=lambda w: (-counts[w], w))
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "[SEP]", *kept[:max_words]])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A [SEP] $B", special_tokens=[("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "attention_mask"],
    )
