"""What nnU-Net's dataset.json says of a network: its outputs as nnU-Net's label manager has them, and its task."""

import pytest
import torch

from models.model import Plans
from models.nnunet.dataset import kept_dataset, task_of
from models.task import PANCREAS, Structure
from tests.nnunet import DATASET, DATASETS

LISTED = {"channel_names": {"1": "ADC", "0": "T2"}}


def plans_of(dataset, name="Dataset001_Test"):
    return Plans({"dataset_name": name}, kept_dataset(dataset), "3d_fullres")


def with_labels(name="Dataset001_Test", **labels):
    return plans_of({"channel_names": {"0": "CT"}, "labels": {"background": 0} | labels}, name)


@pytest.mark.parametrize("name", DATASETS)
def test_outputs_are_those_of_nnunets_label_manager(name):
    label_handling = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling")
    dataset, task = DATASETS[name], task_of(plans_of(DATASETS[name]))
    manager = label_handling.LabelManager(dataset["labels"], dataset.get("regions_class_order"))
    labels, painting = task.output_labels, task.output_painting
    logits = torch.randn(manager.num_segmentation_heads, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    if painting is None:
        ours = torch.tensor(labels)[logits.argmax(0)]
    else:
        ours = torch.zeros(logits.shape[1:], dtype=torch.long)
        for output in painting:
            ours[logits[output] > 0] = labels[output]
    assert len(labels) == manager.num_segmentation_heads
    assert torch.equal(ours, manager.convert_logits_to_segmentation(logits).long())
    assert set(task.labels.values()) == set(manager.all_labels)
    assert task.ignore == manager.ignore_label
    assert task.channels == tuple(dataset["channel_names"].values())


def test_every_label_is_a_structure_and_one_that_names_a_lesion_is_not_ours():
    task = task_of(plans_of(DATASETS["Lung"], "Dataset006_Lung"))
    assert (task.name, task.labels) == ("Lung", {"background": 0, "cancer": 1})
    assert task.structures == {"cancer": Structure(labels=(1,))}
    liver = with_labels("Dataset003_Liver", parenchyma=1, tumor=2)
    assert set(task_of(liver).structures) == {"parenchyma", "tumor"}


def test_regions_are_structures_in_the_order_of_the_file():
    task = task_of(plans_of(DATASETS["BrainRegions"]))
    assert {name: structure.labels for name, structure in task.structures.items()} == {
        "whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,),
    }  # fmt: skip
    assert task.labels == {"background": 0, "label 1": 1, "label 2": 2, "enhancing tumor": 3}
    assert (task.output_labels, task.output_painting) == ((1, 2, 3), (0, 1, 2))
    single = task_of(with_labels(a=[1], b=[2]))  # which nnU-Net takes for labels
    assert (single.output_labels, single.output_painting) == ((0, 1, 2), None)


@pytest.mark.parametrize(
    ("labels", "whole", "lesion"),
    [
        ({"pancreas": 1, "cancer": 2}, (1, 2), (2,)),
        ({"Lesion": 1, "Pancreas": 2}, (1, 2), (1,)),
        ({"pancreas": 1, "tumor": 2, "cyst": 3, "ignore": 4}, (1, 2, 3), (2, 3)),
    ],
)
def test_the_pancreas_has_its_structures_by_the_files_own_labels(labels, whole, lesion):
    task = task_of(with_labels(**labels), subtypes=3)
    assert [structure.labels for structure in task.structures.values()] == [whole, lesion]
    for name, structure in PANCREAS.structures.items():
        assert (task.structures[name].dsc_target, task.structures[name].nsd_tolerance_mm) == (
            structure.dsc_target, structure.nsd_tolerance_mm,
        )  # fmt: skip
    assert (task.classes, task.f1_target) == (("0", "1", "2"), PANCREAS.f1_target)
    assert [*task.synonyms] == ([*labels] if len(whole) == 2 else []), "which lesion would another data set's be?"


def test_channels_are_in_the_order_of_their_numbers():
    assert task_of(plans_of(DATASET | LISTED)).channels == ("T2", "ADC")
    assert task_of(plans_of({"modality": {"0": "MRI"}, "labels": DATASET["labels"]})).channels == ("MRI",)


REFUSED = {
    "whose labels are not 0, 1, 2": {"labels": {"background": 0, "pancreas": 1, "lesion": 3}},
    "with background 0": {"labels": {"lesion": 1, "pancreas": 2}},
    "names no labels": {"labels": 3},
    "is no number from 0 to 255": {"labels": {"background": 0, "liver": 256}},
    "'ignore' is not the one after its highest, 2": {"labels": DATASET["labels"] | {"ignore": 4}},
    "does not give each of its 2 regions a label": {
        "labels": {"background": 0, "whole": [1, 2], "lesion": 2}, "regions_class_order": [1],
    },
    "holds 7, which is no label of its foreground": {
        "labels": {"background": 0, "whole": [1, 2], "lesion": 2}, "regions_class_order": [1, 7],
    },
    "names no channels": {"channel_names": {}},
    "whose channels are not 0, 1, 2": {"channel_names": {"0": "CT", "2": "PET"}},
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_what_nnunet_would_not_train_by_is_refused(said):
    with pytest.raises(ValueError, match=f"^come with a dataset.json .*{said}"):
        kept_dataset(DATASET | REFUSED[said])
