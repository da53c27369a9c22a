"""An own command for tests, in every mode. Its masks are those of the truth beside the images, but for a fault.

    python predictor.py FAULT SECONDS case MASK IMAGE...
    python predictor.py FAULT SECONDS server
    python predictor.py FAULT SECONDS folder IMAGES MASKS

The fault meets every case but those of number 0, and of calls those over several cases; before it waits so long.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path


def elsewhere(truth: Path, mask: Path, fault: str) -> None:
    """Write the mask cut, or somewhere else."""
    import nibabel as nib
    import numpy as np

    labels = np.asanyarray(nib.load(truth).dataobj)
    if fault == "shape":
        labels = labels[:-1]
    nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 1.0 if fault == "shape" else 3.0, 1.0])), mask)


def wait(seconds: float) -> None:
    """To the microsecond: a sleep ends late, after a long one later, and the processor is slow when it wakes."""
    end = time.perf_counter() + seconds
    time.sleep(max(seconds - 0.005, 0))
    while time.perf_counter() < end:
        pass


def predict(image: Path, mask: Path, fault: str, seconds: float) -> None:
    image = image.resolve()
    truth = image.with_name(image.name.replace("_0000.nii", ".nii"))
    wait(seconds)
    if image.name.endswith("_000_0000.nii.gz"):
        fault = "none"
    match fault:
        case "crash":
            os._exit(3)
        case "hang":
            time.sleep(3600)
        case "fork":  # twice, so that nobody is its parent any more
            linger = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])"
            subprocess.run([sys.executable, "-c", linger], start_new_session=True, check=True)
        case "half":
            mask.write_bytes(truth.read_bytes()[: truth.stat().st_size // 2])
            return
        case "shape" | "affine":
            elsewhere(truth, mask, fault)
            return
        case "nothing":
            return
    shutil.copyfile(truth, mask)


def main() -> None:
    fault, seconds, mode, *rest = sys.argv[1:]
    if mode == "case":
        predict(Path(rest[1]), Path(rest[0]), fault, float(seconds))
    elif mode == "folder":
        images, masks = map(Path, rest)
        for image in sorted(images.iterdir()):
            predict(image, masks / image.name.replace("_0000.nii", ".nii"), fault, float(seconds))
    else:
        print("loading")  # what is no JSON object is for the log
        for line in sys.stdin:
            case = json.loads(line)
            if fault == "error" and "_000" not in case["mask"]:
                print(json.dumps({"error": "no\nmemory"}), flush=True)
                continue
            predict(Path(case["images"][0]), Path(case["mask"]), fault, float(seconds))
            again = 2 if fault == "twice" and "_000" not in case["mask"] else 1
            answer = {} if fault == "classless" else {"class": "Tumour" if fault == "named" else 1}
            print("\n".join([json.dumps(answer)] * again), flush=True)


if __name__ == "__main__":
    main()
