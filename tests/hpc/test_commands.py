"""What Slurm says against a wish: a refusal, or a controller that is only just coming back."""

import pytest

from hpc.slurm.commands import is_refusal


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Requested operation is presently disabled for job 7", True),
        ("Job violates accounting/QOS policy", True),
        ("Invalid job id specified", True),
        ("Access/permission denied", True),
        ("[Errno 2] No such file or directory: 'scontrol'", True),
        ("Unable to contact slurm controller (connect failure)", False),
        ("slurm_load_jobs error: Socket timed out on send/recv operation", False),
        ("Unexpected message received for job 14", False),
        ("Zero Bytes were transmitted or received", False),
        ("Slurm backup controller in standby mode", False),
        ("Munge encode failed: Invalid credential", False),
    ],
)
def test_only_what_slurm_will_never_do_is_a_refusal(said: str, meant: bool) -> None:
    assert is_refusal(said) == meant
