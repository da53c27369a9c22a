"""Own commands as users write them: their mode, their placeholders, and what is refused in one line."""

import hashlib
from pathlib import Path

import pytest

from bench.commands.command import filled, named_files, read_command, refuse_channels, refuse_missing
from bench.errors import InputError
from bench.plan.request import Request
from bench.plan.settings import recipes_of
from bench.plan.variants.recipes import read_commands, read_recipes
from reports.records.record import CommandRecord


def test_placeholders_say_how_a_command_is_called():
    commands = read_commands(
        ["a=python 'my predict.py' {image} --out={mask}", "b=run {images_dir} {masks_dir}", "c:server=python serve.py"],
        "none", 0.5, 1,
    )  # fmt: skip
    assert [(name, own.command.mode, own.backend) for name, own in commands.items()] == [
        ("a", "case", "command"), ("b", "folder", "command"), ("c", "server", "command"),
    ]  # fmt: skip
    assert commands["b"].one_call


def test_another_machine_runs_it_in_the_folder_where_it_was_named(tmp_path, monkeypatch):
    """Which the node of a cluster has too, and where relative paths of a command begin."""
    monkeypatch.chdir(tmp_path)
    request = Request(commands=("a=./p {image} {mask}",)).whole_paths()
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir("scratch")
    command = recipes_of(request)["a"].command
    assert command is not None
    assert command.folder == str(tmp_path)


def test_a_call_has_the_files_of_its_case_and_no_shell():
    images = [Path("/d/a b_0000.nii.gz"), Path("/d/a b_0001.nii.gz")]
    arguments = ["python", "p.py", "{images}", "{image1}", "-o={mask}", "$HOME;ls"]
    assert filled(arguments, images, Path("/m.nii.gz")) == [
        "python", "p.py", *map(str, images), str(images[1]), "-o=/m.nii.gz", "$HOME;ls",
    ]  # fmt: skip


def test_files_that_a_command_names_are_known_by_their_content(tmp_path, monkeypatch):
    """Also behind an option's =; a script behind -c may be longer than the name of any file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.py").write_text("pass\n")
    (tmp_path / "net.bin").write_bytes(b"1")
    command = read_command("", f"python -c '{'#' * 5000}' p.py --net=net.bin --out={{mask}} {{image}} absent.txt")
    assert named_files(command) == {
        "p.py": hashlib.sha256(b"pass\n").hexdigest(), "net.bin": hashlib.sha256(b"1").hexdigest(),
    }  # fmt: skip


def test_a_table_of_the_recipes_may_be_a_command(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[ours]\ncommand = "p {images_dir} {masks_dir}"\nmode = "folder"\nclasses = "{masks_dir}/c.csv"\n')
    expected = CommandRecord(
        line="p {images_dir} {masks_dir}", mode="folder", classes="{masks_dir}/c.csv", folder=str(Path.cwd())
    )
    assert read_recipes(path, "none", 0.5, 1)["ours"].command == expected


@pytest.mark.parametrize(
    ("line", "mode", "classes", "part"),
    [
        ("", None, "", "is empty"),
        ("p 'a", None, "", "cannot be split into arguments (No closing quotation)"),
        ("p a b", None, "", "names neither {mask} nor {masks_dir}"),
        ("p {mask}", None, "", "mode case needs {image} and {mask}; add them"),
        ("p {image} {masks_dir}", None, "", "{image}: no placeholder of mode folder, which has {images_dir} and"),
        ("p {img} {image} {mask}", None, "", "{img}: no placeholder of mode case, which has {image} and {mask}"),
        ("p {image}", "server", "", "{image}: no placeholder of mode server, which has none"),
        ("p {image} {mask}", "fast", "", "mode 'fast': unknown; choose from case, server, folder"),
        ("p -i={images} {mask}", None, "", "{images} becomes an argument for each channel"),
        ("p {image} {mask}", None, "{image}.csv", "of the placeholders only {mask} may be in it"),
    ],
)
def test_what_is_no_command_is_refused_in_one_line(line, mode, classes, part):
    with pytest.raises(InputError) as refused:
        read_command("command a", line, mode, classes)
    assert str(refused.value).startswith("command a: ")
    assert part in str(refused.value)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["python p.py"], "give NAME='PROGRAM ARGUMENTS'"),
        (["torch-amp=p {image} {mask}"], "cannot be a command's name"),
        (["peer-nnunet=p {image} {mask}"], "cannot be a command's name"),
        (["a=p {image} {mask}"] * 2, "two commands have this name"),
    ],
)
def test_names_are_refused(options, part):
    with pytest.raises(InputError, match=part):
        read_commands(options, "none", 0.5, 1)


def test_files_that_a_case_does_not_have_are_refused():
    for line, files, part in (
        ("p {image} {mask}", 2, "{image}: a case has 2 files; write {images}, or {image0} to {image1}"),
        ("p {image0} {image2} {mask}", 2, "{image2}: a case has 2 files, counted from 0"),
    ):
        with pytest.raises(InputError) as refused:
            refuse_channels("command a", read_command("", line), files)
        assert part in str(refused.value)
    with pytest.raises(InputError, match="no-such-program: no such program"):
        refuse_missing("command a", read_command("", "no-such-program {image} {mask}"), {"PATH": "/bin"})
