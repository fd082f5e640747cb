"""Experiment files."""

from __future__ import annotations

from collections.abc import Callable

from broken import Case, World, with_file

_RUN = "compare experiment.yaml"


def _yaml(content: str) -> Callable[[World], object]:
    return with_file("experiment.yaml", content)


def _folder(world: World) -> None:
    (world.folder / "experiment.yaml").mkdir()


YAML = [
    Case("experiment file that is missing", "compare experimnt.yaml", ["experimnt.yaml", "'experiment.yaml'"],
         _yaml("data: reviews.csv\n")),
    Case("experiment file that is a folder", _RUN, ["experiment.yaml", "directory", "YAML file"], _folder),
    Case("experiment file that is not YAML", _RUN, ["experiment.yaml is not valid YAML", "line 4"],
         _yaml("data: reviews.csv\nlabel: label\nstrategies: [tfidf, majority\nseed: 1\n")),
    Case("experiment file with tabs", _RUN, ["experiment.yaml is not valid YAML", "line 2"],
         _yaml("settings:\n\tfull: {epochs: 2}\n")),
    Case("experiment file with an object", _RUN, ["experiment.yaml is not valid YAML", "line 1"],
         _yaml("data: !!python/object/apply:os.system ['true']\n")),
    Case("experiment file that is not UTF-8", _RUN, ["experiment.yaml", "UTF-8"],
         with_file("experiment.yaml", "data: reviews.csv\nlabel: caf\u00e9\n".encode("latin-1"))),
    Case("experiment file that is a list", _RUN, ["experiment.yaml", "data: reviews.csv", "list"],
         _yaml("- reviews.csv\n- majority\n")),
    Case("experiment file that is empty", _RUN, ["experiment.yaml", "data: reviews.csv", "empty"], _yaml("")),
    Case("experiment file without data", _RUN, ["experiment.yaml: data", "labeled texts"], _yaml("label: label\n")),
    Case("unknown key", _RUN, ["'stratgies'", "Did you mean 'strategies'?", "experiment.yaml"],
         _yaml("data: reviews.csv\nstratgies: [majority]\n")),
    Case("value of another type", _RUN, ["experiment.yaml: seeds", "whole number", "'three'"],
         _yaml("data: reviews.csv\nseeds: three\n")),
    Case("list of columns within a list", _RUN, ["experiment.yaml: text", "text"],
         _yaml("data: reviews.csv\ntext: [[a, b]]\n")),
    Case("unknown strategy in a file", _RUN,
         ["strategy 'lora_' is unknown", "Did you mean 'lora'?", "experiment.yaml: strategies[1]"],
         _yaml("data: reviews.csv\nstrategies: [tfidf, lora_]\n")),
    Case("strategies that are a number", _RUN, ["experiment.yaml: strategies", "a list", "3"],
         _yaml("data: reviews.csv\nstrategies: 3\n")),
    Case("unknown setting in a file", _RUN, ["'epoch'", "'epochs'", "experiment.yaml: settings: full: epoch"],
         _yaml("data: reviews.csv\nsettings: {full: {epoch: 3}}\n")),
    Case("settings that are no table", _RUN, ["experiment.yaml: settings", "table of settings", "3"],
         _yaml("data: reviews.csv\nsettings: 3\n")),
    Case("settings of one strategy that are no table", _RUN, ["experiment.yaml: settings.full", "3"],
         _yaml("data: reviews.csv\nsettings: {full: 3}\n")),
    Case("custom configuration with a wrong layer count", _RUN,
         ["experiment.yaml: settings: scratch-transformer: layers", "0"],
         _yaml("data: reviews.csv\nsettings: {scratch-transformer: {layers: 0}}\n")),
    Case("five faults of one file at once", _RUN,
         ["'lable'", "experiment.yaml: seeds", "strategies[0]", "settings: lora: rank", "'f1'"],
         _yaml("data: reviews.csv\nlable: x\nseeds: 0\nmetric: f1\nstrategies: [tf]\nsettings: {lora: {rank: -1}}\n"),
         errors=5),
    Case("fault of a flag beside a file", f"{_RUN} --metric f1", ["'f1'", "(--metric)"], _yaml("data: reviews.csv\n")),
]  # fmt: skip
