"""Job scripts for SLURM: bash takes them, and what they would run is what the command line takes."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from vpt.cli import parser

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "configs/slurm").glob("*.sbatch"))
# What sbatch takes (man sbatch), of what is used here.
DIRECTIVES = {
    "array", "cpus-per-task", "gpus-per-node", "gpus-per-task", "job-name", "mem", "nodes", "ntasks", "ntasks-per-node",
    "open-mode", "output", "requeue", "time",
}  # fmt: skip
STUBS = {
    "srun": 'printf "%s\\n" "$@"',
    "scontrol": 'test "$1 $2 $3" = "show hostnames node[1-2]" && printf "node1\\nnode2\\n"',
}


@pytest.fixture
def stubs(tmp_path: Path) -> dict[str, str]:
    """An environment as SLURM makes it, with stand-ins for its commands."""
    for name, body in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    of_slurm = {"SLURM_CPUS_PER_TASK": "8", "SLURM_NNODES": "2", "SLURM_GPUS_PER_NODE": "4", "SLURM_JOB_ID": "17"}
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[1-2]", **of_slurm}


@pytest.mark.skipif(os.name == "nt", reason="scripts of bash")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs_a_command_that_there_is(script: Path, stubs: dict[str, str]) -> None:
    lines = script.read_text(encoding="utf-8").splitlines()
    given = [re.match(r"#SBATCH --([a-z-]+)", line) for line in lines if line.startswith("#SBATCH")]
    assert given
    assert {match[1] for match in given if match} <= DIRECTIVES
    # sbatch reads no directive behind the first command.
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[first:])

    command = ["bash", str(script), "own_images", "out=runs/with a space"]
    done = subprocess.run(command, env=stubs, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    start = words.index("vpt")
    taken, rest = parser().parse_known_args(words[start + 1 :])
    assert taken.config == "own_images"
    assert all("=" in word for word in rest)
    assert "out=runs/with a space" in [*taken.overrides, *rest]
    assert getattr(taken, "resume", True)


@pytest.mark.skipif(os.name == "nt", reason="scripts of bash")
def test_machines_meet_at_the_first_of_them(stubs: dict[str, str]) -> None:
    command = ["bash", str(ROOT / "configs/slurm/machines.sbatch"), "own_images"]
    words = subprocess.run(command, env=stubs, capture_output=True, text=True, check=True).stdout.splitlines()
    assert words[0] == "torchrun"
    assert {"--nnodes=2", "--nproc_per_node=4", "--rdzv_endpoint=node1:29500", "--rdzv_id=17"} <= set(words)
