"""Where each part of the report belongs in the forms that people file, and what it is not.

OpenRegulatory's template of a report on the validation of an algorithm, and FDA's guidance on predetermined change
control plans for software with machine learning (its three parts); in our words.
"""

from reports.render.commonmark import bullets, section, words
from reports.render.verification.tested import NOT_STATED

_OPENREGULATORY = (
    ("people and qualification", NOT_STATED),
    ("software of unknown provenance, frameworks", "8, versions"),
    ("data: number and kind", "3, the cases"),
    ("intended purpose, clinical environment, architecture", f"{NOT_STATED}; 2 has the network's"),
    ("quality requirements", "4, as required"),
    ("acquisition and annotation of data", NOT_STATED),
    ("preprocessing of data", "3, held equal"),
    ("description of the model", "2; of its training: not stated"),
    ("evaluation: data, measures, acceptable values", "3 and 4"),
    ("conclusion, with risks, biases and limits", "5, with 6, 7 and 9; of risks and biases: not stated"),
)
_PCCP = (
    ("description of modifications", "2"),
    ("modification protocol: data, evaluation, acceptance criteria", "3 and 4, declared beforehand where 3 says so"),
    ("modification protocol: retraining", "none; the weights stay as they are"),
    ("modification protocol: how the update reaches users", NOT_STATED),
    ("impact assessment", "7, as far as output and time go; benefits and risks: not stated"),
)


def forms_section(title: str) -> str:
    """Two tables that lead from the forms to the parts of this report."""
    intro = "Numbers are those of the parts above. Neither body has seen or approved this report."
    return section(
        title,
        intro,
        words(["OpenRegulatory, report on the validation of an algorithm", "here"], _OPENREGULATORY),
        words(["FDA, predetermined change control plan", "here"], _PCCP),
    )


def limits_section(title: str, by_agreement: bool) -> str:
    """What nobody may take the report for."""
    return section(
        title,
        bullets([
            "No clinical validation: it says nothing about patients, users or clinical benefit.",
            "No validation of the network: it holds one way to run it against another.",
            *(["No statement about how right either is: their outputs were held against each other."] * by_agreement),
            "No claim beyond these cases, this machine and these versions.",
            "No regulatory advice, and no decision on whether a change must be reported or approved.",
            "Not complete where it says *not stated*: whoever signs must add that, and answers for it.",
        ]),
    )  # fmt: skip
