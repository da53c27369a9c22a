"""`bench export`."""

import sys
from argparse import Namespace

from bench.choices import EXPORTS
from bench.cli.exit_codes import DONE
from bench.cli.terminal import progress
from bench.package.conversion import convert
from bench.package.export import Wanted, export
from bench.package.formats.description import FILE
from bench.package.proof import unproven
from bench.schedule.run_directory import LATEST
from reports.formatting import command_line, count


def execute(options: Namespace) -> int:
    wanted = Wanted(variant=options.variant, unproven=options.unproven, code=options.code, timeout_s=options.timeout_s)
    if options.format != EXPORTS[0]:
        return _convert(options, wanted)
    with progress(sys.stderr) as shown:
        record = export(options.run or LATEST, wanted, options.out, shown)
    print(f"{options.out}: {record.variant} ({record.settings}), {count(len(record.files), 'file')}")
    print(f"  {record.proof.headline}")
    for line in (unproven(record), *(_built_anew(kind) for kind in record.left_out)):
        if line is not None:
            print(f"  {line}")
    if not record.proof.equal_cases:
        print("  the run's predictions are gone: no case of it was predicted again")
    print(f"to try it where it will run: {command_line('bench', 'verify', options.out)}")
    return DONE


def _convert(options: Namespace, wanted: Wanted) -> int:
    with progress(sys.stderr) as shown:
        said = convert(options.run or LATEST, wanted, options.format, options.out, shown)
    print(f"{options.out}: {said['variant']} ({said['settings']}) as {options.format}: {', '.join(said['networks'])}")
    print(f"  {said['proof']['headline']}")
    if not said["proof"]["proven"]:
        print(f"  UNPROVEN: its accuracy was {said['proof']['accuracy']} in the run {said['proof']['run']}")
    for remark in said["remarks"]:
        print(f"  {remark}")
    print(f"how it is used: {options.out / FILE}")
    return DONE


def _built_anew(kind: str) -> str:
    return f"{kind} is code and was left out (--code takes it along); it is built anew where the package runs"
