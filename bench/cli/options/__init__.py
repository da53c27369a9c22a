"""The options of every command, as argparse reads them. Nothing heavy is imported here, since help must be instant.

`groups` are those that several commands have, `values` what they may be.
"""

import argparse
from pathlib import Path
from typing import Any, NoReturn

from bench import __version__
from bench.choices import (
    ABSENT,
    DEMOS,
    EXPORTS,
    MAX_OVERLAP,
    PLAN_FILE,
    PREPROCESSINGS,
    PROTOCOLS,
    RACES,
    ROIS,
    SCENARIOS,
    SPLITS,
)
from bench.cli.exit_codes import MEANINGS
from bench.cli.options.groups import (
    allocator,
    checkpoint,
    claim,
    folds,
    network,
    one_backend,
    one_shard,
    one_worker,
    timeout,
    tta,
    which_run,
)
from bench.cli.options.values import device, number, rounds, size, whole
from bench.peers import PEERS
from bench.plan.request import Request
from engines import BACKENDS
from reports.render import FOLDERS, FORMATS
from reports.render.several import FORMATS as SEVERAL

# Of a checkpoint that is predicted with, by the names of their values; a run and a package say these things themselves.
OF_CHECKPOINT = (
    "arch", "tile", "window", "task", "trust", "folds", "backend", "device", "overlap", "roi", "preprocessing", "tta",
    "allocator",
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As `argparse` has it, but a command itself refuses what it does not know."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="bench",
        description="Show that a faster way of running a trained 3D network is really faster.",
        epilog="\n".join(["exit codes:", *(f"  {code:<3}  {meaning}" for code, meaning in MEANINGS.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"voxbench {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _run(commands.add_parser("run", help="time every backend against a baseline and judge the speedup"))
    _plan(commands.add_parser("plan", help="declare beforehand what a run will do, and what it will take"))
    _tune(commands.add_parser("tune", help="search for the fastest recipe whose accuracy is kept, and confirm it"))
    _report(
        commands.add_parser("report", help="show a run to people and programs: a page, tables, a report to be filed")
    )
    _log(commands.add_parser("log", help="put a run's figures and reports into an experiment tracker's store"))
    _check(commands.add_parser("check", help="the CI gate: exit 0 only if a run confirms the claim"))
    _compare(commands.add_parser("compare", help="runs over commits or machines: exit 1 if a backend regressed"))
    _history(commands.add_parser("history", help="many runs of a project: where a backend's speedup changed"))
    _inspect(commands.add_parser("inspect", help="what a checkpoint holds, and how it was read"))
    _doctor(commands.add_parser("doctor", help="which backends can run here, and how to enable the others"))
    _scenario(commands.add_parser("scenario", help="MLPerf's scenarios: latency, throughput, cold starts"))
    _predict(commands.add_parser("predict", help="run a verified way of inference over many cases"))
    _merge(
        commands.add_parser("merge", help="join the shards of `bench predict` or `bench run` into what one call gives")
    )
    _export(commands.add_parser("export", help="a variant of a run as a package that can be taken elsewhere"))
    _verify(commands.add_parser("verify", help="whether a package does here what it did where it was made"))
    return top


def _run(run: argparse.ArgumentParser) -> None:
    _measurement(run)
    out = run.add_argument_group("where it goes")
    _run_directory(out)
    _resumed(out)
    run.add_argument(
        "--ray", metavar="auto|ADDRESS",
        help="have each node of this Ray cluster run a shard, and merge them; needs --rounds N",
    )  # fmt: skip
    beforehand = run.add_argument_group("a claim that is declared before the run")
    _declared(beforehand)
    beforehand.add_argument("--plan-only", action="store_true", help="declare it, as `bench plan` does, to --out FILE")
    _pilot(beforehand)


def _plan(plan: argparse.ArgumentParser) -> None:
    _measurement(plan)
    out = plan.add_argument_group("where it goes")
    out.add_argument("--out", type=Path, metavar="FILE", help=f"the declaration ({PLAN_FILE})")
    _pilot(out)


def _pilot(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--pilot", action=argparse.BooleanOptionalAction,
        help="run a few cases to forecast the plan's duration and the cases that it needs (yes)",
    )  # fmt: skip


def _run_directory(group: argparse._ActionsContainer) -> None:
    group.add_argument("--out", type=Path, metavar="DIR", help="run directory (default: a new one under runs/)")


def _declared(group: argparse._ActionsContainer) -> None:
    group.add_argument("--plan", type=Path, metavar="FILE", help="run what this declares, and nothing else")


def _resumed(group: argparse._ActionsContainer) -> None:
    group.add_argument("--resume", action="store_true", help="finish the run in --out (default: runs/latest)")


def beside_plan(arguments: list[str]) -> list[str]:
    """What the command line of a run by ``--plan`` says of the measurement, where the plan says all of it."""
    allowed = _allowed()
    one_shard(allowed, "")
    _declared(allowed)
    return allowed.parse_known_args(arguments)[1]


def beside_resume(arguments: list[str]) -> list[str]:
    """What the command line of a run that is resumed says of the measurement, which its record says."""
    allowed = _allowed()
    _resumed(allowed)
    return allowed.parse_known_args(arguments)[1]


def _allowed() -> argparse.ArgumentParser:
    """Knows the run directory alone, and hands back what it does not know."""
    allowed = argparse.ArgumentParser(add_help=False)
    allowed.add_argument("command")
    _run_directory(allowed)
    return allowed


def _measurement(run: argparse.ArgumentParser) -> None:
    """All that `bench plan` declares."""
    what = _what(run)
    what.add_argument(
        "--command", dest="commands", action="append", default=[], metavar="NAME='PROGRAM {image} {mask}'",
        help="time a command of yours too: a new process for each case; with {images_dir} {masks_dir} one call for "
        "all; with NAME:server=... a process that gets a line of JSON for each case. May be given several times",
    )  # fmt: skip
    what.add_argument(
        "--require",
        dest="required",
        default=Request.required,
        metavar="A,B",
        help="exit 4 if one of these is skipped or fails",
    )
    _how(run)
    much = run.add_argument_group("how much is measured, and what is claimed")
    much.add_argument(
        "--rounds", type=rounds, default=Request.rounds, metavar="auto|N", help="passes over all cases (auto)"
    )
    much.add_argument(
        "--budget",
        dest="budget_s",
        type=number(0),
        metavar="S",
        help="seconds of rounds with auto (600)",
    )
    much.add_argument(
        "--race", choices=RACES,
        help="with --rounds auto a variant leaves the rounds once nothing more of it would change the answer (on)",
    )  # fmt: skip
    one_shard(much, "to be joined by `bench merge`; needs --rounds N")
    _claimed(much)


def _tune(tune: argparse.ArgumentParser) -> None:
    _what(tune)
    _how(tune)
    much = tune.add_argument_group("how long it searches, and what is claimed")
    much.add_argument(
        "--budget", dest="search_s", type=number(0), default=420.0, metavar="S",
        help="seconds of trials, without the shipped variants before them and the confirmation after them (420)",
    )  # fmt: skip
    much.add_argument("--trials", type=whole(1), metavar="N", help="at most so many (as many as the budget allows)")
    much.add_argument(
        "--tuning-split", choices=SPLITS,
        help="whose cases the search sees (train, or half of --split where train has too few cases with masks)",
    )  # fmt: skip
    _claimed(much)
    out = tune.add_argument_group("where it goes")
    out.add_argument("--out", type=Path, metavar="DIR", help="of the search (default: a new one under tuning/)")
    out.add_argument("--resume", action="store_true", help="go on with the search in --out, which asked for the same")


def _what(run: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    what = run.add_argument_group("what to run")
    checkpoint(what)
    network(what)
    what.add_argument("--data", type=Path, metavar="DIR", help="cases, or a JSON that lists them (default: the demo)")
    what.add_argument(
        "--demo", choices=DEMOS, default=Request.demo,
        help="the demo's network and volumes: the pancreas and what is around it, whole bodies (36; more with "
        "--max-cases 60), or brain tumours in two MRI contrasts",
    )  # fmt: skip
    what.add_argument("--split", choices=SPLITS, default=Request.split)
    what.add_argument("--max-cases", type=whole(1), metavar="N", help="at most N cases, spread over the split")
    what.add_argument("--demo-width", type=whole(1), metavar="W", help="widen the demo network without changing it")
    what.add_argument(
        "--backends", metavar="all|A,B",
        help="what to time (all, with --recipes none but the baseline); A@4 runs A with 4 tiles in a pass, and all@4 "
        f"every one: {', '.join(BACKENDS)}; and, not part of all, what is run today: {', '.join(PEERS)}",
    )  # fmt: skip
    what.add_argument(
        "--recipes",
        metavar="FILE.toml|builtin",
        help="time these too: backends with ROI, overlap, batch of their own, and own commands",
    )
    what.add_argument(
        "--baseline",
        metavar="NAME",
        help="what all are held against, in time and in accuracy: any of these names, or a recipe's (torch-fp32; "
        "ort-fp32 for an ONNX graph)",
    )
    return what


def _how(run: argparse.ArgumentParser) -> None:
    how = run.add_argument_group("how a case is run (the same for every backend)")
    how.add_argument("--device", type=device, default=Request.device, metavar="auto|cpu|cuda[:N]")
    how.add_argument("--protocol", choices=PROTOCOLS, default=Request.protocol)
    how.add_argument(
        "--overlap",
        type=number(0, MAX_OVERLAP),
        default=Request.overlap,
        metavar="F",
        help="of neighbouring tiles (the bundle's own, else 0.5)",
    )
    how.add_argument(
        "--roi", choices=ROIS, default=Request.roi,
        help="what the network is run on: all (none), the body's box, the box around what it finds at half the "
        "resolution (coarse), or the tiles near what it finds without overlap (foreground)",
    )  # fmt: skip
    how.add_argument(
        "--preprocessing", choices=PREPROCESSINGS, default=Request.preprocessing,
        help="of networks of nnU-Net: ours, equal and faster, or nnU-Net's own functions (auto: ours where it can)",
    )  # fmt: skip
    tta(how)
    how.add_argument("--batch", type=whole(1), default=Request.batch, metavar="N", help="tiles in a forward pass (1)")
    how.add_argument("--threads", type=whole(1), metavar="N", help="CPU threads of each backend (one a core)")
    allocator(how)


def _claimed(much: argparse._ActionsContainer) -> None:
    timeout(much)
    much.add_argument(
        "--seed", type=whole(0), default=Request.seed, metavar="N", help="of the order of backends and cases (0)"
    )
    claim(much, defaults=True)
    much.add_argument(
        "--absent",
        choices=ABSENT,
        default=Request.absent,
        help="what counts of a structure that neither truth nor predictions of a case hold: nothing, or 1 (skip)",
    )


def _report(report: argparse.ArgumentParser) -> None:
    which_run(report)
    report.add_argument("--format", choices=(*FORMATS, *FOLDERS), default="markdown")
    report.add_argument(
        "--out", type=Path, metavar="FILE",
        help=f"write there rather than to the terminal; a folder with {', '.join(FOLDERS)}",
    )  # fmt: skip
    page = report.add_argument_group("the page (--format html)")
    page.add_argument("--no-images", action="store_true", help="leave out the images of the cases")
    page.add_argument(
        "--max-size", type=size, metavar="SIZE",
        help="of the page, such as 5MiB: the worst cases get images while there is room (20MiB)",
    )  # fmt: skip


def _log(log: argparse.ArgumentParser) -> None:
    trackers = log.add_subparsers(dest="tracker", metavar="TRACKER", required=True)
    mlflow = trackers.add_parser("mlflow", help="a database file in the current folder, or a server")
    which_run(mlflow)
    mlflow.add_argument(
        "--uri",
        metavar="URI",
        help="of the store (MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in the current folder)",
    )
    mlflow.add_argument("--experiment", default="voxbench", metavar="NAME", help="made where it is missing (voxbench)")
    wandb = trackers.add_parser("wandb-offline", help="runs of Weights & Biases in a folder, without network")
    which_run(wandb)
    wandb.add_argument("--project", default="voxbench", metavar="NAME", help="that they are of (voxbench)")
    wandb.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="the folder (the current one)")
    for tracker in (mlflow, wandb):
        tracker.add_argument("--again", action="store_true", help="also where this run was logged before")


def _check(check: argparse.ArgumentParser) -> None:
    which_run(check)
    claim(check, defaults=False)
    check.add_argument("--variant", metavar="NAME", help="judge this one rather than the best")


def _compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument("reference", type=Path, metavar="RUN", help="run directory that the others are held against")
    compare.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="each is compared with the first")
    compare.add_argument(
        "--max-slowdown", type=number(0, 99), default=5.0, metavar="X",
        help="per cent by which the speedup over a run's own baseline may fall (5)",
    )  # fmt: skip
    _document(compare)


def _history(history: argparse.ArgumentParser) -> None:
    history.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="each run directory in it, however deep")
    _document(history)


def _document(command: argparse.ArgumentParser) -> None:
    """Of commands that show several runs."""
    command.add_argument("--format", choices=SEVERAL, default="markdown")
    command.add_argument("--out", type=Path, metavar="FILE", help="write there rather than to the terminal")


def _inspect(inspect: argparse.ArgumentParser) -> None:
    inspect.add_argument("files", nargs="+", type=Path, metavar="FILE", help="several: an ensemble")
    folds(inspect)
    inspect.add_argument("--format", choices=("text", "json"), default="text")
    network(inspect)


def _doctor(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument("--device", type=device, default=Request.device, metavar="auto|cpu|cuda[:N]")
    doctor.add_argument("--stability", action="store_true", help="rate how steady the machine is instead (10 s)")
    doctor.add_argument("--format", choices=("text", "json"), default="text")


def _scenario(scenario: argparse.ArgumentParser) -> None:
    checkpoint(scenario)
    network(scenario)
    scenario.add_argument("--data", type=Path, metavar="DIR", help="cases, as of `bench run` (default: the demo)")
    scenario.add_argument("--demo", choices=DEMOS, default=Request.demo, help="the demo's volumes, as of `bench run`")
    scenario.add_argument("--split", choices=SPLITS, default=Request.split)
    scenario.add_argument("--max-cases", type=whole(1), metavar="N", help="at most N cases, spread over the split")
    scenario.add_argument("--demo-width", type=whole(1), metavar="W", help="widen the demo network")
    one_backend(scenario)
    one_worker(scenario, "cases, in `offline` (2)")
    scenario.add_argument("--scenario", choices=(*SCENARIOS, "all"), default="all")
    scenario.add_argument("--out", type=Path, metavar="FILE.json", help="write what was measured there too")
    scenario.set_defaults(read_ahead=None)  # so that it is seen whether it was given


def _export(export: argparse.ArgumentParser) -> None:
    which_run(export)
    export.add_argument("--variant", metavar="NAME", help="which one (the run's winner)")
    export.add_argument(
        "--format", choices=EXPORTS, default=EXPORTS[0],
        help="a package, which holds everything that a prediction needs, or files that another tool loads (package)",
    )  # fmt: skip
    export.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, a new one")
    export.add_argument(
        "--unproven", action="store_true", help="also where its accuracy was not kept; what is written says so too"
    )
    export.add_argument(
        "--code", action="store_true",
        help="take along also what was built that is code, such as AOTInductor's library",
    )  # fmt: skip
    timeout(export)


def _verify(verify: argparse.ArgumentParser) -> None:
    verify.add_argument("package", type=Path, metavar="PACKAGE", help="folder that `bench export` wrote")
    verify.add_argument("--device", type=device, default=Request.device, metavar="auto|cpu|cuda[:N]")
    verify.add_argument("--threads", type=whole(1), metavar="N", help="CPU threads (one a core)")
    verify.add_argument("--trust", type=Path, metavar="PACKAGE", help="run the built code in it, if it holds any")
    timeout(verify)
    here = verify.add_argument_group("how fast and how accurate it is here, beside the baseline of its run")
    here.add_argument("--data", type=Path, metavar="DIR", help="cases, as of `bench run`")
    here.add_argument("--split", choices=SPLITS, help=f"of them ({Request.split})")
    here.add_argument("--max-cases", type=whole(1), metavar="N", help="at most N cases, spread over the split")
    here.add_argument("--budget", dest="budget_s", type=number(0), metavar="S", help="seconds of rounds (600)")
    here.add_argument("--out", type=Path, metavar="FILE.md", help="write the report there")


def _predict(predict: argparse.ArgumentParser) -> None:
    predict.add_argument("source", type=Path, metavar="SOURCE", help="a run directory, a package, or a checkpoint")
    predict.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT",
        help="images, folders of images, data sets, or JSON files that list cases",
    )  # fmt: skip
    predict.add_argument("--out", type=Path, required=True, metavar="DIR", help="where masks and tables go")
    predict.add_argument("--variant", metavar="NAME", help="of a run (its winner)")
    predict.add_argument("--split", dest="only_split", choices=SPLITS, help="of data sets (all that they have)")
    one_shard(predict, "as one of N independent calls; `bench merge` joins their folders")
    predict.add_argument(
        "--report", type=Path, metavar="FILE.json", help="write versions, hashes, times and cases there"
    )
    one_worker(predict, "cases that are read before their turn, or that a server has at a time (2)")
    predict.add_argument(
        "--url", metavar="grpc://HOST:PORT", help="have a model server predict; SOURCE is the name of its model"
    )
    cluster = predict.add_argument_group("on the nodes of a Ray cluster")
    cluster.add_argument(
        "--ray", metavar="auto|ADDRESS",
        help="spread the cases over this cluster; auto: the one of this machine, or one of the call's own",
    )  # fmt: skip
    cluster.add_argument("--ray-cpus", type=whole(1), metavar="N", help="cores of each actor (as of --threads)")
    of_checkpoint = predict.add_argument_group("of a checkpoint, which does not say how it is run")
    network(of_checkpoint)
    folds(of_checkpoint)
    one_backend(of_checkpoint)
    predict.set_defaults(**dict.fromkeys(OF_CHECKPOINT))  # so that it is seen which were given


def _merge(merge: argparse.ArgumentParser) -> None:
    merge.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="the folder of each shard, all of one kind")
    merge.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write, a new one")
