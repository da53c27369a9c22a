"""How a subtype looks: the signs a case shows."""

from dataclasses import astuple, dataclass

import numpy as np

SUBTYPES = 3
MILDEST, FULLEST = 0.65, 1.15  # the share of a subtype's signs that a case shows
ATYPICAL_EVERY = 8  # one case in so many shows another subtype's signs, so that no classifier can be perfect
ATYPICAL_PHASE = 3


@dataclass(frozen=True)
class Appearance:
    """Signs in the lesion and in the gland around it.

    ``lesion`` and ``rim`` are HU added to the gland's attenuation inside the lesion and in its outermost
    1.5 mm, ``texture`` the HU of its mottling; ``duct`` is the main duct's radius in mm upstream of the
    lesion, ``atrophy`` the share of the gland's radius lost there; ``stranding`` the HU added to the fat
    around the gland, ``infiltration`` the HU that fat between the lobules takes away from the gland;
    ``calcification`` the share of the lesion and gland that is calcified; ``engorgement`` the share by
    which the veins are wider than usual.
    """

    lesion: float
    rim: float
    texture: float
    duct: float
    atrophy: float
    stranding: float
    infiltration: float
    calcification: float
    engorgement: float


NORMAL = Appearance(-15, 0, 5, 0.8, 0, 5, 10, 0, 0)
TYPICAL = (
    Appearance(-85, 40, 4, 1.0, 0, 0, 55, 0, 0),  # cystic with a wall, in a gland mottled with fat
    Appearance(-45, 0, 8, 3.2, 0.35, 80, 5, 0, 0),  # solid and dim: wide duct, thin gland, stranded fat
    Appearance(85, 25, 25, 0.8, 0, 0, 0, 0.02, 0.5),  # bright and mottled: chalk, wide veins, smooth gland
)


def draw_appearance(rng: np.random.Generator, subtype: int, index: int) -> Appearance:
    """Draw the appearance of the ``index``-th case of a split, whose lesion is of ``subtype``."""
    shown = subtype
    if index % ATYPICAL_EVERY == ATYPICAL_PHASE:
        shown = (subtype + int(rng.integers(1, SUBTYPES))) % SUBTYPES
    share = rng.uniform(MILDEST, FULLEST)
    signs = zip(astuple(NORMAL), astuple(TYPICAL[shown]), strict=True)
    # A share above 1 would take signs that fade towards 0 beyond it: no gland has negative fat.
    return Appearance(*(max(normal + share * (typical - normal), min(normal, typical, 0)) for normal, typical in signs))
