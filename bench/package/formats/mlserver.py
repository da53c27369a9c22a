"""A model repository for MLServer: the package itself, which runs whole cases there."""

from pathlib import Path

from bench.package.formats.case_config import NEEDS_VOXBENCH, PACKAGE, case_tensors, mlserver_settings, said_of_code
from bench.package.formats.description import Subject, Written


def refuse(subject: Subject) -> None:
    """Refuse nothing: what cannot be packed is refused when it is."""


def write(subject: Subject, folder: Path) -> Written:
    """Write the server's settings into `folder`, and the model's with the package below it."""
    name = subject.model_name
    (folder / name).mkdir()
    packed = subject.pack(folder / name / PACKAGE)
    for path, text in mlserver_settings(subject, name).items():
        (folder / path).write_text(text)
    inputs, outputs = case_tensors(subject)
    return Written(
        networks=(folder / name / PACKAGE,),
        inputs=inputs,
        outputs=outputs,
        precision=subject.precision,
        served=name,
        remarks=(NEEDS_VOXBENCH, *said_of_code(packed, f"trust in {name}/model-settings.json to true")),
    )
