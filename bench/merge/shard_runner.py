"""What runs a shard on a node: `bench run --shard` in this process, whose folder goes back as an archive."""

import io
import tarfile
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

from bench import run
from bench.cluster.scratch import scratch
from bench.plan.request import Request
from bench.progress import Unshown
from bench.shard import Shard

FACTORY = f"{__name__}:ShardRunner"


class ShardRunner:
    """Runs shards, one after the other; a `bench.cluster.host.Host` holds it."""

    def run(self, request: Request, shard: Shard, cores: int) -> bytes:
        """Run a shard on so many cores, where `request` names no number of threads; paths in it are whole.

        Returns:
            Its folder as `packed`.

        Raises:
            InputError and its like, BackendLostError: as of `bench.run.run`.
        """
        request = replace(request, shard=shard, threads=request.threads or cores)
        with scratch("voxbench-shard-") as folder, chdir(folder):
            run.run(request, folder / "shard", Unshown())
            return packed(folder / "shard")


def packed(folder: Path) -> bytes:
    """All files of a folder as a gzipped tar archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as archive:
        archive.add(folder, ".")
    return content.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Put the files of an archive of `packed` into a folder; none of them can lie elsewhere."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
