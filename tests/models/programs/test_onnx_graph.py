"""ONNX files: the network itself, or the weights of ours; and graphs that are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from models.errors import CheckpointError
from models.inspection import inspect
from models.load import build_model, load_model, read_checkpoint
from models.networks.unet import MultiTaskUNet
from models.options import ModelOptions
from models.programs.onnx_graph import Graph, with_fixed_shapes
from tests.loading import load
from tests.models import sources
from tests.models.sources import SIDE, TILE, Other, answers, as_is, dynamic, dynamo, legacy, refused

EXPORTERS: dict[str, Callable[[nn.Module, Path, Tensor], None]] = {
    "dynamo": dynamo,
    "external": lambda *exported: dynamo(*exported, external=True),
    "legacy": legacy,
}


def near(outputs: tuple[Tensor, ...], true: tuple[Tensor, ...]) -> bool:
    return all(
        float((output - expected).norm() / expected.norm()) < 1e-5
        for output, expected in zip(outputs, true, strict=True)
    )


@pytest.mark.parametrize("how", EXPORTERS)
def test_onnx_of_known_weights_becomes_that_network(
    network: MultiTaskUNet, image: Tensor, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "network.bin"
    EXPORTERS[how](network, path, image)
    model, checkpoint = load(path)
    assert isinstance(model.module, MultiTaskUNet)
    assert (model.program, model.tile, checkpoint.container) == (None, TILE, "onnx")
    assert all(map(torch.equal, answers(model, image), as_is(network, image)))
    assert model.remarks[-1].startswith("the ONNX graph was replaced by multitask-unet of its weights, which answers")
    info = inspect(path)
    assert (info["architecture"], info["parameters"]) == ("multitask-unet", model.parameters)


@pytest.mark.parametrize(
    ("how", "head", "deep"),
    [  # every network by the exporter that is soon done; the others, of which each takes seconds, by one each
        ("legacy", True, False), ("legacy", False, False), ("legacy", True, True),
        ("dynamo", False, False), ("external", True, False), ("dynamic", True, True),
    ],
)  # fmt: skip
def test_any_other_onnx_graph_is_the_network(image: Tensor, tmp_path: Path, how: str, head: bool, deep: bool) -> None:
    path, network = tmp_path / "graph.onnx", Other(head, deep)
    (EXPORTERS | {"dynamic": dynamic})[how](network, path, image)
    model, _ = load(path, options=ModelOptions(tile=TILE))
    assert isinstance(model.program, Graph)
    assert (model.architecture, model.width, model.subtypes) == ("onnx graph", 4, 3 if head else 0)
    expected = as_is(network, image)
    assert near(answers(model, image)[: len(expected)], expected)
    assert near(run(with_fixed_shapes(model, image.shape, "image", ("one", "two")), image)[: len(expected)], expected)
    if how == "dynamic":
        two = image.repeat(2, 1, 1, 1, 1)
        assert near(run(with_fixed_shapes(model, two.shape, "image", ("one", "two")), two), answers(model, two))
        assert (model.program.batch, model.program.tile) == (None, None)


def run(model: Any, image: Tensor) -> tuple[Tensor, ...]:
    import onnxruntime

    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["one", "two"]
    assert all(isinstance(side, int) for output in session.get_outputs() for side in output.shape)
    return tuple(map(torch.from_numpy, session.run(None, {"image": image.numpy()})))


def test_onnx_weights_in_the_users_own_network(image: Tensor, tmp_path: Path) -> None:
    network = Other()
    legacy(network, tmp_path / "graph.onnx", image)
    source = Path(sources.__file__)
    arch = tmp_path / "net.py"
    text = source.read_text()
    body = text[text.index("class Other") : text.index("def as_is")]
    arch.write_text("import torch\nfrom torch import Tensor, nn\n\n" + body)
    options = ModelOptions(arch=f"{arch}:Other", tile=TILE)
    with load_model(tmp_path / "graph.onnx", options) as (model, _):
        assert all(map(torch.equal, answers(model, image), as_is(network, image)))
    assert model.program is None


def test_weights_of_a_graph_decide_its_hash_and_its_key(image: Tensor, tmp_path: Path) -> None:
    """Those in external data too, whatever they are called."""
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    network = Other()
    legacy(network, first, image)
    with torch.no_grad():
        network.last.bias += 1
    legacy(network, second, image)
    model, other = (load(path)[0] for path in (first, second))
    assert model.sha256 != other.sha256
    assert model.code != other.code
    path, models = tmp_path / "graph.onnx", []
    unnamed = external("own", length="4").graph.initializer[0]
    unnamed.name = "unnamed"
    unnamed.dims[:] = [1]
    add = helper.make_node("Add", ["image", "unnamed"], ["sum"])
    conv = helper.make_node("Conv", ["sum", "conv.weight"], ["seg"])
    path.write_bytes(graph(add, conv, constants=[unnamed, WEIGHT]).SerializeToString())
    for value in (1.0, 2.0):
        (tmp_path / "own").write_bytes(np.float32(value).tobytes())
        models.append(load(path)[0])
    assert models[0].sha256 == models[1].sha256
    assert models[0].code != models[1].code


# ONNX files that are refused


def graph(*nodes: Any, constants: Any = (), opset: int = 20, domain: str = "", **options: Any) -> onnx.ModelProto:
    """A model of one image with `nodes`, the last of which gives the segmentation."""
    shape = options.pop("shape", [1, 1, *TILE])
    kind = options.pop("kind", TensorProto.FLOAT)
    made = helper.make_graph(
        list(nodes), "graph",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("seg", TensorProto.FLOAT, [1, 3, *TILE])],
        list(constants),
    )  # fmt: skip
    opsets = [
        helper.make_opsetid(domain, opset),
        *(helper.make_opsetid(name, 1) for name in options.pop("foreign", ())),
    ]
    return helper.make_model(made, opset_imports=opsets, ir_version=9, **options)


WEIGHT = numpy_helper.from_array(torch.ones(3, 1, 1, 1, 1).numpy(), "conv.weight")
CONV = helper.make_node("Conv", ["image", "conv.weight"], ["seg"])


def test_a_minimal_graph_is_read(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    onnx.save(graph(CONV, constants=[WEIGHT]), path)
    model, _ = load(path)
    assert (model.tile, model.labels, model.subtypes) == (TILE, (0, 1, 2), 0)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_outputs_of_another_type_are_made_float32(image: Tensor, tmp_path: Path, kind: int) -> None:
    path = tmp_path / "graph.onnx"
    conv = helper.make_node("Conv", ["image", "conv.weight"], ["logits"])
    made = graph(conv, helper.make_node("Cast", ["logits"], ["seg"], to=kind), constants=[WEIGHT])
    made.graph.output[0].type.tensor_type.elem_type = kind
    onnx.save(made, path)
    model, _ = load(path)
    fixed = with_fixed_shapes(model, image.shape, "image", ("one", "two"))
    assert [output.dtype for output in run(fixed, image)] == [torch.float32] * 2
    assert near(run(fixed, image), answers(model, image))


def changed(**fields: Any) -> TensorProto:
    tensor = TensorProto()
    tensor.CopyFrom(WEIGHT)
    for name, value in fields.items():
        if isinstance(value, list):
            del getattr(tensor, name)[:]
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return tensor


REFUSED = {
    "operators of one runtime": (
        graph(helper.make_node("FusedConv", ["image", "conv.weight"], ["seg"], domain="com.microsoft"),
              constants=[WEIGHT], foreign=["com.microsoft"]),
        "has operators of com.microsoft, which are not ONNX's own and run in one runtime only; export the network "
        "again: torch.onnx.export(network, (x,), FILE, dynamo=True)",
    ),
    "functions": (
        graph(CONV, constants=[WEIGHT], functions=[helper.make_function("", "mine", ["a"], ["b"], [
            helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 20)])]),
        "has functions of its own (mine); inline them with onnx.inliner, or export",
    ),
    "control flow": (
        graph(helper.make_node("Loop", ["", "", "image"], ["seg"], body=helper.make_graph([], "body", [], []))),
        "has control flow (Loop), so that its cost depends on the data; export",
    ),
    "old opset": (
        graph(CONV, constants=[WEIGHT], opset=9),
        "is of ONNX opset 9; 10 is the oldest that is read; convert it with onnx.version_converter.convert_version",
    ),
    "no opset": (graph(CONV, constants=[WEIGHT], domain="other"), "is of ONNX opset 0"),
    "a lie about size": (
        graph(CONV, constants=[changed(dims=[3, 10**9, 10**3, 1, 1])]),
        "claims [3, 1000000000, 1000, 1, 1] for conv.weight and stores 12 bytes; copy or download the file again",
    ),
    "a lie about size, in numbers": (
        graph(CONV, constants=[changed(raw_data=b"", float_data=[1.0], dims=[10**12])]),
        "claims [1000000000000] for conv.weight and stores 4 bytes",
    ),
    "a negative side": (
        graph(CONV, constants=[changed(dims=[-3, -1])]),
        "has conv.weight [-3, -1] of type FLOAT, which is not read",
    ),
    "another type": (
        graph(CONV, constants=[changed(data_type=TensorProto.STRING)]),
        "has conv.weight [3, 1, 1, 1, 1] of type STRING, which is not read",
    ),
    "an unknown operator": (
        graph(helper.make_node("Convolve", ["image", "conv.weight"], ["seg"]), constants=[WEIGHT]),
        "is no valid ONNX model (No Op registered for Convolve",
    ),
    "two dimensions": (
        graph(CONV, constants=[WEIGHT], shape=[1, 1, SIDE, SIDE]),
        "has the inputs image (1, 1, 32, 32) of type FLOAT, where one float32 [B, C, D, H, W] is expected; export the "
        "network for one image, its channels together, in float32",
    ),
    "another number of channels than its weights": (
        graph(CONV, constants=[WEIGHT], shape=[1, 2, *TILE]), "does not run on a tile of 32 x 32 x 32 (",
    ),
    "half precision": (
        graph(CONV, constants=[WEIGHT], kind=TensorProto.FLOAT16),
        "has the inputs image (1, 1, 32, 32, 32) of type FLOAT16, where one float32",
    ),
    "NaN": (
        graph(CONV, constants=[changed(raw_data=torch.full((3,), torch.nan).numpy().tobytes())]),
        "holds NaN or infinity in conv.weight; use a checkpoint from before the training diverged",
    ),
    "a tensor beyond all measure": (
        graph(
            helper.make_node("ConstantOfShape", ["sides"], ["much"]),
            helper.make_node("ReduceMax", ["much"], ["most"], keepdims=0),
            helper.make_node("Add", ["image", "most"], ["sum"]),
            helper.make_node("Conv", ["sum", "conv.weight"], ["seg"]),
            constants=[WEIGHT, numpy_helper.from_array(np.array([40_000, 40_000]), "sides")],
        ),
        "does not run on a tile of 32 x 32 x 32 (much would be [40000, 40000], more than 1024 times the image)",
    ),
    "a tensor whose size is computed from the image": (
        graph(
            helper.make_node("ReduceMin", ["image"], ["least"], keepdims=0),
            helper.make_node("Floor", ["least"], ["nothing"]),
            helper.make_node("Cast", ["nothing"], ["zero"], to=TensorProto.INT64),
            helper.make_node("Add", ["zero", "sides"], ["wanted"]),
            helper.make_node("ConstantOfShape", ["wanted"], ["much"]),
            helper.make_node("ReduceMax", ["much"], ["most"], keepdims=0),
            helper.make_node("Add", ["image", "most"], ["sum"]),
            helper.make_node("Conv", ["sum", "conv.weight"], ["seg"]),
            constants=[WEIGHT, numpy_helper.from_array(np.array([40_000, 40_000]), "sides")],
        ),
        "does not run on a tile of 32 x 32 x 32 (a pass would take more than ",
    ),
    "a tensor whose size is computed from constants": (
        graph(
            helper.make_node("Floor", ["sides"], ["whole"]),
            helper.make_node("Cast", ["whole"], ["wanted"], to=TensorProto.INT64),
            helper.make_node("ConstantOfShape", ["wanted"], ["much"]),
            helper.make_node("ReduceMax", ["much"], ["most"], keepdims=0),
            helper.make_node("Add", ["image", "most"], ["sum"]),
            helper.make_node("Conv", ["sum", "conv.weight"], ["seg"]),
            constants=[WEIGHT, numpy_helper.from_array(np.array([40_000, 40_000], np.float32), "sides")],
        ),
        "does not run on a tile of 32 x 32 x 32 (a pass would take more than ",
    ),
    "no segmentation": (
        graph(helper.make_node("Relu", ["image"], ["seg"])),
        "its network takes 1 channel and gives 1 class, and nothing says what they are; name the task that it was",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "graph.onnx"
    model, said = REFUSED[name]
    path.write_bytes(model.SerializeToString())
    assert refused(path).startswith(said)


def test_a_truncated_graph_is_refused(network: MultiTaskUNet, image: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    legacy(network, path, image)
    whole = path.read_bytes()
    for kept in (20, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        refused(path)


def external(place: str, offset: str = "0", length: str = "12") -> onnx.ModelProto:
    tensor = changed(raw_data=b"", data_location=TensorProto.EXTERNAL)
    for key, value in (("location", place), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=value)
    return graph(CONV, constants=[tensor])


def test_external_data_come_from_its_own_folder_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    path = home / "graph.onnx"
    data = torch.ones(3).numpy().tobytes()
    for file in (home / "own", home / "sub" / "own", tmp_path / "foreign"):
        file.write_bytes(data)
    (home / "link").symlink_to(tmp_path / "foreign")
    (home / "folder").symlink_to(tmp_path)
    for place in ("own", "sub/own"):
        path.write_bytes(external(place).SerializeToString())
        assert load(path)[0].program is not None
    way_out = (
        str(tmp_path / "foreign"), "../foreign", "sub/../../foreign", "link", "folder/foreign", "..\\foreign",
        "C:\\foreign", "own\0", "", "/etc/passwd",
    )  # fmt: skip
    for place in way_out:
        path.write_bytes(external(place).SerializeToString())
        assert refused(path).startswith("names external data outside its own folder for conv.weight: "), place
    path.write_bytes(external("../foreign").SerializeToString())
    assert refused(path) == (
        "names external data outside its own folder for conv.weight: '../foreign'; do not use it; where you trust its "
        "source, export the network again: torch.onnx.export(network, (x,), FILE, dynamo=True)"
    )
    path.write_bytes(external("missing").SerializeToString())
    assert refused(path) == "lacks its external data missing; put that file beside it, as it was exported"
    for offset, length in (("0", "16"), ("4", "12"), ("-4", "12"), ("0", "9" * 30), ("0", "x"), ("99999999999", "12")):
        path.write_bytes(external("own", offset, length).SerializeToString())
        assert refused(path).startswith("claims "), (offset, length)
        assert "copy both files again" in refused(path)


def test_external_data_are_not_read_again_and_again(tmp_path: Path) -> None:
    model = external("own")
    for number in range(3):
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(model.graph.initializer[0])
        tensor.name = f"more.{number}.weight"
    path = tmp_path / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "own").write_bytes(bytes(12))
    assert refused(path).startswith("reads parts of own more than once; export the network again")


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("onnx", "pip install onnx"), ("onnxruntime", 'in the checkout of voxbench: pip install ".[cpu]"')],
)
def test_reading_a_graph_without_what_reads_it(
    missing: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "graph.onnx"
    onnx.save(graph(CONV, constants=[WEIGHT]), path)
    monkeypatch.setattr(
        "models.programs.onnx_graph.find_spec", lambda package: None if package == missing else object()
    )
    assert refused(path) == f"is an ONNX file, and the package {missing} is not installed; {remedy}"


def test_the_checkpoint_outlives_the_replaced_program(network: MultiTaskUNet, image: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    legacy(network, path, image)
    checkpoint = read_checkpoint(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="does not run on a tile of 32 x 32 x 32"):
        build_model(checkpoint)  # what cannot be verified is not used
