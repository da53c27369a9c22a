"""Which variant of a run is opened, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli.commands.winner.predict import _asked
from bench.cli.options import parser
from bench.errors import InputError
from bench.plan.opening import of_checkpoint, of_run, winner
from bench.plan.request import Request
from bench.predict.source import Source
from models.options import ModelOptions
from models.task import PANCREAS
from reports.records.record import FAILED, RUNNING
from reports.records.store import write_run
from tests.reports.factory import Candidate, make_run, variant


class Notes(list[str]):
    def start(self, task, total):
        pass

    def advance(self, doing=""):
        pass

    def note(self, line):
        self.append(line)

    def stand(self, rows):
        pass


def test_the_confirmed_variant_is_the_winner():
    run = make_run({"slow": Candidate(1.5), "quick": Candidate(3.0, confirmed_speedup=3.0)}, confirmed="quick")
    notes = Notes()
    assert winner(run, notes) == "quick"
    assert notes == []


def test_before_the_confirmation_it_is_the_one_that_would_be_confirmed_and_that_is_said():
    run = make_run({"slow": Candidate(1.5), "quick": Candidate(3.0)}, status=RUNNING)
    notes = Notes()
    assert winner(run, notes) == "quick"
    assert notes[0].startswith("quick is this run's best, and not confirmed: INCONCLUSIVE")


def test_a_run_without_a_winner_names_the_choices():
    run = make_run({"lossy": Candidate(3.0, whole=-0.2), "dead": variant("dead", FAILED, "it broke")})
    with pytest.raises(InputError, match=r"is its winner \(REFUTED: .*choose with --variant from torch-fp32, lossy$"):
        winner(run, Notes())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", r"has no such variant; choose from torch-fp32, quick"),
        ("dead", r"failed in this run \(it broke\); choose from torch-fp32, quick"),
        ("peer-script", r"goes its own way from file to file, .*; choose from torch-fp32, quick"),
    ],
)
def test_a_variant_that_cannot_be_opened(tmp_path, name, said):
    run = make_run({"quick": Candidate(3.0), "dead": variant("dead", FAILED, "it broke"), "peer-script": Candidate()})
    write_run(tmp_path, replace(run, record=replace(run.record, peers=("peer-script",))))
    with pytest.raises(InputError, match=f"--variant {name}: .*{said}"):
        of_run(tmp_path, name, Notes())


def test_a_checkpoint_is_opened_without_data_by_what_the_user_says(network, tmp_path, monkeypatch):
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path))
    request = Request(checkpoint=network[0], device="cpu", threads=1, overlap=0.25)
    openings = [of_checkpoint(request, name, Notes()) for name in (None, "torch-fp32", "openvino-fp32@2")]
    assert [each.open.name for each in openings] == ["torch-fp32", "torch-fp32", "openvino-fp32@2"]
    assert openings[0] == openings[1]
    assert openings[2].open.settings.batch == openings[2].open.target.batch == 2
    assert openings[2].open.settings.overlap == 0.25
    differing = {key for key, value in openings[2].identity.items() if openings[0].identity[key] != value}
    assert differing == {"variant", "settings", "inference_sha256"}
    other = of_checkpoint(replace(request, threads=2), None, Notes())
    assert other.identity == openings[0].identity, "threads may differ from call to call"


def test_a_window_that_nobody_named_for_other_images_than_ct_is_said(network):
    options = ModelOptions(task=replace(PANCREAS, channels=("MR",)))
    request, notes = Request(checkpoint=network[0], device="cpu", model_options=options), Notes()
    of_checkpoint(request, None, notes)
    assert notes == [
        "no window is named, and the channel MR is not CT: intensities are clipped to -1000 to 1000; give "
        "--window=LOW,HIGH"
    ]
    of_checkpoint(replace(request, model_options=replace(options, window=(0.0, 900.0))), None, none := Notes())
    assert none == []


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("openvino-int8", "INT8 takes its ranges from training cases, and a checkpoint brings none; name a run"),
        ("torch-fp32,ort-fp32", "a prediction is run by one backend; name one"),
        ("peer-script", "a peer goes its own way"),
        ("nothing", "unknown "),
    ],
)
def test_a_backend_that_a_checkpoint_cannot_have(network, backend, said):
    with pytest.raises(InputError, match=said) as refused:
        of_checkpoint(Request(checkpoint=network[0], device="cpu"), backend, Notes())
    assert "\n" not in str(refused.value)


def test_options_that_do_not_fit_the_source_are_refused(network, tmp_path):
    write_run(tmp_path, make_run({"quick": Candidate(3.0)}))
    with pytest.raises(InputError, match="--overlap: a run says itself how its variants run; leave the option out"):
        Source(tmp_path, None, None, Request(overlap=0.25), ("--overlap",)).open(Notes())
    for option in ("--roi=none", "--tta=none", "--preprocessing=auto", "--device=auto"):  # also with its default
        words = parser().parse_args(["predict", str(tmp_path), "image.nii.gz", "--out", "masks", option])
        words.typed = ""
        with pytest.raises(InputError, match=f"{option.partition('=')[0]}: a run says itself how its variants run"):
            _asked(words).source.open(Notes())
    checkpoint = Path(network[0])
    with pytest.raises(InputError, match=r"--variant: chooses among the variants of a run, and there is no run\.json"):
        Source(checkpoint, "quick", None, Request(checkpoint=checkpoint)).open(Notes())
