"""The same contract by two servers, started and asked for real: masks, faults, limits, cancellation, memory, names."""

import base64
import gzip
import json
import shutil
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import nibabel as nib
import numpy as np
import psutil
import pytest

from bench.cli.exit_codes import BACKEND_LOST, BAD_INPUT, DONE
from bench.cli.main import main
from bench.serving.server import CaseRefusedError, Server
from tests.bench.conftest import SIDE
from tests.bench.serving.conftest import CASES, MOST_BYTES, VARIANT
from tests.bench.serving.servers import metric

pytestmark = pytest.mark.xdist_group("serving")

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # whoever imports it fails
from bench.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
REQUESTS = 30  # for memory; scripts/serving_soak.py asks for hours


@pytest.fixture
def images(data, tmp_path) -> Path:
    """As many cases as are asked for at once, without their truth, in one folder."""
    folder, paths = tmp_path / "images", sorted(data.glob("validation/*/*_0000.nii.gz"))
    folder.mkdir()
    for number in range(CASES):
        shutil.copy(paths[number % len(paths)], folder / f"case{number:02}_0000.nii.gz")
    return folder


@pytest.fixture
def predict(tmp_path, monkeypatch, capsys, served_run):
    """Call `bench predict`; gives the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOXBENCH_CACHE", str(served_run.parent / "cache"))

    def call(*options: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["predict", *map(str, options)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return code, printed.out, printed.err

    return call


def packed(shape: tuple[int, ...], seed: int = 0) -> bytes:
    """A NIfTI file of noise."""
    voxels = np.random.default_rng(seed).normal(0, 400, shape).astype(np.int16)
    return gzip.compress(nib.Nifti1Image(voxels, np.eye(4)).to_bytes(), 1)


def test_twenty_requests_at_once_give_the_masks_of_predict(place, images, predict, tmp_path):
    """And by a client that cannot import PyTorch; what it began, a prediction without a server goes on with."""
    arguments = [
        "predict", "--url", place.url, place.model, str(images), "--out", "served", "--read-ahead", str(CASES)
    ]  # fmt: skip
    client = [sys.executable, "-c", WITHOUT_TORCH, *arguments, "--report", "report.json"]
    ran = subprocess.run(client, capture_output=True, text=True, cwd=tmp_path)
    assert (ran.returncode, "Traceback" in ran.stderr) == (DONE, False), ran.stderr
    assert f"{VARIANT} by {place.model} at {place.url}: {CASES} cases predicted; 0 failed" in ran.stdout
    assert predict(place.package, images, "--out", "here", "--threads", 1)[0] == DONE
    names = [f"case{number:02}" for number in range(CASES)]
    for name in names:
        assert Path("served", f"{name}.nii.gz").read_bytes() == Path("here", f"{name}.nii.gz").read_bytes()
    served, here = (json.loads(Path(each, "predictions.json").read_text()) for each in ("served", "here"))
    for ours, theirs in zip(served["cases"], here["cases"], strict=True):
        assert ours["class"] == theirs["class"]
        assert [each["probability"] for each in ours["probabilities"]] == pytest.approx(
            [each["probability"] for each in theirs["probabilities"]], abs=1e-6
        )
    code, out, _ = predict(place.package, images, "--out", "served")
    assert (code, f"{CASES} of them before" in out) == (DONE, True)
    report = json.loads(Path("report.json").read_text())
    assert (report["predicted"], report["failed"]) == (CASES, 0)
    assert 0 < report["seconds"]["server"] < report["seconds"]["whole"]


def bomb() -> bytes:
    """16 kB that unpack to more than a request may hold."""
    return gzip.compress(bytes(MOST_BYTES + 2**20))


def lying() -> bytes:
    """A small file whose header says that it is large."""
    content = bytearray(gzip.decompress(packed((SIDE,) * 3)))
    content[40:56] = np.array([3, 4000, 4000, 4000, 1, 1, 1, 1], np.int16).tobytes()
    return bytes(content)


METAIMAGE = b"""ObjectType = Image
NDims = 3
BinaryData = True
CompressedData = True
CompressedDataSize = 16
DimSize = 4000 4000 4000
ElementType = MET_SHORT
ElementDataFile = LOCAL
""" + zlib.compress(bytes(100))


FAULTS = {
    "empty": ([], "the request has no image"),
    "text": ([b"no volume at all"], "image_0000.nii: 16 bytes, which is no NIfTI file"),
    "cut short": ([packed((SIDE,) * 3)[:-40]], "image_0000.nii: damaged or cut short"),
    "unpacks to too much": ([bomb()], "more than 0.0156 GiB unpacked"),
    "huge": ([bytes(MOST_BYTES + 1)], "more than 0.0156 GiB unpacked"),
    "a lying header": ([lying()], "more than 0.0156 GiB unpacked"),
    "a lying MetaImage": ([METAIMAGE], "more than 0.0156 GiB unpacked"),
    "two channels": ([packed((SIDE,) * 3)] * 2, "the network takes 1 (CT); take it out"),
    "not finite": ([gzip.compress(nib.Nifti1Image(np.full((SIDE,) * 3, np.nan, np.float32), None).to_bytes())],
                   "has voxels that are NaN or infinite"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_request_gets_an_error_and_the_next_one_works(fault, place):
    files, line = FAULTS[fault]
    with Server(place.url, place.model, 60) as server:
        with pytest.raises(CaseRefusedError) as raised:
            server.predict(files)
        assert line in str(raised.value)
        assert "/" not in str(raised.value).replace(";", ""), "no path of the server"
        assert server.predict([packed((SIDE,) * 3)]).mask


def test_a_full_queue_is_said_and_waited_for(place):
    pauses = list[float]()

    def sleep(pause: float) -> None:
        pauses.append(pause)
        time.sleep(pause)

    content = packed((SIDE + 8,) * 3)
    with Server(place.url, place.model, 120, sleep) as server, ThreadPoolExecutor(CASES) as pool:
        answers = list(pool.map(lambda _: server.predict([content]), range(CASES)))
    assert len({answer.mask for answer in answers}) == 1
    assert pauses, "more at once than the queue takes"


def test_a_client_that_goes_away_frees_its_place(place):
    """Cases that would take minutes are asked for and given up; then one that takes milliseconds is answered."""
    long = packed((160, 160, 160))
    for _ in range(3):
        with Server(place.url, place.model, 1.5) as server, pytest.raises(Exception, match=r"no answer within 1\.5 s"):
            server.predict([long])
    with Server(place.url, place.model, 30) as server:
        assert server.predict([packed((SIDE,) * 3)]).mask


def test_memory_stays_where_it_is(place):
    content = packed((SIDE + 8,) * 3)

    def resident() -> int:
        return sum(psutil.Process(pid).memory_info().rss for pid in place.served.pids)

    with Server(place.url, place.model, 60) as server:
        for _ in range(REQUESTS // 3):
            server.predict([content])
        before = resident()
        for _ in range(REQUESTS):
            server.predict([content])
    assert resident() - before < 16 * 2**20


def test_it_says_that_it_lives_and_counts(place):
    for state in ("live", "ready"):
        with urlopen(f"http://127.0.0.1:{place.served.http}/v2/health/{state}", timeout=10) as answer:
            assert answer.status == 200
    name = {"triton": "nv_inference_request_success", "mlserver": "grpc_server_handled_total"}[place.name]
    assert metric(place.served, name) > 0


def test_no_name_of_a_patient_is_sent_or_logged(place, predict, tmp_path):
    pytest.importorskip("pydicom", reason="pydicom is not installed")
    from tests.bench.data.dicom.made import Made

    voxels = np.random.default_rng(1).normal(0, 400, (SIDE,) * 3).astype(np.int16)

    def named(_index, dataset) -> None:
        dataset.PatientName, dataset.PatientID = "Curie^Marie", "MC-18671107"

    Made().write(tmp_path / "scans" / "Curie_Marie", voxels, named)
    damaged = tmp_path / "scans" / "Curie_Pierre.nii.gz"
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.header["descrip"] = b"Curie^Pierre"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Curie^Pierre"))
    nib.save(image, damaged)
    code, _, err = predict("--url", place.url, place.model, tmp_path / "scans", "--out", "served")
    assert code == DONE, err
    assert predict(place.package, tmp_path / "scans", "--out", "here", "--threads", 1)[0] == DONE
    for name in ("Curie_Marie.dcm", "Curie_Pierre.nii.gz"):
        assert Path("served", name).is_file()
    assert Path("served/Curie_Pierre.nii.gz").read_bytes() == Path("here/Curie_Pierre.nii.gz").read_bytes()
    log = place.served.printed()
    assert len(log) > 100, "it does log"
    for word in ("Curie", "Marie", "Pierre", "MC-18671107", str(tmp_path)):
        assert word not in log


def test_what_is_not_there_is_one_line(place, images, predict):
    code, _, err = predict("--url", place.url, "another", images, "--out", "out")
    assert (code, "another at grpc://127.0.0.1" in err, "not there" in err) == (BAD_INPUT, True, True)
    code, _, err = predict("--url", "grpc://127.0.0.1:9", place.model, images, "--out", "out", "--timeout", "5")
    assert (code, "cannot be reached" in err) == (BACKEND_LOST, True)
    code, _, err = predict("--url", "http://127.0.0.1", place.model, images, "--out", "out")
    assert (code, "give grpc://HOST:PORT" in err) == (BAD_INPUT, True)
    code, _, err = predict("--url", place.url, place.model, images, "--out", "out", "--overlap", "0.25")
    assert (code, "--overlap: the server says how cases are run" in err) == (BAD_INPUT, True)
    assert not Path("out").exists()


def test_triton_also_gives_the_logits_of_a_tile_alone(place):
    """For MONAI Deploy's client, which takes one input and one output."""
    if place.name != "triton":
        pytest.skip("of Triton alone")
    import tritonclient.grpc as client

    tile = np.random.default_rng(2).random((1, 1, SIDE, SIDE, SIDE), np.float32)
    image = client.InferInput("image", tile.shape, "FP32")
    image.set_data_from_numpy(tile)
    with client.InferenceServerClient(place.url.removeprefix("grpc://")) as server:
        alone = server.infer(f"{place.model}-logits", [image])
        both = server.infer(f"{place.model}-tile", [image])
        (output,) = server.get_model_metadata(f"{place.model}-logits").outputs
    assert output.name == "segmentation"
    np.testing.assert_array_equal(alone.as_numpy("segmentation"), both.as_numpy("segmentation"))
    assert both.as_numpy("classification").shape == (1, 3)


