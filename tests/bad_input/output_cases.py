"""Places that cannot be written to, or belong to something else."""

from __future__ import annotations

from broken import Case, World, truncate

from headstart.cli.main import run

_RUN = "compare reviews.csv --strategies majority --no-tracking --precision float32 --encoder ENCODER"


def _file_in_the_way(world: World) -> None:
    world.file("taken", "mine\n")


def _foreign_folder(world: World) -> None:
    world.file("taken/notes.txt", "mine\n")


def _damaged_state(world: World) -> None:
    world.file("taken/experiment.json", '{"deciding": {"seed"')


def _other_configuration(world: World) -> None:
    assert run(world.arguments(f"{_RUN} --out taken --seed 7")) == 0


def _damaged_comparison(world: World) -> None:
    assert run(world.arguments(f"{_RUN} --out taken")) == 0
    truncate(world.folder / "taken" / "comparison.json")


def _model(world: World) -> None:
    world.copied_model("tfidf")


def _model_and_out(world: World) -> None:
    world.copied_model("tfidf")
    world.file("taken", "mine\n")
    (world.folder / "folder.csv").mkdir()


OUTPUTS = [
    Case("output folder that is a file", f"{_RUN} --out taken", ["taken", "file", "--out"], _file_in_the_way),
    Case("output folder below a file", f"{_RUN} --out taken/deep/run", ["taken/deep/run", "file", "--out"],
         _file_in_the_way),
    Case("output folder that holds other things", f"{_RUN} --out taken", ["taken", "not empty", "--out"],
         _foreign_folder),
    Case("output folder that cannot be made", f"{_RUN} --out /proc/headstart", ["/proc/headstart", "--out"]),
    Case("output folder of another configuration", f"{_RUN} --out taken",
         ["taken", "another configuration", "seed was 7, is now 0", "--out"], _other_configuration),
    Case("output folder with a damaged state", f"{_RUN} --out taken", ["taken/experiment.json", "damaged", "--out"],
         _damaged_state),
    Case("output folder with a damaged record", f"{_RUN} --out taken",
         ["taken/comparison.json", "damaged", "--out"], _damaged_comparison),
    Case("labels written to a folder", "predict model reviews.csv --out folder.csv", ["folder.csv", "folder", "--out"],
         _model_and_out),
    Case("labels written below a file", "predict model reviews.csv --out taken/out.csv", ["taken", "file", "--out"],
         _model_and_out),
    Case("labels written over the input", "predict model reviews.csv --out reviews.csv",
         ["reviews.csv", "input", "--out"], _model),
    Case("labels written in an unknown format", "predict model reviews.csv --out out.xlsx",
         ["'.xlsx'", ".csv", "--out"], _model),
    Case("labels written where nothing can be", "predict model reviews.csv --out /proc/out.csv",
         ["/proc/out.csv", "--out"], _model),
    Case("rows left out written over the input", "predict model reviews.csv --out out.csv --rejected reviews.csv",
         ["reviews.csv", "input", "--rejected"], _model),
    Case("rows left out written over another file", "predict model reviews.csv --out out.csv --rejected taken",
         ["taken", "would be lost", "--rejected"], _model_and_out),
    Case("rows left out written below a file", "predict model reviews.csv --out - --rejected taken/side.jsonl",
         ["taken", "file", "--rejected"], _model_and_out),
    Case("what nothing registered scored", "evaluate model --data reviews.csv --attach", ["--attach", "models:/"],
         _model),
]  # fmt: skip
