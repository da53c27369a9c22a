"""What the report makes of a GPU's readings, of device events and of the measured peak."""

from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest

from reports.analysis.gpu import energy_j, gpu_use
from reports.analysis.roofline import roofline
from reports.records.record import EvidenceRecord, GpuState
from reports.records.store import Run, read_run, write_run
from reports.render.summary_json import summary_json
from reports.summary.summarise import summarise
from tests.reports.factory import BASELINE, Candidate, make_run, on_gpu, warnings_of


def lines(run: Run, word: str) -> list[str]:
    return [line for line in summarise(run).warnings if word in line]


def test_records_keep_the_readings(tmp_path: Path) -> None:
    run = on_gpu(make_run({"torch-half": Candidate(3.0)}))
    write_run(tmp_path, run)
    read = read_run(tmp_path)
    assert (read.record, read.variants) == (run.record, run.variants)


def test_readings_are_summed_up() -> None:
    states = [GpuState(1900 + i, 2600, 40 + i, 300.0 + i, 2.0 + i, (), 2**30, 2) for i in range(4)]
    states[3] = replace(states[3], throttled_by=("software power cap",), processes=5)
    samples = make_run({}, cases=4, rounds=1).variants[0].samples[:4]
    read = [replace(each, gpu=state, workers=2, case_ns=10**9) for each, state in zip(samples, states, strict=True)]
    use = gpu_use(read)
    assert (use.samples, use.sm_mhz, use.sm_mhz_low, use.sm_mhz_high, use.temperature_c) == (4, 1901.5, 1900, 1903, 43)
    assert (use.power_w, use.energy_j) == (301.5, 3.5)
    assert (use.throttled, use.throttled_by, use.shared) == (0.25, ("software power cap",), 0.25)
    assert gpu_use(samples) is None


def test_idle_workers_of_the_run_are_not_foreign() -> None:
    assert lines(on_gpu(make_run({"torch-half": Candidate(3.0)}), processes=2), "not the run's") == []
    (line, *_) = lines(on_gpu(make_run({"torch-half": Candidate(3.0)}), processes=3), "not the run's")
    assert line == "processes that are not the run's used the GPU beside 100 % (torch-fp32, torch-half) of the samples"


def test_throttling_is_a_warning() -> None:
    run = on_gpu(make_run({"torch-half": Candidate(3.0)}), throttled_by=("hardware slowdown",))
    assert len(lines(run, "throttled (hardware slowdown) after 100 % (torch-fp32, torch-half)")) == 1


@pytest.mark.parametrize(("share", "words"), [(1.0, None), (0.96, None), (0.9, "launching kernels"), (1.1, "not over")])
def test_clocks_that_disagree_are_a_doubt(share: float, words: str | None) -> None:
    run = on_gpu(make_run({"torch-half": Candidate(3.0)}), device_share=share)
    assert summarise(run).rows[0].device_share == pytest.approx(share, abs=1e-3)
    result = lines(run, "host's clock")
    assert len(result) == (1 if words else 0)
    assert all(words in line for line in result if words)


def test_the_baselines_backend_with_another_batch_is_a_warning() -> None:
    run = make_run({f"{BASELINE}@4": Candidate(2.0), f"{BASELINE}#2": Candidate(1.0)})
    (line,) = lines(run, f"--baseline {BASELINE}@4")
    assert line.startswith("torch-fp32@4 takes 50")
    assert lines(make_run({f"{BASELINE}@4": Candidate(0.8), "torch-half@4": Candidate(3.0)}), "--baseline") == []


def test_a_share_of_the_peak_is_operations_over_time() -> None:
    run = on_gpu(make_run({"torch-half": Candidate(2.0, (1.0,))}, cases=1, rounds=1))
    variant = replace(run.variant("torch-half"), evidence=EvidenceRecord("CUDA", {"fp16": 1.0}))
    (sample,) = variant.samples
    forward_s = sample.stages_ns["forward"] / 1e9
    operations = 2 * run.record.checkpoint.macs_per_tile * sample.tiles
    result = roofline(run.record, variant, [sample])
    assert result.flops == pytest.approx(operations / forward_s)
    assert result.arithmetic_s == pytest.approx(operations / run.record.peak_flops["fp16"])
    assert result.floor_s == result.arithmetic_s > result.traffic_s
    assert result.share == pytest.approx(result.floor_s / forward_s)


