"""Bring run directories to today's records, with their reports: python scripts/migrate_results.py RUN...

Raw values stay as they are. What schema 1 did not record at first is filled in with what was so then: a network with a
lesion class and three subtypes, one launch of the processes, memory as the system's allocator has it. Of schema 2 the
task is filled in, which was the pancreas's before it was recorded.
"""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.accuracy import task_of
from models.task import PANCREAS
from reports.records.store import RUN_FILE, SAMPLES_FOLDER, VARIANTS_FOLDER, json_values, read_run, write_run
from reports.render import render
from reports.render.csv_tables import cases_csv
from reports.summary.summarise import summarise

Document = dict[str, Any]

PHASES = {"warmup": "warmup", "duel": "interleaved", "confirmation": "confirmation"}
NETWORK = {"labels": [0, 1, 2], "subtypes": 3}
STRUCTURES = {"whole pancreas": "whole", "lesion": "lesion"}  # to the names in schema 1
DEFAULTS = {"max_nsd_drop": 0.01, "allocator": "system"}


def migrate(folder: Path) -> None:
    """Rewrite the run in `folder`."""
    run = _read(folder / RUN_FILE)
    if run["schema"] == 1:
        _bring_to_schema_2(folder, run)
    elif "name" not in run["task"]:
        _record_task(folder, run)
    else:
        raise SystemExit(f"{folder}: of schema {run['schema']} with its task; nothing to do")
    write_reports(folder)


def _bring_to_schema_2(folder: Path, run: Document) -> None:
    names = run["settings"]["backends"]
    backends = {name: _read(folder / "backends" / f"{name}.json") for name in names}
    has_nsd = any("whole_nsd" in score for backend in backends.values() for score in backend["scores"])
    made = run_document(run, has_nsd)
    _write(folder / RUN_FILE, made)
    for name, backend in backends.items():
        samples = [sample_document(sample) for sample in backend.pop("samples")]
        _write(folder / VARIANTS_FOLDER / f"{name}.json", variant_document(backend, made["settings"]["variants"][name]))
        _write(folder / SAMPLES_FOLDER / f"{name}.jsonl", *samples)
    shutil.rmtree(folder / "backends")
    write_run(folder, read_run(folder))  # in today's form


def _record_task(folder: Path, run: Document) -> None:
    """Change the one line of ``run.json`` that holds the task."""
    has_nsd = any(own["nsd_tolerance_mm"] is not None for own in run["task"]["structures"].values())
    line = f'  "task": {json.dumps(task_document(run["checkpoint"], has_nsd), ensure_ascii=False)}'
    lines = (folder / RUN_FILE).read_text(encoding="utf-8").split("\n")
    lines = [line + "," * old.endswith(",") if old.startswith('  "task": ') else old for old in lines]
    (folder / RUN_FILE).write_text("\n".join(lines), encoding="utf-8")


def write_reports(folder: Path) -> None:
    """The report and the table of cases."""
    record = read_run(folder)
    (folder / "report.md").write_text(render(summarise(record), "markdown"), encoding="utf-8")
    (folder / "cases.csv").write_text(cases_csv(record), encoding="utf-8")


def run_document(run: Document, has_nsd: bool) -> Document:
    """``run.json``; surface distances were not always scored."""
    settings, declaration = DEFAULTS | run.pop("settings"), run.pop("declaration")
    recipes, names = settings.pop("recipes", {}), settings.pop("backends")
    variants = {name: variant_settings(name, recipes.get(name), settings) for name in names}
    declaration.setdefault("freed memory", "as the system's allocator has it")
    checkpoint, host = NETWORK | run["checkpoint"], run["host"]
    checkpoint["options"] = checkpoint.pop("given", {})
    checkpoint["training_metrics"] = checkpoint.pop("recorded")
    if "instructions" in host:
        host["cpu_features"] = host.pop("instructions")
    return run | {
        "schema": 2,
        "settings": settings | {"variants": variants},
        "checkpoint": checkpoint,
        "host": host,
        "task": task_document(checkpoint, has_nsd),
        "controlled_settings": declaration,
    }


def task_document(checkpoint: Document, has_nsd: bool) -> Document:
    """What was scored: surface distances not always."""
    task = task_of(PANCREAS, checkpoint["labels"], checkpoint["subtypes"])
    if not has_nsd:
        structures = {name: replace(own, nsd_tolerance_mm=None) for name, own in task.structures.items()}
        task = replace(task, structures=structures)
    document: Document = json_values(task)
    return document


def variant_settings(name: str, recipe: Document | None, settings: Document) -> Document:
    """What a variant is made of: what its recipe says, or else its name and the run."""
    if recipe is not None:
        return recipe | {"recipe": True}
    of_batch, _, repeat = name.partition("#")
    backend, _, batch = of_batch.partition("@")
    return {
        "backend": backend,
        "roi": settings["roi"],
        "overlap": settings["overlap"],
        "batch": int(batch or settings["batch"]),
        "repeat": int(repeat or 1),
    }


def variant_document(backend: Document, settings: Document) -> Document:
    """``variants/NAME.json``."""
    log = backend["log"] and backend["log"].replace("backends/", f"{VARIANTS_FOLDER}/")
    return backend | {
        "schema": 2,
        "settings": settings,
        "log": log,
        "evidence": backend["evidence"] or None,
        "scores": [score_document(score) for score in backend["scores"]],
    }


def score_document(score: Document) -> Document:
    """The scores of a case by structure."""
    kinds = ("dsc", "nsd", "outside")
    structures = {name: {kind: score.pop(f"{old}_{kind}", None) for kind in kinds} for name, old in STRUCTURES.items()}
    return score | {"structures": structures}


def sample_document(sample: Document) -> Document:
    """A line of ``samples/NAME.jsonl``."""
    launch, load = sample.pop("start", 0), sample.pop("ambient", None)
    return sample | {"phase": PHASES[sample["phase"]], "launch": launch, "system_load": load}


def _read(path: Path) -> Document:
    document: Document = json.loads(path.read_text(encoding="utf-8"))
    return document


def _write(path: Path, *documents: Document) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{json.dumps(document)}\n" for document in documents), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for folder in parser.parse_args().runs:
        migrate(folder)
        print(folder)


if __name__ == "__main__":
    main()
