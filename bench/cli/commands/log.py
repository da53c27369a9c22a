"""`bench log`."""

from argparse import Namespace

from bench.cli.exit_codes import DONE
from bench.schedule.run_directory import LATEST
from bench.trackers import mlflow_store, wandb_offline
from bench.trackers.documents import documents
from reports.records.store import read_run
from reports.render.exchange.tracking import tracked
from reports.summary.summarise import summarise


def execute(options: Namespace) -> int:
    run = read_run(options.run or LATEST)
    summary = summarise(run)
    kept, files = tracked(run, summary), documents(run, summary)
    if options.tracker == "mlflow":
        where = mlflow_store.log(
            kept, files, uri=options.uri, experiment=options.experiment, again=options.again
        )  # fmt: skip
    else:
        where = wandb_offline.log(
            kept, files, folder=options.out, project=options.project, again=options.again
        )  # fmt: skip
    print(where)
    return DONE
