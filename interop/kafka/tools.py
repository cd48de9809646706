"""Apache Kafka's own reader of log files, as a judge of what another broker wrote."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from interop.kafka import jars

_TIMEOUT_S = 120

# What DumpLogSegments prints about damage. It exits with 0 all the same.
_PROBLEMS = re.compile(
    r"isvalid: false|mismatch|non-consecutive|non-zero|out of order|invalid bytes|could not|corrupt"
    r"|\w+(?:Exception|Error):",
    re.IGNORECASE,
)
# The summary of files with gaps between offsets: normal after compaction.
_GAPS = "Non-consecutive offsets in"
_FROM_NOWHERE = re.compile(r"^Non-consecutive offsets in .*\n +-1 is followed by \d+\n(?! )", re.MULTILINE)
# What follows is the user's and may say anything.
_DATA = re.compile(r" headerKeys: | key: | payload: ")


class Dump(NamedTuple):
    """What the tool printed, its exit status, and the lines that report something wrong."""

    output: str
    exit_status: int
    problems: list[str]


def find_problems(output: str) -> list[str]:
    """The lines of DumpLogSegments' output that say that something is wrong with a file.

    Record lines are judged by what stands before their payload, so that a payload cannot look like a problem.
    """
    # Of a segment that does not begin at offset 0 the tool says "-1 is followed by" its base offset.
    found = _FROM_NOWHERE.sub("", output)
    return [line for line in found.splitlines() if _PROBLEMS.search(_DATA.split(line)[0])]


def dump_log(
    *files: Path,
    print_data: bool = True,
    deep: bool = True,
    offsets_decoder: bool = False,
    compacted: bool | None = None,
) -> Dump:
    """Dumps segment, index, time index, or producer-snapshot files.

    ``deep`` walks the records inside batches (and so decompresses them), ``print_data`` prints them,
    ``offsets_decoder`` reads them as ``__consumer_offsets``. Offsets that are not consecutive are a problem
    unless the files are ``compacted``, which those of the offsets topic are unless said otherwise. Raises
    MissingToolError without Java or jars."""
    options = ["--print-data-log"] if print_data else []
    options += ["--deep-iteration"] if deep else []
    options += ["--offsets-decoder"] if offsets_decoder else []
    dump = _run(files, options)
    if compacted or (compacted is None and offsets_decoder):
        dump = dump._replace(problems=[line for line in dump.problems if not line.startswith(_GAPS)])
    return dump


def verify_index(*files: Path) -> Dump:
    """Compares ``.index`` and ``.timeindex`` files with their segments, entry by entry, printing nothing
    else."""
    return _run(files, ["--verify-index-only"])


def check_index_sanity(*files: Path) -> Dump:
    """The check that a broker makes on an index when it opens it."""
    return _run(files, ["--index-sanity-check"])


def _run(files: Sequence[Path], options: Sequence[str]) -> Dump:
    assert files, "nothing to dump"
    command = [jars.find_tool("java"), "-XX:TieredStopAtLevel=1", "-cp", jars.classpath(jars.find_libs())]
    command += [
        "org.apache.kafka.tools.DumpLogSegments",
        *options,
        "--files",
        ",".join(str(file) for file in files),
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_TIMEOUT_S, check=False
    )
    problems = find_problems(done.stdout)
    if done.returncode != 0 and not problems:
        problems = [f"exit status {done.returncode}"]
    return Dump(done.stdout, done.returncode, problems)
