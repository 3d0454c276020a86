"""A training job that is moved, or loses a node or its time, ends with the very same network."""

import os
import signal
import subprocess

import pytest

EPOCHS = 150
"""Several seconds of steps: long enough to be interrupted in the middle."""


@pytest.fixture(scope="module")
def uninterrupted(make_desk):
    """The network's bytes after a run that nothing disturbs."""
    desk = make_desk()
    desk.write(EPOCHS)
    desk.command("run", "tiny.yaml", "--ranks", "2", "--stage", "shard", "--stage", "train")
    return (desk.run_dir / "train/network.safetensors").read_bytes()


@pytest.fixture
def training(desk):
    """The desk, with a job that trains and has its first checkpoints behind it."""

    def start(*flags, options=()):
        desk.write(EPOCHS)
        chosen = ("--stage", "shard", "--stage", "train", *options)
        desk.command("submit", "tiny.yaml", *chosen, "--", *flags)
        desk.wait_for_checkpoint(after=0)
        return desk

    return start


def check_same_network(desk, uninterrupted):
    desk.wait_until_done("train", timeout_s=150)
    assert (desk.run_dir / "train/network.safetensors").read_bytes() == uninterrupted
    log = desk.log("train")
    assert "start 2" in log
    assert "going on from the checkpoint" in log


def workers(desk):
    """The processes of the ranks that train."""
    folder = desk.run_dir.relative_to(desk.folder)
    command = ["pgrep", "-f", f"^[^ ]*python[^ ]* -m pipeline.execution.worker {folder}/"]
    found = subprocess.run(command, capture_output=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


@pytest.mark.slow
def test_a_requeued_job_stops_with_a_checkpoint_and_goes_on(training, uninterrupted):
    desk = training()
    desk.cluster.output("scontrol", "requeue", desk.job_id("train"))
    check_same_network(desk, uninterrupted)
    assert "its ranks were asked to stop" in desk.log("train") or "asked to stop" in desk.log(
        "train"
    )


@pytest.mark.slow
def test_a_job_goes_on_when_a_node_is_lost(training, uninterrupted):
    desk = training()
    desk.cluster.kill_node("n2")
    desk.cluster.wait_for(
        lambda: desk.cluster.job(desk.job_id("train"))["Restarts"] == "1", 60, "requeued"
    )
    desk.cluster.start_node("n2")
    check_same_network(desk, uninterrupted)


@pytest.mark.slow
def test_a_job_near_its_time_limit_requeues_itself(training, uninterrupted):
    desk = training("--time=1", "--signal=B:USR1@10")
    for pid in workers(desk):  # Slurm looks at limits twice a minute; steps must not run out before
        os.kill(pid, signal.SIGSTOP)
    desk.cluster.wait_for(lambda: "SIGUSR1" in desk.log("train"), 70, "Slurm warns the job")
    for pid in workers(desk):
        os.kill(pid, signal.SIGCONT)
    check_same_network(desk, uninterrupted)
    assert "SIGUSR1: asking the ranks to stop" in desk.log("train")
    assert "requeued: it goes on where it stopped" in desk.log("train")


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--force",)], ids=str)
def test_a_job_requeues_itself_after_a_crash_that_followed_progress(
    training, uninterrupted, options
):
    desk = training(options=options)
    os.kill(workers(desk)[-1], signal.SIGKILL)
    check_same_network(desk, uninterrupted)
    assert "requeued: it goes on where it stopped" in desk.log("train")
