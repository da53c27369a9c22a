"""Packages that lie, are damaged, or want to lead a reader elsewhere: each is refused in one line."""

import errno
import gzip
import hashlib
import json
import os

import nibabel as nib
import pytest

from bench.errors import InputError
from bench.package.document import read_package


def list_file(document: dict, name: str, content: bytes) -> None:
    document["files"][name] = hashlib.sha256(content).hexdigest()


def test_a_package_is_read_as_it_was_written(package):
    record = read_package(package)
    assert record.variant == "openvino-fp32"
    assert record.precision == "fp32"
    assert set(record.files) == {
        path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()
    } - {"package.json"}
    assert {".pth", ".pt", ".pkl", ".py", ".so"}.isdisjoint({path.suffix for path in package.rglob("*")})


@pytest.mark.parametrize("name", ["networks/0/weights.safetensors", "golden/0/mask.nii.gz", "proof/report.md"])
def test_a_changed_file_is_refused(name, package):
    content = bytearray((package / name).read_bytes())
    content[len(content) // 2] ^= 1
    (package / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: not the file that package.json lists \(another SHA-256\); copy"):
        read_package(package)


def test_a_missing_file_is_named(package):
    (package / "golden" / "0" / "mask.nii.gz").unlink()
    with pytest.raises(InputError, match=r"mask.nii.gz: not there, and package.json lists it"):
        read_package(package)


def test_a_folder_that_may_not_be_read_is_not_taken_for_missing_files(package, monkeypatch):
    closed, scandir = package / "artefacts", os.scandir

    def refused(place):
        if os.fspath(place) == os.fspath(closed):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"artefacts: cannot be read \(Permission denied\); let the user"):
        read_package(package)


@pytest.mark.parametrize("name", ["networks/0/plans.json", "networks/configs/metadata.json", "sitecustomize.py"])
def test_a_file_that_nobody_listed_is_refused(name, package):
    """Readers of networks look beside the weights for files of nnU-Net and bundles."""
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).write_text("{}")
    with pytest.raises(InputError, match=f"{name}: package.json does not list it"):
        read_package(package)


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe"])
def test_links_and_special_files_are_refused(kind, package, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    match kind:
        case "link":
            (package / "extra").symlink_to("/etc/passwd")
        case "folder link":
            (package / "extra").symlink_to(tmp_path / "elsewhere")
        case _:
            os.mkfifo(package / "extra")
    with pytest.raises(InputError, match="extra: a link or a special file, which no package holds"):
        read_package(package)


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json",
        "/etc/passwd",
        "a/../../outside.json",
        "./proof/report.md",
        "a//b",
        "",
        "a\\b",
        "a\nb",
        "package.json",
    ],
)
def test_names_that_lead_out_are_refused(name, spoil):
    folder = spoil(lambda document: list_file(document, name, b"{}"))
    with pytest.raises(InputError, match=r"package.json: lists .* which is no name of a file in the package"):
        read_package(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["network"].update(paths=["../../model.pth"]), "uses '../../model.pth' and does not list it"),
        (lambda d: d["golden"][0].update(images=["/etc/hostname"]), "uses '/etc/hostname' and does not list it"),
        (lambda d: d["network"].update(sha256=[]), "names 1 networks and other hashes"),
        (lambda d: d["network"].update(tile="__import__('os').system('touch ran')"), "`network.tile`"),
        (lambda d: d["settings"].update(batch="$import os"), "`settings.batch`"),
        (lambda d: d.update(hook="os.system"), "unknown field `hook`"),
        (lambda d: d.pop("proof"), "`proof` is missing"),
        (lambda d: d.update(schema=2), "schema 2, while this version reads schema 1"),
        (lambda d: d.update(schema=True), "schema True"),
    ],
)
def test_a_document_that_says_something_else_is_refused(change, said, spoil, tmp_path):
    with pytest.raises(InputError) as caught:
        read_package(spoil(change))
    assert said in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no document of a package"),
        (b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.", "no document of a package"),
        (b"[" * 100_000, "no document of a package"),
        (b"[]", "schema None"),
        (b" " * (17 * 2**20), "it has more than 16 MiB"),
    ],
    ids=["empty", "a pickle", "nested", "a list", "large"],
)
def test_what_is_no_document_is_refused(content, said, package, tmp_path):
    (package / "package.json").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_package(package)
    assert not (tmp_path / "ran").exists()


def test_a_listed_file_that_grows_when_it_is_unpacked_is_refused(package, bench):
    """Listed with its hash, as its maker may do: a mask of 20 kB that unpacks to 20 MB behind a small header."""
    path = package / "golden" / "0" / "mask.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:352] + bytes(20 * 2**20)))
    document = json.loads((package / "package.json").read_text())
    list_file(document, "golden/0/mask.nii.gz", path.read_bytes())
    (package / "package.json").write_text(json.dumps(document))
    code, _, err = bench("verify", package, "--threads", 1)
    assert code in (1, 2), err


def test_a_golden_case_that_is_no_small_one_is_refused(package, bench):
    """By its header 2 GB of voxels."""
    path = package / "golden" / "0" / "image_0000.nii.gz"
    image = nib.load(path)
    header = image.header.copy()
    header.set_data_shape((1024, 1024, 1024))
    header["vox_offset"] = 352
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header.binaryblock + bytes(4))
        for _ in range(16):
            file.write(bytes(2**20))
    document = json.loads((package / "package.json").read_text())
    list_file(document, "golden/0/image_0000.nii.gz", path.read_bytes())
    (package / "package.json").write_text(json.dumps(document))
    code, _, err = bench("verify", package, "--threads", 1)
    assert code == 2
    assert "a golden case of 1073741824 voxels" in err


@pytest.mark.parametrize("command", ["verify", "predict"])
def test_built_code_is_not_opened_unless_it_is_trusted(command, package, bench):
    """Listed with its hash, in the place where engines look, and the document says that there is none."""
    name = f"artefacts/aoti-{'0' * 64}/network.so"
    (package / name).parent.mkdir()
    (package / name).write_bytes(b"code")
    document = json.loads((package / "package.json").read_text())
    list_file(document, name, b"code")
    assert document["code"] is False
    (package / "package.json").write_text(json.dumps(document))
    options = ("--threads", 1) if command == "verify" else (package / "golden/0/image_0000.nii.gz", "--out", "masks")
    code, _, err = bench(command, package, *options)
    assert code == 2
    assert "holds built code (aoti), which is run when it is opened; if you trust" in err


@pytest.mark.parametrize("file", ["weights.pth", "model.pt"])
def test_a_pickle_in_the_place_of_weights_runs_nothing(file, package, bench, tmp_path):
    import pickle

    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = package / "networks" / "0" / file
    path.write_bytes(pickle.dumps({"state_dict": Hostile()}))
    document = json.loads((package / "package.json").read_text())
    list_file(document, f"networks/0/{file}", path.read_bytes())
    document["network"]["paths"] = [f"networks/0/{file}"]
    (package / "package.json").write_text(json.dumps(document))
    code, _, err = bench("verify", package, "--threads", 1)
    assert code == 2
    assert file in err
    assert not (tmp_path / "ran").exists()
