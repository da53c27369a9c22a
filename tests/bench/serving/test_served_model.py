"""What servers call, without a server: what comes over the network, what is cancelled, what is said of errors."""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from bench.cli.main import main
from bench.data.compression import gunzip_within
from bench.errors import InputError
from bench.package.formats.case_tensors import ABOUT, CLASS, MASK, OUTPUTS, PROBABILITIES, SECONDS
from bench.serving import server as server_module
from bench.serving.received import write_received
from bench.serving.remote import labels_of
from bench.serving.served_model import Options, RequestCancelledError, ServedModel, message_of, served
from bench.serving.server import CaseRefusedError
from tests.bench.conftest import SIDE
from tests.bench.package.conftest import run_and_package

__all__ = ["run_and_package"]


def volume(side: int = SIDE) -> bytes:
    voxels = np.random.default_rng(0).normal(0, 400, (side,) * 3).astype(np.int16)
    return nib.Nifti1Image(voxels, np.eye(4)).to_bytes()


def test_files_get_names_that_say_nothing_and_are_unpacked(tmp_path):
    plain = volume(8)
    paths = write_received(
        [gzip.compress(plain), plain, gzip.compress(plain[:200]) + gzip.compress(plain[200:])], tmp_path
    )
    assert [path.name for path in paths] == ["image_0000.nii", "image_0001.nii", "image_0002.nii"]
    assert {path.read_bytes() for path in paths} == {plain}


def test_no_more_is_unpacked_than_allowed(tmp_path):
    plain = volume(8)
    assert write_received([plain, gzip.compress(plain)], tmp_path, 2 * len(plain))
    with pytest.raises(InputError, match=r"image_0001\.nii: the case has more than .* GiB unpacked"):
        write_received([plain, gzip.compress(plain)], tmp_path, 2 * len(plain) - 1)
    assert gunzip_within(gzip.compress(bytes(2**24)), 2**24) == bytes(2**24)
    assert gunzip_within(gzip.compress(bytes(2**24)), 2**24 - 1) is None
    with pytest.raises((EOFError, zlib.error)):
        gunzip_within(gzip.compress(bytes(2**12))[:-3], 2**13)


@pytest.fixture(scope="module")
def model(run_and_package, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        with served(run_and_package[1], Options(device="cpu", threads=1)) as opened:
            yield opened


def test_an_empty_file_asks_what_the_model_is(model):
    held = model.outputs([b""], lambda: False)
    assert held.keys() == {ABOUT}
    about = json.loads(held[ABOUT].item())
    assert (about["source"], about["channels"], about["classes"]) == ("openvino-fp32", ["CT"], ["0", "1", "2"])
    assert about["identity"] == dict(model.opening.identity)
    assert model.outputs([volume()], lambda: False).keys() == set(OUTPUTS)


def test_a_network_without_classes_answers_what_json_can_hold(model):
    opening = model.opening
    plain = replace(opening.open, settings=replace(opening.open.settings, subtypes=0))
    without = replace(opening, open=plain, task=replace(opening.task, classes=()))
    held = ServedModel(without, model._session, 2**30).outputs([volume()], lambda: False)
    assert (held[CLASS].tolist(), held[PROBABILITIES].tolist()) == ([[-1]], [[0.0]])
    json.dumps([held[name].tolist() for name in (CLASS, PROBABILITIES, SECONDS)], allow_nan=False)


def test_a_case_that_nobody_waits_for_is_stopped_between_two_tiles(model):
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(RequestCancelledError):
        model.predict([volume(2 * SIDE)], cancelled)
    assert asked == 4, "27 tiles were to come"
    assert model.predict([volume()]).number in (0, 1, 2)


def test_messages_name_no_file_of_the_server(model):
    with pytest.raises(InputError) as raised:
        model.predict([volume()[:-100]])
    assert str(raised.value).startswith("image_0000.nii: damaged or cut short")
    assert message_of(ValueError("/data/Curie_Marie.nii.gz")) == "the case could not be run (ValueError)"
    assert message_of(raised.value) == str(raised.value)


def test_a_mask_that_is_not_of_the_image_is_refused():
    labels = np.zeros((4, 5, 6), np.uint8)
    mask = gzip.compress(nib.Nifti1Image(labels, np.eye(4)).to_bytes())
    assert labels_of(mask, (4, 5, 6)).shape == (4, 5, 6)
    other = gzip.compress(nib.Nifti1Image(labels.astype(np.int16), np.eye(4)).to_bytes())
    for content, shape in ((mask, (4, 5, 7)), (other, (4, 5, 6)), (b"", (4, 5, 6)), (mask[:50], (4, 5, 6))):
        with pytest.raises(CaseRefusedError, match="the server's mask is"):
            labels_of(content, shape)


@contextmanager
def answering(outputs: Callable[[list[bytes]], dict[str, np.ndarray]]) -> Iterator[str]:
    """A server of KServe's protocol in this process, whose one model is `outputs`; gives its address."""
    grpc, kserve = pytest.importorskip("grpc"), pytest.importorskip("tritonclient.grpc")
    from tritonclient.utils import deserialize_bytes_tensor, np_to_triton_dtype, serialize_byte_tensor

    class Answering(kserve.service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelInfer(self, request, _context):  # noqa: N802
            held = outputs([*deserialize_bytes_tensor(request.raw_input_contents[0])])
            answer = kserve.service_pb2.ModelInferResponse()
            for name in (wanted.name for wanted in request.outputs):
                value, kind = held[name], np_to_triton_dtype(held[name].dtype.type)
                answer.outputs.add(name=name, datatype=kind, shape=value.shape)
                answer.raw_output_contents.append(
                    serialize_byte_tensor(value).item() if kind == "BYTES" else value.tobytes()
                )
            return answer

    server = grpc.server(ThreadPoolExecutor(2))
    kserve.service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Answering(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"grpc://127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_model_that_was_replaced_ends_the_call(tmp_path, capsys):
    """Its masks must not stand under the first one's identity; what was predicted before it is kept."""
    asked = itertools.count()

    def outputs(files: list[bytes]) -> dict[str, np.ndarray]:
        number, labels = next(asked), np.zeros((8, 8, 8), np.uint8)
        about = {"source": "torch-fp32", "identity": {"weights": "first" if number < 2 else "second"}, "voxbench": "1"}
        about |= {"channels": ["CT"], "classes": [], "labels": {"pancreas": 1}}
        mask = gzip.compress(nib.Nifti1Image(labels, np.eye(4)).to_bytes())
        held = {ABOUT: json.dumps(about).encode(), MASK: mask}
        numbers = {CLASS: np.int32(-1), PROBABILITIES: np.float32(1), SECONDS: np.float64(0.1)}
        return {name: np.array([[value]], object) for name, value in held.items()} | {
            name: np.array([[value]]) for name, value in numbers.items()
        }

    for name in ("a", "b"):
        (tmp_path / f"{name}.nii").write_bytes(volume(8))
    with answering(outputs) as url:
        arguments = ("predict", "--url", url, "model", tmp_path / "a.nii", tmp_path / "b.nii", "--read-ahead", 1)
        code = main([*map(str, arguments), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert (code, "serves another model than when the call began (weights was first, is second)" in said) == (4, True)
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["a.nii.gz"]


def test_no_ping_comes_sooner_than_a_server_allows_by_default():
    assert server_module._KEPT_OPEN_S > 300