def test_over_http_files_are_base64_in_json_or_the_binary_extension(place):
    content = packed((SIDE,) * 3)
    path = f"http://127.0.0.1:{place.served.http}/v2/models/{place.model}/infer"
    if place.name == "mlserver":
        image = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [base64.b64encode(content).decode()]}
        body, headers = json.dumps({"inputs": [image]}).encode(), {"Content-Type": "application/json"}
    else:
        image = {"name": "image", "datatype": "BYTES", "shape": [1, 1]}
        image["parameters"] = {"binary_data_size": 4 + len(content)}
        wanted = [{"name": "mask", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [image], "outputs": wanted}).encode()
        body = head + len(content).to_bytes(4, "little") + content
        headers = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    with urlopen(Request(path, body, headers), timeout=60) as answer:
        answered, head_size = answer.read(), answer.headers.get("Inference-Header-Content-Length")
    if place.name == "mlserver":
        held = {output["name"]: output["data"] for output in json.loads(answered)["outputs"]}
        mask = base64.b64decode(held["mask"][0])
    else:
        mask = answered[int(head_size) + 4 :]
    with Server(place.url, place.model, 60) as server:
        assert mask == server.predict([content]).mask


ENCODED = base64.b64encode(packed((SIDE,) * 3)).decode()
OF_MLSERVER = {
    "several cases": ({"shape": [4, 1], "data": [ENCODED] * 4}, "image: has shape [4, 1] and 4 files; send one case"),
    "a square": ({"shape": [2, 2], "data": [ENCODED] * 4}, "image: has shape [2, 2] and 4 files; send one case"),
    "another number": ({"shape": [1, 2]}, "image: has shape [1, 2] and 1 files; send one case, of shape [1, files]"),
    "another name": ({"name": "img"}, "the request has the inputs ['img']; it takes one, 'image' of type BYTES"),
    "another type": ({"datatype": "INT32", "data": [3]}, "it takes one, 'image' of type BYTES"),
    "a number": ({"data": [2**40]}, "image: is no base64"),
    "nothing": ({"data": [None]}, "image: is no base64"),
    "text": ({"data": ["no base64"]}, "image: is no base64"),
}


