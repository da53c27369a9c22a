"""The job around a search: what is refused before it, its best recipe with the steps to it, and its confirmation."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bench.commands.command import named_files, read_command
from bench.errors import InputError
from bench.plan.plan import Plan, make_plan
from bench.plan.request import Request
from bench.progress import Unshown
from bench.tune import tuning
from bench.tune.search import Budget, Log
from bench.tune.space import with_values
from bench.tune.trials import Shipped
from reports.decision.tuning import best_of
from reports.decision.verdict import KEPT, LOST, UNDECIDED
from reports.records.record import OK, CommandRecord, VariantRecord, VariantSettings
from reports.records.store import Run, read_run, write_run
from reports.render.tuning import REPORT
from tests.bench.tune.test_search import FIRST, World
from tests.bench.tune.test_space import SPACE, some
from tests.reports.factory import BASELINE, Candidate, by_agreement, make_run, with_lesions

LEAN = VariantSettings(backend="torch-fp32", roi="none", overlap=0.25, batch=1, recipe=True)


def test_a_step_that_turns_out_faster_than_the_best_is_the_best(tmp_path, monkeypatch):
    """One thread costs a part of what the other two settings bring, which no trial of the search has shown."""
    world = World()

    @contextmanager
    def opened(*_):
        yield SimpleNamespace(measure=world)

    monkeypatch.setattr(tuning, "opened", opened)
    log = Log(tmp_path / "trials.jsonl")
    log.append(FIRST)
    log.append(slow := world(2, some(backend="openvino-int8", roi="body", streams=2, threads=1), None))
    settings = SimpleNamespace(timeout_s=100.0, seed=0)
    shipped = SimpleNamespace(run=SimpleNamespace(record=SimpleNamespace(settings=settings)))
    best, taken = tuning._searched(shipped, SPACE, log, Budget(seconds=0.0), tmp_path, Unshown())
    assert best.speedup > slow.speedup
    assert best.settings == some(backend="openvino-int8", roi="body", streams=2)
    assert best == best_of(log.trials)
    assert {step.setting for step in taken} == {"roi", "streams"}
    assert taken[-1].trial == best


@pytest.fixture
def shipped(network, data, tmp_path, monkeypatch):
    """Of a run over the tuning cases, with further variants beside plain PyTorch; no case was run."""
    monkeypatch.setenv("VOXBENCH_CACHE", str(tmp_path / "cache"))
    request = Request(checkpoint=network[0], data=data, device="cpu", backends="")

    def made(baseline: str, reference: str, **variants: VariantSettings) -> tuple[Request, Shipped]:
        own = replace(request, variants=variants, baseline=baseline)
        record = make_plan(own, "", "", Unshown()).record
        ran = tuple(
            VariantRecord(name=name, settings=each, status=OK) for name, each in record.settings.variants.items()
        )
        return own, Shipped(Run(record, ran), reference, 16)

    return made


@pytest.mark.parametrize("name", ["file/below", "n" * 300])
def test_a_folder_that_cannot_be_made_is_refused_in_a_line(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be created \((Not a directory|File name too long)\); choose an"):
        tuning._folder(tmp_path / name, resume=False)


@pytest.mark.parametrize("name", ["", "file"])
def test_a_folder_that_holds_something_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"is not empty; continue it with --resume or choose another --out$"):
        tuning._folder(tmp_path / name, resume=False)


def test_a_recipe_as_baseline_comes_along_to_the_confirmation(shipped):
    other = replace(LEAN, overlap=0.5)
    evaluation, ran = shipped("lean", "other", lean=LEAN, other=other)
    plan = tuning._confirmation_plan(evaluation, ran, replace(LEAN, batch=2), beside=True, progress=Unshown())
    variants = plan.record.settings.variants
    assert plan.record.baseline == "lean"
    assert (variants["lean"], variants["other"], variants["tuned"].batch) == (LEAN, other, 2)
    alone = tuning._confirmation_plan(evaluation, ran, LEAN, beside=False, progress=Unshown())
    assert set(alone.record.settings.variants) == {"lean", "tuned"}


def test_a_recipe_with_values_of_its_own_is_in_the_space_of_the_search(shipped, tmp_path):
    own = replace(LEAN, overlap=0.33, batch=5, tile=(20, 20, 16), threads=3)
    _, ran = shipped("torch-fp32", "own", own=own)
    log = Log(tmp_path / "trials.jsonl")
    log.append(replace(FIRST, settings=own))
    log.append(replace(FIRST, number=2, settings=replace(own, threads=61)))  # on a machine with more, say
    space = tuning._space(ran, log)
    assert space.backends == ("torch-fp32",)
    for trial in log.trials:
        assert space.recipe(with_values(space.values_of(trial.settings))) == trial.settings


def test_an_own_command_is_no_reference(shipped):
    evaluation, ran = shipped("torch-fp32", "torch-fp32")
    command = VariantSettings(
        backend="command", roi="none", overlap=0.0, batch=1,
        command=CommandRecord(line="predict {image} {mask}", mode="case"),
    )  # fmt: skip
    theirs = VariantRecord(name="mine", settings=command, status=OK)
    with pytest.raises(InputError, match=r"^--baseline mine: an own command; a search needs a backend to begin with$"):
        tuning._refuse_unconfirmable(
            evaluation, replace(ran, run=replace(ran.run, variants=(theirs,)), reference="mine")
        )


def test_a_search_does_not_go_on_with_another_script_of_a_command(shipped, tmp_path, monkeypatch):
    """One of an older version says of no script what it was."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "p.py"
    script.write_text("pass\n")
    command = read_command("", "python p.py {image} {mask}")
    _, ran = shipped("torch-fp32", "torch-fp32", mine=replace(LEAN, backend="command", command=command))
    settings = ran.run.record.settings
    tuning._refuse_other(ran.run, Plan(ran.run.record, ()), tmp_path)
    script.write_text("import os\n")
    changed = replace(command, files=named_files(command))
    now = replace(settings, variants={**settings.variants, "mine": replace(settings.variants["mine"], command=changed)})
    plan = Plan(replace(ran.run.record, settings=now), ())
    with pytest.raises(InputError, match=r"command mine: p\.py: is not what this run began with"):
        tuning._refuse_other(ran.run, plan, tmp_path)
    variants = {name: own.without_files for name, own in settings.variants.items()}
    older = replace(ran.run.record, settings=replace(settings, variants=variants))
    tuning._refuse_other(replace(ran.run, record=older), plan, tmp_path)


