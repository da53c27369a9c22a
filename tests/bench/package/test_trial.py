"""How far a new process may be from an earlier one of the same variant."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from bench.errors import BackendLostError
from bench.package.export import predict_again
from bench.package.opening import open_package
from bench.package.trial import ELSEWHERE, ON_CUDA, allowed_words, share_allowed, trial
from bench.progress import Unshown
from reports.records.store import read_run
from tests.bench.conftest import SIDE


def test_only_where_kernels_may_be_others_may_voxels_differ():
    assert share_allowed("cpu") == 0
    assert share_allowed("cuda") == share_allowed("cuda:1") == ON_CUDA < ELSEWHERE
    assert share_allowed("cpu", elsewhere=True) == share_allowed("cuda", elsewhere=True) == ELSEWHERE
    assert allowed_words(0.0) == ""
    assert allowed_words(ON_CUDA) == ", where 0.1 % may: a GPU's kernels are chosen anew each time"
    assert allowed_words(ELSEWHERE) == ", where 1 % may: here sums are made in another order"


class Notes(Unshown):
    def __init__(self):
        self.lines = []

    def note(self, line):
        self.lines.append(line)


def test_a_run_on_a_gpu_is_exported_though_a_few_voxels_differ(run_and_package, tmp_path):
    """The worker is one on the CPU, the run's masks are changed by hand."""
    run, package = run_and_package
    opening = open_package(package, "cpu", 1)
    run = read_run(run)
    kept = {path: nib.load(path) for path in (run.folder / "predictions" / "openvino-fp32").glob("*.nii.gz")}
    labels = {path: np.asarray(image.dataobj).copy() for path, image in kept.items()}
    most = int(ON_CUDA * SIDE**3)

    def change(count: int) -> None:
        for path, image in kept.items():
            changed = labels[path].copy().ravel()
            changed[:count] = (changed[:count] + 1) % 3
            nib.Nifti1Image(changed.reshape(image.shape), image.affine, image.header).to_filename(path)

    try:
        with trial(opening.open, 300, tmp_path / "log") as tried:
            asked = {
                device: replace(opening.open, name="openvino-fp32", target=replace(opening.open.target, device=device))
                for device in ("cpu", "cuda")
            }

            def again(device: str) -> list[str]:
                notes = Notes()
                assert predict_again(run, asked[device], tried, opening.task, tmp_path, notes) == 1
                return notes.lines

            assert again("cpu") == again("cuda") == []
            change(most)
            (line,) = again("cuda")
            assert f"labels {most} of {SIDE**3} voxels of" in line
            assert "where 0.1 % may" in line
            with pytest.raises(BackendLostError, match=f"labels {most} of .* otherwise than the run did, class"):
                again("cpu")
            change(most + 1)
            with pytest.raises(BackendLostError, match=r"than the run did, where 0.1 % may"):
                again("cuda")
    finally:
        change(0)