def ask_mlserver(place, *images, **more) -> tuple[int, dict]:
    """What MLServer answers by HTTP to inputs that are right but for `images`: status and content."""
    right = {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [ENCODED]}
    path = f"http://127.0.0.1:{place.served.http}/v2/models/{place.model}/infer"
    body = json.dumps({"inputs": [right | image for image in images], **more}).encode()
    try:
        with urlopen(Request(path, body, {"Content-Type": "application/json"}), timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize("fault", OF_MLSERVER)
def test_mlserver_takes_one_case_of_files(fault, place):
    """Triton holds requests against its configuration by itself."""
    if place.name != "mlserver":
        pytest.skip("of MLServer alone")
    changed, line = OF_MLSERVER[fault]
    status, answer = ask_mlserver(place, changed)
    assert (status, line in answer["error"]) == (400, True), answer


def test_mlserver_refuses_a_second_image(place):
    if place.name != "mlserver":
        pytest.skip("of MLServer alone")
    status, answer = ask_mlserver(place, {}, {})
    assert (status, "the inputs ['image', 'image']; it takes one" in answer["error"]) == (400, True), answer


def test_mlserver_gives_the_outputs_that_are_asked_for(place):
    if place.name != "mlserver":
        pytest.skip("of MLServer alone")
    status, answer = ask_mlserver(place, {}, outputs=[{"name": "class"}, {"name": "seconds"}])
    assert (status, [each["name"] for each in answer["outputs"]]) == (200, ["class", "seconds"])
    status, answer = ask_mlserver(place, {}, outputs=[{"name": "class"}, {"name": "nope"}])
    assert (status, "asks for the outputs ['nope']; there are mask, class" in answer["error"]) == (400, True)


def test_it_says_what_it_takes_and_gives(place):
    with urlopen(f"http://127.0.0.1:{place.served.http}/v2/models/{place.model}", timeout=10) as answer:
        held = json.loads(answer.read())
    tensors = {each["name"]: (each["datatype"], each["shape"][1:]) for each in (*held["inputs"], *held["outputs"])}
    assert tensors == {
        "image": ("BYTES", [-1]),
        "mask": ("BYTES", [1]),
        "class": ("INT32", [1]),
        "probabilities": ("FP32", [3]),
        "seconds": ("FP64", [1]),
        "about": ("BYTES", [1]),
    }
    assert held["platform"] == {"triton": "python", "mlserver": "voxbench"}[place.name]