def test_a_search_does_not_go_on_on_another_machine(shipped, tmp_path):
    _, ran = shipped("torch-fp32", "torch-fp32")
    elsewhere = replace(ran.run.record, host=replace(ran.run.record.host, cores=999))
    with pytest.raises(InputError, match=r"--resume: began on .*999 cores, and this is .*; resume it there, or start"):
        tuning._refuse_other(replace(ran.run, record=elsewhere), Plan(ran.run.record, ()), tmp_path)


def test_a_search_whose_report_could_not_be_written_is_resumed_without_a_second_look(shipped, tmp_path):
    (tmp_path / tuning.SHIPPED).mkdir()
    place, run = tmp_path / tuning.CONFIRMATION, make_run({tuning.RECIPE: Candidate(2.0)})
    write_run(place, run)
    evaluation, ran = shipped("torch-fp32", "torch-fp32")
    assert tuning._folder(tmp_path, resume=True) == tmp_path
    assert tuning._confirmed(evaluation, ran, FIRST, tmp_path, Unshown()) == place
    assert read_run(place).variants == run.variants
    (tmp_path / REPORT).touch()
    with pytest.raises(InputError, match=f"this search is complete, and judged once; see {REPORT} there"):
        tuning._folder(tmp_path, resume=True)


SHIPPED_ONES = {"a": Candidate(2.0), "b": Candidate(3.0), "c": Candidate(4.0, lesion=-0.1), "d": Candidate(0.5)}


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (make_run(SHIPPED_ONES), KEPT),
        (with_lesions(make_run(SHIPPED_ONES), 4), UNDECIDED),  # whose loss in c no case shows beyond doubt
        (by_agreement(make_run(SHIPPED_ONES)), UNDECIDED),  # 16 cases bound no share of changed classes at 10 %
    ],
    ids=["enough cases", "lesions in four cases", "classes by agreement"],
)
def test_the_reference_is_the_fastest_shipped_one_though_its_accuracy_is_undecided(run, state):
    assert tuning._fastest(run, 16) == "b"
    itself = tuning._reference(Shipped(run, "b", 16))
    baseline = tuning._reference(Shipped(run, BASELINE, 16))
    assert (itself.accuracy, baseline.accuracy) == (state, state), "the baseline is judged like every variant"
    assert itself.promising == baseline.promising
    assert best_of([baseline, replace(itself, number=2, speedup=3.0)]).number == 2
    assert (baseline.number, baseline.speedup, baseline.low, baseline.high, baseline.cases) == (1, 1.0, 1.0, 1.0, 16)


def test_the_baseline_is_the_reference_where_nothing_that_is_faster_keeps_its_accuracy():
    run = make_run({name: SHIPPED_ONES[name] for name in ("c", "d")})
    assert tuning._reference(Shipped(run, "c", 16)).accuracy == LOST
    assert tuning._fastest(run, 16) == BASELINE


def test_scores_that_few_tuning_cases_have_are_named_before_the_search():
    run = make_run({"a": Candidate(2.0)})
    assert tuning._without_bounds(run) == ""
    assert tuning._without_bounds(with_lesions(run, 1)) == (
        "On fewer than 5 tuning cases, so that the search goes by the mean, without a bound: lesion DSC (1 case), "
        "lesion NSD (1 case)"
    )
