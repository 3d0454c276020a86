import pytest

from pipeline.monitor.formatting import bytes_text, duration_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (0.4242, "0.42 s"),
        (9.999, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (86399, "1 d 00 h"),
        (183600, "2 d 03 h"),
    ],
)
def test_a_duration_is_written_as_people_read_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_960, "10 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (54_900_000, "55 MB"),
        (7 * 10**15, "7000 TB"),
    ],
)
def test_a_size_is_written_as_people_read_it(size: int, text: str) -> None:
    assert bytes_text(size) == text