def test_a_mixture_of_precisions_takes_the_time_of_both() -> None:
    run = on_gpu(make_run({"torch-half": Candidate(2.0, (1.0,))}, cases=1, rounds=1))
    variant = run.variant("torch-half")
    peak = run.record.peak_flops

    def floor(**share: float) -> float:
        return roofline(
            run.record, replace(variant, evidence=EvidenceRecord("CUDA", share)), list(variant.samples)
        ).floor_s

    assert floor(fp16=0.5, fp32=0.5) == pytest.approx((floor(fp16=1.0) + floor(fp32=1.0)) / 2)
    assert peak["fp16"] > peak["fp32"]
    assert isnan(floor(fp16=0.5, fp64=0.5)), "no peak was measured for a part of it"


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("tf32", 4), ("fp16", 2), ("int8", 1)])
def test_memory_traffic_is_the_floor_where_it_takes_longer(precision: str, size: int) -> None:
    run = on_gpu(make_run({"torch-half": Candidate(2.0, (1.0,))}, cases=1, rounds=1))
    record = replace(run.record, peak_bytes_per_s=1e9, peak_flops={precision: 50e12})
    variant = replace(run.variant("torch-half"), evidence=EvidenceRecord("CUDA", {precision: 1.0}))
    (sample,) = variant.samples
    result = roofline(record, variant, [sample])
    assert result.traffic_s == pytest.approx(size * (80_000_000 * sample.tiles + 1_600_000) / 1e9)
    assert result.floor_s == result.traffic_s > result.arithmetic_s
    assert result.share == pytest.approx(result.floor_s / (sample.stages_ns["forward"] / 1e9))


def test_traffic_of_a_mixture_counts_the_narrowest_and_unknown_traffic_is_no_floor() -> None:
    run = on_gpu(make_run({"torch-half": Candidate(2.0, (1.0,))}, cases=1, rounds=1))
    variant = replace(run.variant("torch-half"), evidence=EvidenceRecord("CUDA", {"fp32": 0.9, "fp16": 0.1}))
    narrow = replace(variant, evidence=EvidenceRecord("CUDA", {"fp16": 1.0}))
    samples = list(variant.samples)
    assert roofline(run.record, variant, samples).traffic_s == roofline(run.record, narrow, samples).traffic_s
    before = roofline(replace(run.record, peak_bytes_per_s=None), variant, samples)
    assert isnan(before.traffic_s)
    assert before.floor_s == before.arithmetic_s > 0


def test_an_older_run_has_no_limits_and_no_warnings() -> None:
    run = make_run({"torch-half": Candidate(3.0, (1.0,))})
    summary = summarise(run)
    assert warnings_of(summary) == []
    assert isnan(summary.rows[0].roofline.floor_s)
    document = summary_json(summary)
    unknown = dict.fromkeys(("floor_s", "share", "flops", "arithmetic_s", "traffic_s"))
    assert document["variants"][0]["roofline"] == unknown
    assert document["variants"][0]["gpu"] is None


def test_energy_and_power_are_reported_of_cases_that_last_as_long_as_nvml_averages() -> None:
    samples = make_run({}, cases=3, rounds=1).variants[0].samples[:3]
    read = [
        replace(s, gpu=GpuState(energy_j=j, power_w=10 * j, sm_mhz=1980), case_ns=10**9)
        for s, j in zip(samples, (20.0, 30.0, 25.0), strict=True)
    ]
    assert energy_j(read) == 25
    use = gpu_use(read)
    assert use is not None
    assert (use.power_w, use.energy_j) == (250, 25)
    short = [replace(s, case_ns=10**9 - 1) for s in read]
    assert isnan(energy_j(short))
    use = gpu_use(short)
    assert use is not None
    assert isnan(use.power_w)
    assert use.sm_mhz == 1980, "which is of one moment"
    assert isnan(energy_j(samples))
