"""The codes that a segment of some name is given; a tissue, and nothing more, where the name is not known."""

from pathlib import Path
from typing import Any

from bench.data.dicom.toolkit import library

_ORGANS = (
    "Pancreas", "Liver", "Spleen", "Kidney", "Stomach", "Gallbladder", "Esophagus", "Duodenum", "Colon", "Aorta",
    "Lung", "Heart", "Brain", "Prostate", "Trachea", "Bone",
)  # fmt: skip
_ABNORMAL = {
    "lesion": "Lesion", "tumor": "Neoplasm", "tumour": "Neoplasm", "cancer": "Neoplasm", "cyst": "Cyst",
    "edema": "Edema", "necrosis": "Necrosis", "nodule": "Nodule",
}  # fmt: skip


def concepts_of(name: str, path: Path) -> tuple[Any, Any]:
    """Category and type of the segment `name`, of SNOMED CT as pydicom's dictionary has them.

    Raises:
        InputError: pydicom is missing.
    """
    known = library("pydicom.sr.codedict", path).codes.SCT
    organ = next((organ for organ in _ORGANS if organ.casefold() == name.casefold()), None)
    if organ is not None:
        return known.AnatomicalStructure, getattr(known, organ)
    if name.casefold() in _ABNORMAL:
        return known.MorphologicallyAbnormalStructure, getattr(known, _ABNORMAL[name.casefold()])
    return known.Tissue, known.Tissue
