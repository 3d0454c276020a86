"""Names that would do harm in a shell do none: on the way to Slurm, in a job, in a sweep."""

import pytest

from pipeline.cluster.jobs import read_jobs
from pipeline.store.artifacts import read_stage_record

EVIL = 'it\'s "$(touch pwned)" `touch pwned`; touch pwned & %j #\n$HOME *'


def test_hostile_names_of_folders_files_and_settings_do_no_harm(desk):
    (desk.folder / "pictures").rename(desk.folder / f"pictures {EVIL}")
    quoted = f"pictures {EVIL}".replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    desk.write(2, **{"source: pictures": f'source: "{quoted}"'})
    evil_config = desk.folder / f"{EVIL}.yaml"
    (desk.folder / "tiny.yaml").rename(evil_config)
    comment = 'resources.extra=["--comment=$(touch pwned)"]'
    chosen = (f"--runs=runs {EVIL}", "--stage=shard", f"--set={comment}")
    desk.command("submit", evil_config.name, *chosen)
    run_dir = desk.folder / f"runs {EVIL}" / "tiny"
    job_id = read_jobs(run_dir)["shard"].job_id
    desk.cluster.wait_for_state(job_id, "COMPLETED", "FAILED")
    assert read_stage_record(run_dir / "shard").exit == 0
    assert "done in" in (run_dir / f"slurm/shard-{job_id}.log").read_text()
    assert "up to date" in desk.command("status", evil_config.name, *chosen)
    assert not list(desk.folder.rglob("*pwned"))


def test_a_folder_that_slurm_cannot_log_to_is_refused_before_anything_is_submitted(desk):
    done = desk.attempt("submit", "tiny.yaml", "--runs", "a\\b")
    assert done.returncode == 2
    assert "choose another with --runs" in done.stderr


@pytest.mark.parametrize("partition", ["$(touch pwned)", "x --wrap=touch", "-h"])
def test_a_partition_that_is_none_is_refused_by_slurm_and_by_nothing_else(desk, partition):
    done = desk.attempt("submit", "tiny.yaml", "--set", f'resources.partition="{partition}"')
    assert done.returncode == 2
    assert "error: sbatch refused: " in done.stderr
    assert "invalid partition" in done.stderr
    assert not list(desk.folder.rglob("*pwned"))


@pytest.mark.slow
def test_a_sweep_becomes_a_job_array_and_its_report_has_means_over_seeds(desk):
    desk.write(
        2,
        **{
            "name: tiny": (
                "name: tiny\nmatrix:\n"
                "  seed: {set: stages.train.seed, values: [0, 1]}\n"
                "  loss:\n    rows:\n"
                '      "a $(touch pwned)\\n b": {stages.train.loss.mix: 1}\n'
            ),
            "train: {nodes: 2}": "train: {nodes: 1}",
            "certify: {nodes: 2}": "certify: {nodes: 1}",
        },
    )
    said = desk.command("submit", "tiny.yaml")
    assert said.count("2 members; ") == 4
    train = read_jobs(desk.run_dir)["train"]
    assert train.tasks is not None
    names = [
        f"{base}.{name.partition('.')[2]}" for base in ("train", "certify") for name in train.tasks
    ]
    desk.cluster.wait_for(
        lambda: (desk.run_dir / "report/stage.json").exists() or "FAILED" in _states(desk),
        280,
        "the sweep is done",
    )
    assert (desk.run_dir / "report/stage.json").exists(), desk.logs()
    for name in names:
        assert (desk.run_dir / name / "stage.json").exists()
    seeds = {read_stage_record(desk.run_dir / name).seed for name in names if "train" in name}
    assert seeds == {0, 1}
    page = (desk.run_dir / "report/report.md").read_text()
    assert page.count(" ± ") == 6, "three accuracies of two networks"
    assert not list(desk.folder.rglob("*pwned"))
    # One member is damaged: that task alone is submitted again.
    victim = desk.run_dir / names[1]
    (victim / "stage.json").write_text("{}")
    again = desk.command("submit", "tiny.yaml", "--stage", "train")
    assert "train      job" in again
    assert "1 members" in again
    job = read_jobs(desk.run_dir)["train"]
    assert job.tasks == {names[1]: 1}
    desk.command("cancel", "tiny.yaml")


def _states(desk):
    ids = [job.job_id for job in read_jobs(desk.run_dir).values()]
    return desk.cluster.output(
        "squeue", "--noheader", "--states=all", f"--jobs={','.join(ids)}", "--format=%T"
    )
