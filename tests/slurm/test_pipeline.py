"""The whole chain on a real cluster, submitted with one command."""

from pipeline.store.artifacts import read_stage_record

STAGES = ("shard", "train", "prune", "certify", "certify_pruned", "report")


def states(listing):
    """Stage -> its line in a table of `status`."""
    return {line.split()[0]: line for line in listing.splitlines()[2:]}


def test_one_command_submits_every_stage_and_ends_in_a_report(desk):
    desk.write(200)
    said = desk.command("submit", "tiny.yaml").splitlines()
    assert [line.split()[:2] for line in said] == [[stage, "job"] for stage in STAGES]
    waiting = states(desk.command("status", "tiny.yaml"))
    assert "waits (Dependency)" in waiting["report"]
    again = desk.command("submit", "tiny.yaml").splitlines()
    assert [line.split()[2] for line in again] == [line.split()[2].rstrip(":") for line in said]

    seen = set()

    def is_training():
        line = states(desk.command("status", "tiny.yaml"))["train"]
        seen.add(line)
        return "steps" in line

    desk.cluster.wait_for(is_training, 120, "the table shows how far training is")
    line = next(line for line in seen if "steps" in line)
    assert "running on n[1-2]" in line
    assert "val clean" in line
    desk.wait_until_done(*STAGES)
    ranks = [read_stage_record(desk.run_dir / stage).num_ranks for stage in STAGES]
    assert ranks == [1, 2, 1, 2, 1, 1]
    assert "certified" in (desk.run_dir / "report/index.html").read_text()
    assert "job" not in desk.command("status", "tiny.yaml").splitlines()[1]
    assert desk.command("submit", "tiny.yaml").count("up to date") == 6


def test_a_failed_stage_cancels_what_follows_and_is_not_requeued(desk):
    desk.write(40, **{"batch_size: 30": "batch_size: 400"})
    desk.command("submit", "tiny.yaml")
    certify, report = desk.job_id("certify"), desk.job_id("report")
    desk.cluster.wait_for_state(desk.job_id("train"), "FAILED")
    desk.cluster.wait_for_state(certify, "CANCELLED")
    desk.cluster.wait_for_state(report, "CANCELLED")
    log = (desk.run_dir / f"slurm/train-{desk.job_id('train')}.log").read_text()
    assert "batch_size is 400, but the split has only 150 images" in log
    assert "it got no further in this start: broken, not requeued" in log
    assert desk.cluster.job(desk.job_id("train"))["Restarts"] == "0"
    table = states(desk.command("status", "tiny.yaml"))
    assert "incomplete" in table["train"]


def test_cancel_ends_what_waits_and_what_runs(desk):
    desk.write(400)
    desk.command("submit", "tiny.yaml")
    desk.cluster.wait_for_state(desk.job_id("train"), "RUNNING")
    said = desk.command("cancel", "tiny.yaml").splitlines()
    assert [line.split()[0] for line in said] == list(STAGES[1:])
    for stage in STAGES[1:]:
        desk.cluster.wait_for_state(desk.job_id(stage), "CANCELLED")
    assert desk.command("cancel", "tiny.yaml") == ""
    assert (
        desk.command("submit", "tiny.yaml", "--stage", "train")
        .splitlines()[1]
        .startswith(f"train      job {int(desk.job_id('train'))}")
    )
    desk.command("cancel", "tiny.yaml")


def test_a_template_runs_by_hand_and_flags_typed_by_hand_win(desk):
    script = str(desk.root / "slurm/shard.sh")
    typed = (
        "env",
        f"SUPNORM_HOME={desk.root}",
        "sbatch",
        "--parsable",
        "--wait",
        "--time=3",
        script,
    )
    job_id = desk.command("tiny.yaml", program=typed).strip()
    assert (desk.run_dir / "shard/stage.json").exists()
    assert desk.cluster.job(job_id)["TimeLimit"] == "00:03:00"
    chain = ("bash", str(desk.root / "slurm/pipeline.sh"))
    desk.command("tiny.yaml", "--", "--time=7", "--hold", "--nodes=1", program=chain)
    train = desk.cluster.job(desk.job_id("train"))
    assert (train["TimeLimit"], train["NumNodes"][0], train["Priority"]) == ("00:07:00", "1", "0")
    desk.command("cancel", "tiny.yaml")
