"""The settings that say which data is used and how it is split."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator


def _names(value: Any) -> Any:
    """Turn ``"a, b"`` into ``("a", "b")``; YAML lists and tuples pass through."""
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(value) if isinstance(value, list) else value


def _number(value: str) -> int | float:
    try:
        return int(value) if value.strip().isdigit() else float(value)
    except ValueError:
        raise ValueError("must be a share between 0 and 1 or a number of rows") from None


def _size(value: Any) -> Any:
    """Keep rows (whole numbers) and shares (fractions) apart, also where a flag gives them as text."""
    if isinstance(value, bool):
        raise ValueError(f"must be a share between 0 and 1 or a number of rows, got {value}")
    if isinstance(value, str):
        value = _number(value)
    if isinstance(value, float) and not 0 < value < 1:
        raise ValueError(f"a share must lie between 0 and 1, got {value}; write a number of rows without a point")
    if isinstance(value, int) and value < 1:
        raise ValueError(f"a number of rows must be at least 1, got {value}")
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Size = Annotated[int | float, BeforeValidator(_size)]


class DataConfig(BaseModel):
    """Which data is used and how it is split; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = Field(
        description="CSV, TSV, JSON lines or Parquet file, `datasets` folder, hub name (glue/sst2) or packaged sample"
    )
    validation: str | None = Field(None, description="file that choices are made with; else taken from the data")
    holdout: str | None = Field(None, description="file that is scored once, at the end; else taken from the data")
    unlabeled: str | None = Field(None, description="file of texts without labels, added to the unlabeled pool")
    transductive: bool = Field(False, description="put the holdout's texts, without their labels, into the pool too")
    text: Names = Field(("text",), description="column of the text, or two columns (a,b) for pairs")
    label: str = Field("label", description="column of the label; rows where it is blank are the unlabeled pool")
    columns: Names = Field((), description="further columns used as features by strategies that can (a,b)")
    split_column: str | None = Field(None, description="column saying train, validation or test for each row")
    group: str | None = Field(None, description="column of groups (a customer, a thread) that no split may cut")
    labeled: int | None = Field(None, ge=2, description="use this many labeled rows for train and validation together")
    validation_size: Size = Field(0.2, description="share or number of the labeled rows (holdout aside) to choose with")
    holdout_size: Size = Field(0.2, description="share or number of the labeled rows to hold out, if none are given")
    mend: Names = Field((), description="findings to mend: all, or any of drop-empty, drop-duplicates, drop-conflicts, "
                        "merge-labels, drop-overlap, drop-rare")  # fmt: skip
    allow_overlap: bool = Field(False, description="accept texts that are both in train and in the holdout")
    encoding: str | None = Field(None, description="encoding of text files, where the one found is wrong")
    separator: str | None = Field(None, description="separator of CSV files, where the one found is wrong")

    @field_validator("text")
    @classmethod
    def _one_or_two(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) not in (1, 2) or len(set(value)) != len(value):
            raise ValueError(f"must name one column, or two different ones for pairs, got {list(value)}")
        return value

    @field_validator("columns")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({name for name in value if value.count(name) > 1})
        if twice:
            raise ValueError(f"names a column twice: {', '.join(twice)}")
        return value

    @field_validator("separator")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value in ("\\t", "tab"):
            return "\t"
        if value is not None and len(value) != 1:
            raise ValueError(f"must be one character, or 'tab', got {value!r}")
        return value

    @model_validator(mode="after")
    def _distinct_files(self) -> DataConfig:
        if self.holdout is not None and self.holdout in (self.data, self.validation):
            raise ValueError(f"holdout '{self.holdout}' is also given as data or validation: each needs its own file")
        if self.validation is not None and self.validation == self.data:
            raise ValueError(f"validation '{self.validation}' is also given as data: each needs its own file")
        return self
