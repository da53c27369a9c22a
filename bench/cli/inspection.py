"""`bench inspect`, and the options that say how a network is read."""

import json
from argparse import Namespace

from bench.cli.exit_codes import DONE
from bench.plan.request import model_options
from models.inspection import describe, inspect


def execute(options: Namespace) -> int:
    info = inspect(options.file, model_options(options))
    print(json.dumps(info, indent=2) if options.format == "json" else describe(info))
    return DONE
