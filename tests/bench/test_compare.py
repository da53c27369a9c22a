"""`bench compare` on a run that was really made."""

import json
import shutil
from pathlib import Path

from bench.cli import main


def test_a_real_run_is_compared_with_what_became_of_it(bench, capsys):
    code, summary, _ = bench("--backends", "torch-amp", "--rounds", "1")
    assert code in (0, 1, 3), "whatever it proves about so small a network"
    assert summary["peak_bytes_per_s"] > 0
    for backend in summary["backends"]:
        assert backend["limit"]["traffic_s"] > 0, backend["name"]
        assert backend["limit"]["floor_s"] == max(backend["limit"]["arithmetic_s"], backend["limit"]["traffic_s"])
        assert backend["resources"]["cpu_cores"] > 0
    assert main(["compare", "run", "run"]) == 0
    shutil.copytree("run", "later")
    path = Path("later/backends/torch-amp.json")
    record = json.loads(path.read_text())
    for sample in record["samples"]:
        sample["case_ns"] = int(sample["case_ns"] / 0.9)
    path.write_text(json.dumps(record))
    assert main(["compare", "run", "later"]) == 1
    assert main(["compare", "run", "later", "--max-slowdown", "11"]) == 0
    path = Path("later/run.json")
    later = json.loads(path.read_text())
    assert later["declaration"]["intensity window"] == "-1000 to 1000 HU to 0 and 1"
    path.write_text(json.dumps(later | {"declaration": later["declaration"] | {"TF32 in the baseline": "on"}}))
    capsys.readouterr()
    assert main(["compare", "run", "later"]) == 2
    assert "TF32 in the baseline is on, there off" in capsys.readouterr().err
