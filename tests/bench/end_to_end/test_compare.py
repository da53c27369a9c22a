"""`bench compare` on a run that was really made."""

import json
import shutil
from pathlib import Path

import engines
from bench.cli.main import main
from reports.stats.power import ENOUGH_FOR_F1


def test_a_real_run_is_compared_with_what_became_of_it(bench, capsys, monkeypatch):
    monkeypatch.setitem(engines.BACKENDS, "plain", engines.BACKENDS["torch-fp32"])
    _, summary, _ = bench("--backends", "plain", "--rounds", "1", "--max-cases", str(ENOUGH_FOR_F1))
    for backend in summary["variants"]:
        assert backend["resources"]["cpu_cores"] > 0
    assert main(["compare", "run", "run"]) == 0
    shutil.copytree("run", "later")
    path = Path("later/samples/plain.jsonl")
    samples = [json.loads(line) for line in path.read_text().splitlines()]
    for sample in samples:
        sample["case_ns"] = int(sample["case_ns"] / 0.9)
    path.write_text("".join(f"{json.dumps(sample)}\n" for sample in samples))
    assert main(["compare", "run", "later"]) == 1
    assert main(["compare", "run", "later", "--max-slowdown", "11"]) == 0
    path = Path("later/run.json")
    later = json.loads(path.read_text())
    assert later["controlled_settings"]["intensity window"] == "-1000 to 1000 HU to 0 and 1"
    path.write_text(
        json.dumps(later | {"controlled_settings": later["controlled_settings"] | {"TF32 in the baseline": "on"}})
    )
    capsys.readouterr()
    assert main(["compare", "run", "later"]) == 2
    assert "TF32 in the baseline is on, there off" in capsys.readouterr().err
