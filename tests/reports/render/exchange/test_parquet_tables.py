"""Parquet: what is read back is what the records hold, with units, and with types that do not depend on the run."""

import io
from dataclasses import replace
from math import isnan

import pandas as pd
import pyarrow.parquet as pq
import pytest

from reports.records.record import FAILED, SKIPPED, GpuState, Roi, SystemLoad, Usage
from reports.records.store import Run
from reports.render import FOLDERS, render_folder
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, LESION, WHOLE, Candidate, make_run, of_structures, segmenting, variant


def tables(run: Run) -> dict[str, bytes]:
    return dict(render_folder(summarise(run), "parquet"))


def frame(files: dict[str, bytes], name: str) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(files[f"{name}.parquet"]))


def schema(files: dict[str, bytes], name: str) -> pq.ParquetSchema:
    return pq.read_schema(io.BytesIO(files[f"{name}.parquet"]))


def fast() -> Run:
    return make_run({"fast": Candidate(4.0, lesion=(-0.01, 0.02), confirmed_speedup=4.2)}, confirmed="fast")


def test_samples_are_those_of_the_records():
    run = fast()
    read = frame(tables(run), "samples")
    samples = [(own.name, sample) for own in run.variants for sample in own.samples]
    assert list(zip(read["variant"], read["case"], read["launch"], strict=True)) == [
        (name, sample.case, sample.launch) for name, sample in samples
    ]
    assert [round(1e9 * value) for value in read["case_s"]] == [sample.case_ns for _, sample in samples]
    assert [round(1e9 * value) for value in read["forward_s"]] == [s.stages_ns["forward"] for _, s in samples]
    assert set(read["phase"]) == {"interleaved", "confirmation"}


def test_load_gpu_usage_and_roi_of_a_sample():
    run = fast()
    own = run.variant("fast")
    rich = replace(
        own.samples[0], gpu=GpuState(1980, 2619, 45, 400.5, 35.0, ("heat", "power"), 2**31, 2), workers=2,
        system_load=SystemLoad(0.5, 0.25, 2400.0, 0.125), usage=Usage(1e9, 2e3, 3e4, 12.5), roi=Roi((), True, 1, 8, 2),
    )  # fmt: skip
    changed = replace(own, samples=(rich, *own.samples[1:]))
    row, plain = (
        frame(tables(replace(run, variants=(run.variant(BASELINE), changed))), "samples")
        .query("variant == 'fast'")
        .iloc[:2]
        .to_dict("records")
    )
    assert (row["gpu_power_w"], row["gpu_throttled_by"], row["gpu_process_memory_bytes"]) == (
        400.5,
        "heat, power",
        2**31,
    )
    assert (row["others_cores"], row["throttled_cores"], row["mhz"], row["cpu_energy_j"]) == (0.5, 0.125, 2400, 12.5)
    assert (row["roi_fallback"], row["roi_tiles"], row["workers"]) == (True, 8, 2)
    assert isnan(plain["gpu_power_w"])
    assert pd.isna(plain["gpu_throttled_by"])


def test_scores_stand_beside_the_baselines():
    run = fast()
    read = frame(tables(run), "scores").query("variant == 'fast' and metric == 'dsc' and structure == @LESION")
    expected = [s.structures[LESION].dsc for s in run.variant("fast").scores]
    assert list(read["value"]) == expected
    assert list(read["baseline"]) == [s.structures[LESION].dsc for s in run.variant(BASELINE).scores]
    assert list(read["case"]) == [case.name for case in run.record.cases]
    assert read["counts"].all()


def test_what_the_network_does_not_give_has_no_score_and_is_null():
    files = tables(segmenting(fast(), lesions=False))
    assert set(frame(files, "scores")["structure"]) == {WHOLE}
    assert frame(files, "variants")["lesion_dsc"].isna().all()
    assert frame(files, "variants")["whole_pancreas_dsc"].notna().all()


def test_columns_have_units_and_files_the_run():
    run = replace(fast(), sha256="ab" * 32)
    for name in ("samples", "scores", "variants"):
        notes = schema(tables(run), name).metadata
        assert notes[b"voxbench.run"] == run.record.id.encode()
        assert notes[b"voxbench.run_sha256"] == b"ab" * 32
        assert notes[b"voxbench.verdict"] == b"CONFIRMED"
    units = {field.name: (field.metadata or {}).get(b"unit") for field in schema(tables(run), "variants")}
    assert (units["case_median_s"], units["case_time_reduction_pct_low"]) == (b"s", b"%")
    assert (units["peak_memory_bytes"], units["name"]) == (b"byte", None)
    assert schema(tables(run), "samples").field("memory_byte_s").metadata == {b"unit": b"byte s"}


@pytest.mark.parametrize("name", ["samples", "scores", "variants"])
def test_types_do_not_depend_on_what_was_measured(name):
    """So that files of many runs are read as one table."""
    nothing = make_run({"x": variant("x", SKIPPED, "no", "fix")}, baseline=variant(BASELINE, FAILED, "out of memory"))
    full, empty = schema(tables(fast()), name), schema(tables(nothing), name)
    shared = set(full.names) & set(empty.names)
    assert shared >= set(empty.names) - {f"f1_{n}" for n in range(3)}
    assert {field: full.field(field).type for field in shared} == {field: empty.field(field).type for field in shared}


def test_many_structures_and_names_that_are_no_text():
    structures = {f"s {n}": replace(fast().record.task.structures[WHOLE]) for n in range(40)}
    run = of_structures(fast(), structures, {"s 3": -0.01})
    odd = replace(run.variant("fast"), log="variants/\udc80.log")
    read = frame(tables(replace(run, variants=(run.variant(BASELINE), odd))), "variants").set_index("name")
    assert read.loc["fast", "s_3_dsc_delta"] == pytest.approx(-0.01)
    assert read.loc["fast", "log"] == "variants/\\udc80.log"


def test_a_folder_is_no_document():
    assert FOLDERS == ("parquet",)
    with pytest.raises(ValueError, match="no report format 'csv'; there are parquet"):
        render_folder(summarise(fast()), "csv")
