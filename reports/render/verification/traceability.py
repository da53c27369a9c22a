"""What the result rests on: hashes, versions, the machine."""

from collections.abc import Iterator

from reports import formatting
from reports.records.record import HostRecord
from reports.render.commonmark import section, text, words
from reports.render.sections.provenance import commands
from reports.render.verification.tested import NOT_STATED
from reports.summary.summary import Summary


def traceability_section(title: str, summary: Summary) -> str:
    """Everything by which the run is known, and can be repeated."""
    record = summary.record
    hashes = words(["SHA-256 of", ""], [[name, _hash(value)] for name, value in _hashes(summary)])
    package = (
        "A package that is exported from this run names it in its `package.json`: by its name, and by the hash of its "
        "`run.json` as above."
    )
    run = words(
        ["run", ""],
        [
            ["name", text(record.id)],
            ["started", text(record.created)],
            ["state", text(record.status)],
            ["resumed in between", NOT_STATED],
        ],
    )
    command = f"```sh\n{commands(record)}\n```"
    hosts = [(f"machine of shard {shard.number}", shard.host) for shard in record.shards] or [("machine", record.host)]
    machines = [words([name, ""], [list(fact) for fact in _machine(host)]) for name, host in hosts]
    versions = words(["software", "version"], [[text(n), text(v)] for n, v in record.versions.items()])
    return section(title, hashes, package, run, command, *machines, versions)


def _hashes(summary: Summary) -> Iterator[tuple[str, str]]:
    record = summary.record
    yield "the run's record (`run.json`)", summary.run.sha256
    yield "the network's file", record.checkpoint.sha256
    yield "its weights as they are run", record.checkpoint.weights_sha256
    for number, member in enumerate(record.checkpoint.members, 2):
        yield f"weights of member {number} of the ensemble", member
    if record.checkpoint.code:
        yield "the code that builds it", record.checkpoint.code
    yield "the cases' files", record.data.sha256
    if record.settings.plan_sha256:
        yield "the plan", record.settings.plan_sha256


def _hash(value: str) -> str:
    return f"`{value}`" if value else NOT_STATED


def _machine(host: HostRecord) -> Iterator[tuple[str, str]]:
    for name, value in host.known().items():
        shown = formatting.mebibytes(value) if name.endswith("_bytes") else text(value)
        yield text(name.removesuffix("_bytes").replace("_", " ")), shown
